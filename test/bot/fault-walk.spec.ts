import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readChange, readDecisions } from '../../bot/read.ts';
import { reconcile } from '../../bot/reconcile.ts';
import type { BotContext, Task } from '../../bot/types.ts';
import {
  type Database,
  openDatabase,
  openForge,
  openMirror,
  parseLock,
  shortDigest,
  UpstreamError,
  UserError,
} from '../../src/index.ts';
import { type Death, deathsOf, drain, mortal, part, sample, stride } from './mortal.ts';
import { type Fault, type FaultProxy, startFaultProxy } from './soak/chaos.ts';
import { liveAs } from './story.ts';
import { type BotWorld, createBotWorld } from './world.ts';

let folder: string;
let database: Database;
let world: BotWorld;
let proxy: FaultProxy;
/** The bot's forge and mirror by way of the proxy. */
let sources: Pick<BotContext, 'forge' | 'mirror'>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-walk-'));
  database = await openDatabase({
    url: null,
    folder: join(folder, 'database'),
  });
  world = await createBotWorld(database);
  proxy = await startFaultProxy(world.sandbox.url);
  const { project } = world.context.forge;
  const forge = await openForge({
    kind: 'gitlab',
    url: proxy.url,
    project,
    token: world.people.bot.token,
    evaluationToken: world.people.evaluator.token,
  });
  const path = process.env.PATH ?? '';
  sources = {
    forge,
    mirror: await openMirror({ folder: join(folder, 'mirror'), access: forge.git(), path }),
  };
});
afterAll(async () => {
  const { violations, problems } = world.sandbox;
  await proxy.close();
  await world.close();
  await database.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
  expect(violations).toEqual([]);
  expect(problems).toEqual([]);
});

const settled = () => world.sandbox.settled();

let stories = 0;

/** How many requests had come when the last look of the last story began. */
let lastLook = 0;

/**
 * A change from push to promotion; with `looks` it is reconciled at each point, until a look succeeds, as the bot does every
 * minute. What a person would see in the end, in words that are the same for every change.
 */
async function story(death: Death | null, calls: string[], looks = false): Promise<object> {
  const branch = `story-${++stories}`;
  const tasks: Task[] = [];
  const base = { ...world.context, ...sources };
  const { effects: _own, ...ports } = base;
  const bot = {
    current: mortal(ports, tasks, calls, death),
    restarts: 0,
    restart() {
      bot.restarts++;
      bot.current = mortal(ports, tasks, [], null);
    },
  };
  /** Reconciles until that worked once, and does what came of it. */
  const look = async () => {
    for (let tries = looks ? 3 : 0; tries > 0; tries--) {
      try {
        await reconcile(bot.current);
        tries = 1;
      } catch (error) {
        if (tries === 1 || !(error instanceof UpstreamError || error instanceof UserError)) throw error;
      }
      await drain(tasks, bot, database, settled);
    }
  };
  const hear = async (task: Task) => {
    tasks.push(task);
    await drain(tasks, bot, database, settled);
    await look();
  };
  await world.api('ada', 'POST', 'repository/commits', {
    branch,
    start_branch: 'main',
    commit_message: 'better',
    actions: [{ action: 'update', file_path: 'model.ts', content: `${branch}\n` }],
  });
  const change = await world.openChange(branch);
  await hear({ kind: 'change', change });
  const facts = async () => {
    const read = await readChange(world.context, change, false);
    if (read.kind !== 'read') throw new Error(`change is ${read.kind}`);
    return read.models[0]!;
  };
  const { review } = await facts();
  if (!review) throw new Error(`nothing to approve: ${JSON.stringify(world.statuses(change))}`);
  const comment = await world.say('vera', change, `/approve ${shortDigest(review)}`);
  await hear({ kind: 'comment', change, comment });
  const end = await facts();
  const [approved] = (await decisionsOf()).filter((one) => one.change === `!${change}`);
  if (!approved) throw new Error('nothing was approved');
  await world.setLive(liveAs(approved, end, stories));
  await hear({ kind: 'branch' });
  // What is live asks every open change anew. A bot that was killed after asking may have read the answer already.
  await hear({ kind: 'change', change });
  // What failed in the last of it is done again by the next look, which comes every minute: the forge is well by then.
  lastLook = proxy.requests.length;
  proxy.fault = () => null;
  await look();
  if (bot.restarts !== (death ? 1 : 0)) throw new Error(`died ${bot.restarts} times`);
  const now = await facts();
  const text = await world.context.forge.readFile('cdl.lock', now.change.head);
  const entry = text === null ? null : parseLock(text).models.fashion?.production;
  const comments = world.comments(change);
  const kinds = (marker: string) => comments.filter((body) => body.includes(`<!-- cdl:${marker}`)).length;
  const mr = world.project.mergeRequests.get(change)!;
  const emoji = mr.notes.find((note) => String(note.id) === comment)!.emoji.length;
  const state = {
    status: world.statuses(change)['cdl/fashion'],
    lock: entry?.candidate === approved.candidate && entry.evaluation === now.answer?.digest,
    decisions: (await decisionsOf()).filter((one) => one.change === `!${change}`).map((one) => one.decision),
    reports: kinds('report:fashion'),
    replies: kinds('reply:'),
    // What was in the way is told at most once, and then that it is gone.
    troubles: comments.filter((body) => /cannot go on with this change/.test(body)).length,
    emoji,
    commits: (await world.context.forge.commitAuthors(change)).map((one) => one.name).sort(),
    releases: [...world.project.releases.keys()].filter((tag) => tag.endsWith(`/v${stories}`)).length,
  };
  await world.api('ada', 'PUT', `merge_requests/${change}`, { state_event: 'close' });
  return state;
}

