import { generateKeyPairSync } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { expect } from 'vitest';
import { type RunningBot, startBot } from '../../../bot/main.ts';
import { taskName } from '../../../bot/work.ts';
import { type Database, keyId, readChain } from '../../../src/index.ts';
import {
  createDice,
  type Dice,
  type Fault,
  type FaultProxy,
  startFaultProxy,
  startMangler,
} from './chaos.ts';
import { expectedOf } from './oracle.ts';
import { createPlay, type Play } from './play.ts';
import { openSoakProject, type SoakProject } from './project.ts';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const signingKey = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const keys = new Map([[keyId(publicKey), publicKey]]);
const token = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;

/** How many changes of a project are open at once. */
const mostOpen = 4;

/** What happened in a soak. */
export interface SoakResult {
  changes: number;
  merged: number;
  approved: number;
  closed: number;
  /** Commands that people gave. */
  comments: number;
  /** Requests of the bots that went wrong. */
  faults: number;
  restarts: number;
  /** Deliveries that the forge made. */
  events: number;
  webhooks: Record<string, number>;
}

/** One of the two bots, with what stands between it and the forge. */
interface Replica {
  bot: RunningBot;
  proxy: FaultProxy;
}

/** A fault a forge has now and then; none that says no for good. */
function faultOf(dice: Dice): Fault {
  return dice.pick<Fault>([
    { kind: 'status', status: 500 },
    { kind: 'status', status: 503, headers: { 'retry-after': '0' } },
    { kind: 'status', status: 429, headers: { 'retry-after': '0' } },
    { kind: 'half' },
    { kind: 'lost' },
    { kind: 'refused' },
  ]);
}

