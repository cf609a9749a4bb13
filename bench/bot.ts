import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { startBot } from '../bot/main.ts';
import { signWebhook } from '../bot/signature.ts';
import { packageRoot } from '../src/exec/root.ts';
import { openDatabase } from '../src/index.ts';
import type { WorldEvent } from '../src/sandbox/state.ts';
import { openSoakProject } from '../test/bot/soak/project.ts';
import { benchReport } from './bot-report.ts';
import type { Row } from './row.ts';

const perSecond = 200;
const seconds = Number(process.env.CDL_BENCH_SECONDS ?? 60);
/** Comments, pushes, pipelines. */
const kinds = 3;
/** Of the project, all of which are commented upon. */
const changes = 50;
const token = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const signingKey = generateKeyPairSync('ed25519')
  .privateKey.export({ type: 'pkcs8', format: 'pem' })
  .toString();

/** `looks`: how often the comments of each change were asked for by now. */
async function startEmptyForge(): Promise<{
  url: string;
  looks(): Promise<ReadonlyMap<number, number>>;
  close(): Promise<unknown>;
}> {
  const thread = new Worker(join(packageRoot(), 'dist', 'bench', 'bot-forge.js'));
  const [url] = (await once(thread, 'message')) as [string];
  const looks = async () => {
    const told = once(thread, 'message');
    thread.postMessage('looks');
    return ((await told) as [Map<number, number>])[0];
  };
  return { url, looks, close: () => thread.terminate() };
}

async function startProgram(folder: string, forge: string): Promise<{ child: ChildProcess; url: string }> {
  const child = spawn(process.execPath, [join(packageRoot(), 'bin', 'cdl.js'), 'bot'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      PATH: process.env.PATH ?? '',
      HOME: folder,
      CDL_GITLAB_URL: forge,
      CDL_PROJECT: 'acme/fashion',
      CDL_BOT_TOKEN: 'glpat-bench',
      CDL_SIGNING_TOKEN: token,
      CDL_SIGNING_KEY: signingKey,
      CDL_WORK_STORE: `file://${folder}/work`,
      CDL_TRUSTED_STORE: `file://${folder}/trusted`,
      CDL_BOT_FOLDER: join(folder, 'bot'),
      CDL_BOT_PORT: '0',
      CDL_RECONCILE_SECONDS: '86400',
    },
  });
  for await (const line of createInterface({ input: child.stdout! })) {
    const said: unknown = JSON.parse(line);
    if (said && typeof said === 'object' && 'url' in said && typeof said.url === 'string') {
      child.stdout!.resume();
      return { child, url: said.url };
    }
  }
  throw new Error('the bot did not start');
}

/** What a counter of /metrics says; 0 when it was never counted. */
async function counter(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split('\n').find((one) => one.startsWith(`${name} `));
  return line ? Number(line.slice(name.length + 1)) : 0;
}

/**
 * What a delivery says: comments, pushes and ended pipelines by turns. Half of the pushes and pipelines are of the default
 * branch. Each branch task would look at an empty forge; they replace each other in the queue, comments do not.
 */
function eventOf(number: number): object {
  const project = { path_with_namespace: 'acme/fashion' };
  const branch = Math.floor(number / kinds) % 2 === 0 ? 'main' : `exp/${number % 50}`;
  const sha = number.toString(16).padStart(40, '0');
  switch (number % kinds) {
    case 0:
      return {
        object_kind: 'note',
        project,
        object_attributes: { id: number, noteable_type: 'MergeRequest', action: 'create' },
        merge_request: { iid: changeOf(number) },
      };
    case 1:
      return { object_kind: 'push', project, ref: `refs/heads/${branch}`, after: sha };
    default:
      return {
        object_kind: 'pipeline',
        project,
        object_attributes: { ref: branch, sha, status: 'success' },
      };
  }
}

const changeOf = (number: number): number => 1 + (number % changes);