const decisionsOf = async () =>
  (await readDecisions(world.context, 'fashion', 'fashion', 'production')).decisions;

/** Far more than it takes, on machines that do other things. */
const timeout = 3_600_000;

describe(`a bot that is killed between any two calls (${part})`, () => {
  it('comes to the same end, whichever they are', { timeout }, async () => {
    const first: string[] = [];
    await story(null, first);
    // The first one had nothing live before it.
    const calls: string[] = [];
    const undisturbed = await story(null, calls);
    const deaths = deathsOf(calls);
    for (const death of deaths) {
      const what = `killed ${death.when} call ${death.at}, ${calls[death.at]}`;
      const state = await story(death, []).catch((error: unknown) => ({ [what]: String(error) }));
      expect(state, what).toEqual(undisturbed);
    }
  });
});

const faults: Fault[] = [
  ...[401, 403, 404, 409, 500].map((status) => ({ kind: 'status' as const, status })),
  { kind: 'status', status: 429, headers: { 'retry-after': '0' } },
  { kind: 'half' },
  { kind: 'lost' },
];

describe(`a forge that answers one request with an error or by half (${part})`, () => {
  it('delays what it was about, and it is told at most once', { timeout }, async () => {
    const from = proxy.requests.length;
    const undisturbed = await story(null, [], true);
    const asked = proxy.requests.slice(from, lastLook);
    const indices = asked.flatMap(({ path }, at) => (path.startsWith('/api/') ? [at] : []));
    expect(indices.length).toBeGreaterThan(30);
    const all = indices.flatMap((at) => faults.map((fault) => ({ at, fault })));
    for (const { at, fault } of sample(all, stride > 0 ? stride * 4 : Math.ceil(all.length / 4))) {
      const start = proxy.requests.length;
      proxy.fault = (_entry, index) => (index - start === at ? fault : null);
      const { method, path } = asked[at]!;
      const what = `${JSON.stringify(fault)} to request ${at}, like ${method} ${path}`;
      const state = await story(null, [], true).catch((error: unknown) => ({ [what]: String(error) }));
      proxy.fault = () => null;
      expect(state, what).toEqual(undisturbed);
    }
  });
});