/** Runs people, forge and two bots on one database against each other, until all is said and done, and looks at the end. */
export async function soak(database: Database, seed: number, size: number): Promise<SoakResult> {
  const dice = createDice(seed);
  const required = dice.pick([1, 2]);
  const project = await openSoakProject(required);
  const replicas: Replica[] = [];
  const chaos = createDice(seed + 1);
  let calm = false;
  let faults = 0;
  let lostStarts = 0;
  let restarts = 0;
  const start = async (index: number): Promise<Replica> => {
    const proxy = await startFaultProxy(project.sandbox.url);
    proxy.fault = ({ method, path }) => {
      if (calm || !path.startsWith('/api/') || !chaos.chance(0.01)) return null;
      faults++;
      const fault = faultOf(chaos);
      const started = method === 'POST' && path.endsWith('/pipeline');
      if (started && (fault.kind === 'lost' || fault.kind === 'half')) lostStarts++;
      return fault;
    };
    const bot = await startBot({
      forge: {
        kind: 'gitlab',
        url: proxy.url,
        token: project.people['cdl-bot'].token,
        evaluationToken: project.people['cdl-evaluator'].token,
        webhookSecret: null,
        signingToken: token,
      },
      projects: [project.path],
      signingKey,
      trustedKeys: new Map(),
      stores: {
        work: { url: `file://${join(project.folder, 'work')}`, credentials: null },
        trusted: { url: `file://${join(project.folder, 'trusted')}`, credentials: null },
      },
      database: database.url,
      folder: join(project.folder, `bot-${index}`),
      host: '127.0.0.1',
      port: 0,
      publicUrl: null,
      reconcileSeconds: 3600,
      driftHours: 24,
      path: process.env.PATH ?? '',
      ca: null,
      log: 'silent',
    });
    return { bot, proxy };
  };
  const stop = async ({ bot, proxy }: Replica) => {
    await bot.close();
    await proxy.close();
  };
  const idle = async () => {
    const args = [taskName(project.path)];
    const busy =
      'select 1 from graphile_worker.jobs where task_identifier = $1 and attempts < max_attempts limit 1';
    // What failed is tried again after a pause, of which there is nothing to be learnt here.
    const hurry = `update graphile_worker._private_jobs as jobs set run_at = now()
      from graphile_worker._private_tasks as tasks
      where tasks.id = jobs.task_id and tasks.identifier = $1 and locked_at is null and run_at > now()`;
    // The queue tells nobody when it is empty.
    while ((await database.query(busy, args)).length > 0) {
      await database.query(hurry, args);
      await wait(50);
    }
  };
  const mangler = await startMangler(chaos, () => chaos.pick(replicas).bot.url);
  try {
    replicas.push(...(await Promise.all([0, 1].map(start))));
    await project.api('olga', 'POST', 'hooks', {
      url: mangler.url,
      signing_token: token,
      push_events: true,
      merge_requests_events: true,
      note_events: true,
      pipeline_events: true,
    });
    const play = createPlay(project, dice, required);
    /** People are slower than machines: they wait until there is something to look at. */
    const lookUp = async () => {
      for (let round = 0; round < 3; round++) {
        await play.finishAll();
        await project.sandbox.settled();
        // Every minute, where this is a moment.
        if (dice.chance(0.5)) await dice.pick(replicas).bot.reconcile();
        await idle();
        play.notice();
        if (project.running.length === 0) return;
      }
    };
    for (let step = 0; step < size * 6 || play.changes.length < size; step++) {
      const hasRoom = play.open.length < mostOpen || step > size * 6;
      if (play.changes.length < size && hasRoom && dice.chance(0.3)) await play.propose();
      else await play.act();
      play.notice();
      // Approvals, then perhaps the merge they were for.
      for (let round = dice.chance(0.12) ? 3 : 0; round > 0; round--) {
        await lookUp();
        await play.review();
      }
      if (dice.chance(0.1)) await mangler.flush();
      if (dice.chance(0.02)) await dice.pick(replicas).bot.reconcile();
      if (dice.chance(1 / 150)) {
        const at = dice.below(2);
        restarts++;
        await stop(replicas[at]!);
        replicas[at] = await start(at);
      }
    }
    calm = true;
    mangler.calm = true;
    await mangler.flush(true);
    for (let quiet = 0; quiet < 2; ) {
      await project.sandbox.settled();
      await replicas[0]!.bot.reconcile();
      await idle();
      play.notice();
      quiet = project.running.length === 0 ? quiet + 1 : 0;
      for (const pipeline of [...project.running]) await project.finish(pipeline, 'success');
    }
    const found = await examine(project, play, lostStarts);
    // Nothing is left to do: looking again writes nothing.
    const before = replicas.map(({ proxy }) => proxy.requests.length);
    const bodies = () =>
      new Map(
        play.changes.flatMap((change) => play.mr(change).notes.map((note) => [note.id, note.body] as const)),
      );
    const said = bodies();
    await replicas[1]!.bot.reconcile();
    await idle();
    const writes = replicas.flatMap(({ proxy }, at) =>
      proxy.requests.slice(before[at]).filter((one) => one.method !== 'GET' && one.path.startsWith('/api/')),
    );
    const unlike = [...bodies()].flatMap(([id, body]) => {
      const [old, now] = [(said.get(id) ?? '').split('\n'), body.split('\n')];
      return now.flatMap((line, at) => (line === old[at] ? [] : [`-${old[at]}`, `+${line}`]));
    });
    expect({ writes, unlike }).toEqual({ writes: [], unlike: [] });
    expect(project.sandbox.violations).toEqual([]);
    expect(project.sandbox.problems).toEqual([]);
    const { lost, doubled, late, prompt } = mangler.counts;
    return { ...found, faults, restarts, events: lost + doubled + late + prompt, webhooks: mangler.counts };
  } finally {
    calm = true;
    for (const replica of replicas) await stop(replica);
    await mangler.close();
    await project.close();
  }
}