/** How many of the first `sent` deliveries are comments on a change. */
const commentsOn = (change: number, sent: number): number =>
  Array.from({ length: Math.floor(sent / kinds) }, (_, at) => (at + 1) * kinds).filter(
    (number) => changeOf(number) === change,
  ).length;

/** Milliseconds to the answer of each delivery, sent at an even pace whether or not earlier ones were answered. */
async function load(url: string): Promise<{ times: number[]; sent: number; repeated: number }> {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  const { hostname, port } = new URL(url);
  const times: number[] = [];
  const send = (number: number, id: string) =>
    new Promise<void>((resolve, reject) => {
      const body = Buffer.from(JSON.stringify(eventOf(number)));
      const timestamp = String(Math.floor(Date.now() / 1000));
      const headers = {
        'content-type': 'application/json',
        'content-length': body.length,
        'webhook-id': id,
        'webhook-timestamp': timestamp,
        'webhook-signature': signWebhook(token, id, timestamp, body),
      };
      const start = performance.now();
      const outgoing = request(
        { agent, hostname, port, path: '/webhooks/gitlab', method: 'POST', headers },
        (answer) => {
          answer.resume().on('end', () => {
            times.push(performance.now() - start);
            if ((answer.statusCode ?? 500) < 300) resolve();
            else reject(new Error(`answered ${answer.statusCode}`));
          });
        },
      );
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  const pending: Promise<void>[] = [];
  const total = perSecond * seconds;
  const begin = performance.now();
  let repeated = 0;
  for (let number = 0; number < total; number++) {
    const due = begin + (number * 1000) / perSecond;
    if (due > performance.now()) await wait(due - performance.now());
    const id = `delivery-${number}`;
    const first = send(number + 1, id);
    pending.push(first);
    // Now and then a delivery comes again, after it was answered.
    if (number % 50 === 0) {
      repeated++;
      pending.push(first.then(() => send(number + 1, id)));
    }
  }
  await Promise.all(pending);
  agent.destroy();
  return { times, sent: total, repeated };
}

const quantile = (values: number[], q: number) =>
  values.sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))]!;