/** Compares everything that can be seen with what the oracle says. */
async function examine(
  soak: SoakProject,
  play: Play,
  lostStarts: number,
): Promise<Pick<SoakResult, 'changes' | 'merged' | 'approved' | 'closed' | 'comments'>> {
  const { project, people } = soak;
  const bot = people['cdl-bot'];
  const chain = await readChain(soak.trusted, keys, 'fashion', 'fashion', 'production');
  const { decisions } = chain;
  let approvedCount = 0;
  for (const change of play.changes) {
    const name = `!${change.iid}`;
    const mr = play.mr(change);
    const ours = mr.notes.filter((note) => note.authorId === bot.id && !note.system);
    const count = (marker: string) => ours.filter((note) => note.body.includes(`<!-- cdl:${marker} `)).length;
    if (mr.state === 'closed') {
      expect(count('report:fashion'), `reports of closed ${name}`).toBeLessThanOrEqual(1);
      continue;
    }
    const refused = new Set<number>();
    for (const note of change.commands) {
      const { emoji, authorId } = mr.notes.find((one) => one.id === note)!;
      const reactions = emoji.filter((one) => one.userId === bot.id).map((one) => one.name);
      expect(reactions, `reactions to ${note} on ${name}`).toHaveLength(1);
      const isRefusal = reactions[0] === 'no_entry' || reactions[0] === 'confused';
      const answers = count(`reply:${note}`);
      // Nobody is told the same no twice, but everybody once.
      const mayBeSilent = isRefusal && refused.has(authorId);
      expect(answers, `answers to ${note} on ${name}`).toBeLessThanOrEqual(1);
      if (!mayBeSilent) expect(answers, `answers to ${note} on ${name}`).toBe(1);
      if (isRefusal) refused.add(authorId);
    }
    for (const note of change.talk) expect(count(`reply:${note}`), `answers to talk ${note}`).toBe(0);
    const reports = count('report:fashion');
    if (change.everReported || !mr.draft) expect(reports, `reports of ${name}`).toBe(1);
    else expect(reports, `reports of the draft ${name}`).toBeLessThanOrEqual(1);
    expect(count('trouble'), `troubles of ${name}`).toBe(0);
    expect(ours, `comments of ${name}`).toHaveLength(
      reports + ours.filter((note) => note.body.includes('<!-- cdl:reply:')).length,
    );
    const report = ours.find((note) => note.body.includes('<!-- cdl:report:fashion '))?.body ?? '';
    const about = (candidate: string, evaluation: string | null) =>
      decisions.filter((one) => one.candidate === candidate && one.evaluation === evaluation);
    if (change.merged) {
      const { candidate, evaluation } = change.merged;
      const said = about(candidate, evaluation).map((one) => one.decision);
      expect(said.at(-1), `the last decision about ${name}`).toBe('promoted');
      expect(said.filter((one) => one === 'promoted')).toHaveLength(1);
      expect(report, `report of ${name}`).toMatch(/is promoted in production/);
      continue;
    }
    const facts = await play.factsOf(change);
    const expected = expectedOf(facts);
    const status = project.statuses.filter((one) => one.sha === mr.sha && one.name === 'cdl/fashion').at(-1);
    const seen = `${status?.status}: ${status?.description}`;
    if (typeof expected.status === 'string') expect(seen, `status of ${name}`).toBe(expected.status);
    else expect(seen, `status of ${name}`).toMatch(expected.status);
    const last = about(facts.candidate ?? '', await play.evaluationOf(change)).at(-1)?.decision;
    if (expected.approved) expect(last, `decision about ${name}`).toBe('approved');
    else expect(last ?? 'revoked', `decision about ${name}`).toBe('revoked');
    if (expected.approved) approvedCount++;
    if (expected.locked) {
      expect(await play.headLock(change), `lock of ${name}`).toMatchObject({
        candidate: facts.candidate,
        evaluation: await play.evaluationOf(change),
      });
    }
    if (!facts.draft) {
      const line = `/approve ${facts.review?.slice(7, 19)}`;
      expect(report.includes(line), `the line of ${name}`).toBe(expected.line && facts.candidate !== null);
    }
  }
  // Doubled decisions, evaluations, releases.
  for (const [index, one] of decisions.entries()) {
    const before = decisions.slice(0, index).findLast((other) => other.candidate === one.candidate);
    const isSame = before?.decision === one.decision && before.evaluation === one.evaluation;
    expect(isSame && before.plan === one.plan, `decision ${one.seq} says what ${before?.seq} said`).toBe(
      false,
    );
  }
  const asked = [...project.pipelines.values()].flatMap((one) =>
    one.inputs.cdl_question ? [String(one.inputs.cdl_question)] : [],
  );
  expect(asked.length - new Set(asked).size, 'questions asked twice').toBeLessThanOrEqual(lostStarts);
  const merged = play.changes.filter((one) => one.merged);
  expect([...project.releases.keys()].sort()).toEqual(
    merged.map((one) => `model/fashion/v${soak.claims.get(play.mr(one).sha)!.version}`).sort(),
  );
  return {
    changes: play.changes.length,
    merged: merged.length,
    approved: approvedCount,
    closed: play.changes.filter((one) => play.mr(one).state === 'closed').length,
    comments: play.changes.reduce((sum, one) => sum + one.commands.length, 0),
  };
}