/** Deliveries alone. */
export async function benchWebhooks(): Promise<Row[]> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-bench-bot-'));
  const forge = await startEmptyForge();
  const { child, url } = await startProgram(folder, forge.url);
  try {
    const { times, sent, repeated } = await load(url);
    const done = 'cdl_bot_tasks_total{kind="comment",outcome="done"}';
    // A comment each is a task of its own; tasks of one branch that wait are one.
    const comments = Math.floor(sent / kinds);
    // What is tried again is of branches, of which this forge has none.
    const left = async () =>
      (await counter(url, 'cdl_bot_queue_tasks{state="waiting"}')) +
      (await counter(url, 'cdl_bot_queue_tasks{state="running"}'));
    for (let at = 0; at < 1200 && (await left()) > 0; at++) await wait(100);
    const looks = await forge.looks();
    const unlike = Array.from({ length: changes }, (_, at) => at + 1).filter(
      (change) => (looks.get(change) ?? 0) !== commentsOn(change, sent),
    );
    const count = {
      queued: await counter(url, 'cdl_bot_deliveries_total{outcome="queued"}'),
      repeated: await counter(url, 'cdl_bot_deliveries_total{outcome="repeated"}'),
      done: await counter(url, done),
      unlike: unlike.length,
    };
    const wanted = { queued: sent, repeated, done: comments, unlike: 0 };
    if (JSON.stringify(count) !== JSON.stringify(wanted)) {
      throw new Error(`${JSON.stringify(wanted)} was to be counted, but ${JSON.stringify(count)}`);
    }
    const what = `webhook acknowledged (comments, pushes, pipelines), ${perSecond}/s for ${seconds} s`;
    const row = (name: string, value: number, goal: number | null): Row => ({
      name,
      value,
      unit: 'ms',
      baseline: goal,
      ratio: goal === null ? null : value / goal,
    });
    return [
      row(`${what}: median`, quantile(times, 0.5), null),
      row(`${what}: 99 of 100, beside the goal`, quantile(times, 0.99), 20),
      row(`${what}: slowest`, quantile(times, 1), null),
      {
        name: `comments handled once each, of ${comments} (of all deliveries ${repeated} came twice)`,
        value: count.done,
        unit: 'tasks',
        baseline: comments,
        ratio: count.done / comments,
      },
    ];
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
    await forge.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** How long people wait for the report after a pipeline ended: sandbox, local stores, everything in one process. */
export async function benchReaction(): Promise<Row[]> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-bench-bot-'));
  const database = await openDatabase({ url: null, folder: join(folder, 'database') });
  const soak = await openSoakProject(1);
  const { sandbox, people, project } = soak;
  const bot = await startBot({
    forge: {
      kind: 'gitlab',
      url: sandbox.url,
      token: people['cdl-bot'].token,
      evaluationToken: people['cdl-evaluator'].token,
      webhookSecret: null,
      signingToken: token,
    },
    projects: [soak.path],
    signingKey,
    trustedKeys: new Map(),
    stores: {
      work: { url: `file://${join(soak.folder, 'work')}`, credentials: null },
      trusted: { url: `file://${join(soak.folder, 'trusted')}`, credentials: null },
    },
    database: database.url,
    folder: join(folder, 'bot'),
    host: '127.0.0.1',
    port: 0,
    publicUrl: null,
    reconcileSeconds: 86_400,
    driftHours: 24,
    path: process.env.PATH ?? '',
    ca: null,
    log: 'silent',
  });
  /** Resolves when something holds, looked at after each event of the forge. */
  const until = (holds: () => boolean) =>
    new Promise<void>((resolve) => {
      const look = (_event?: WorldEvent) => {
        if (!holds()) return;
        sandbox.world.events.off('event', look);
        resolve();
      };
      sandbox.world.events.on('event', look);
      look();
    });
  try {
    await soak.api('olga', 'POST', 'hooks', {
      url: `${bot.url}/webhooks/gitlab`,
      signing_token: token,
      push_events: true,
      merge_requests_events: true,
      note_events: true,
      pipeline_events: true,
    });
    const times: number[] = [];
    for (let round = 0; round < 9; round++) {
      const branch = `bench-${round}`;
      await soak.api('ada', 'POST', 'repository/commits', {
        branch,
        start_branch: 'main',
        commit_message: 'better',
        actions: [{ action: 'create', file_path: `parts/${branch}.ts`, content: `// 90 ${branch}\n` }],
      });
      const { iid } = await soak.api<{ iid: number }>('ada', 'POST', 'merge_requests', {
        source_branch: branch,
        target_branch: 'main',
        title: 'Better',
      });
      await until(() => soak.running.some((one) => one.mergeRequestIid === iid));
      await soak.finish(soak.running.find((one) => one.mergeRequestIid === iid)!, 'success');
      await until(() => soak.running.some((one) => one.inputs.cdl_change === String(iid)));
      const start = performance.now();
      await soak.finish(soak.running.find((one) => one.inputs.cdl_change === String(iid))!, 'success');
      const notes = () => project.mergeRequests.get(iid)!.notes;
      await until(() => notes().some((note) => /\/approve [0-9a-f]{12}/.test(note.body)));
      times.push(performance.now() - start);
    }
    const row = (name: string, value: number): Row => ({
      name,
      value,
      unit: 'ms',
      baseline: 1000,
      ratio: value / 1000,
    });
    return [
      row('evaluation ended → report says so: median, beside the goal', quantile(times, 0.5)),
      row('evaluation ended → report says so: slowest of 9', quantile(times, 1)),
    ];
  } finally {
    await bot.close();
    await soak.close();
    await database.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** The bot: webhooks taken in, the wait for a report, and `cdl report` beside CML. */
export async function benchBot(): Promise<Row[]> {
  return [...(await benchWebhooks()), ...(await benchReaction()), ...(await benchReport())];
}
