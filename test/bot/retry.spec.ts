import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createEffects } from '../../bot/effects.ts';
import { createMetrics } from '../../bot/metrics.ts';
import { readChange } from '../../bot/read.ts';
import { reconcile } from '../../bot/reconcile.ts';
import { releasePromoted } from '../../bot/release.ts';
import type { Promoted } from '../../bot/release-notes.ts';
import type { BotContext, Task } from '../../bot/types.ts';
import { deadTasks, doTask } from '../../bot/work.ts';
import { type Database, openDatabase, openForge, shortDigest } from '../../src/index.ts';
import { type Fault, type FaultProxy, startFaultProxy } from './soak/chaos.ts';
import { type BotWorld, createBotWorld } from './world.ts';

let folder: string;
let database: Database;
let world: BotWorld;
let proxy: FaultProxy;
let bot: BotContext;
const tasks: Task[] = [];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-retry-'));
  database = await openDatabase({ url: null, folder });
  world = await createBotWorld(database);
  proxy = await startFaultProxy(world.sandbox.url);
  const forge = await openForge({
    kind: 'gitlab',
    url: proxy.url,
    project: world.context.forge.project,
    token: world.people.bot.token,
    evaluationToken: world.people.evaluator.token,
  });
  const ports = { ...world.context, forge };
  bot = { ...ports, effects: createEffects(ports, async (task) => void tasks.push(task)) };
});
afterAll(async () => {
  await proxy?.close();
  await world?.close();
  await database?.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
});
beforeEach(() => {
  proxy.fault = () => null;
  tasks.length = 0;
});

const run = (task: Task) =>
  doTask(bot.forge.project, bot, task, {
    database,
    isolated: false,
    metrics: createMetrics({ process: false }),
    log: { info: () => undefined, warn: () => undefined, error: () => undefined } as never,
  });

/** Does what is queued, and what that queues. */
async function drain(): Promise<void> {
  for (let task = tasks.shift(); task; task = tasks.shift()) {
    await run(task);
    await world.sandbox.settled();
  }
}

/** A change whose report waits for an approval, and the line that approves. */
async function proposed(branch: string): Promise<{ change: number; line: string }> {
  await world.push('ada', branch, { 'model.ts': `${branch}\n` });
  const change = await world.openChange(branch);
  for (let i = 0; i < 2; i++) {
    await run({ kind: 'change', change });
    await drain();
  }
  return { change, line: `/approve ${shortDigest((await factsOf(change)).review!)}` };
}

async function factsOf(change: number) {
  const read = await readChange(world.context, change, false);
  if (read.kind !== 'read') throw new Error(`change is ${read.kind}`);
  return read.models[0]!;
}

/** Every request that matches gets this answer, until told otherwise. */
function refuse(method: string, path: RegExp, fault: Fault): void {
  proxy.fault = (one) => (one.method === method && path.test(one.path) ? fault : null);
}

const repliesTo = (change: number, comment: string) =>
  world.comments(change).filter((body) => body.includes(`<!-- cdl:reply:${comment} `));

describe('a comment that could not be handled because the forge said no', () => {
  it('is handled by a later look, once: one approval, one answer, and the dead letter is gone', async () => {
    const { change, line } = await proposed('exp/refused');
    const comment = await world.say('vera', change, line);
    refuse('GET', /\/pipelines\/\d+\/jobs/, { kind: 'status', status: 403 });
    await run({ kind: 'comment', change, comment });
    expect(await deadTasks(bot)).toContainEqual({ kind: 'comment', change, comment });
    await reconcile(bot);
    await drain();
    expect((await factsOf(change)).approvals).toEqual([]);
    proxy.fault = () => null;
    for (let look = 0; look < 2; look++) {
      await reconcile(bot);
      await drain();
    }
    expect(world.statuses(change)['cdl/fashion']).toBe('success: approved');
    expect(repliesTo(change, comment)).toHaveLength(1);
    expect(repliesTo(change, comment)[0]).toContain('Approved fashion');
    expect(await deadTasks(bot)).toEqual([]);
  });

  it('is found long after its change was merged', async () => {
    const { change } = await proposed('exp/merged');
    const url = `${world.sandbox.url}/api/v4/projects/${world.project.id}/merge_requests/${change}/merge`;
    const headers = { 'private-token': world.people.evaluator.token };
    expect((await fetch(url, { method: 'PUT', headers })).status).toBe(200);
    const comment = await world.say('vera', change, '/status');
    refuse('GET', /\/merge_requests\/\d+\/discussions/, { kind: 'status', status: 404 });
    await run({ kind: 'comment', change, comment });
    proxy.fault = () => null;
    const tomorrow = { ...bot, now: () => new Date(Date.now() + 24 * 3600_000) };
    for (let look = 0; look < 2; look++) await reconcile(tomorrow);
    await drain();
    expect(repliesTo(change, comment)).toHaveLength(1);
  });

  it('is not carried out again on a later state of the change when only its answer could not be given', async () => {
    const { change } = await proposed('exp/sent-back');
    const comment = await world.say('walt', change, '/reject train "more epochs"');
    refuse('POST', /award_emoji/, { kind: 'status', status: 404 });
    await run({ kind: 'comment', change, comment });
    const { head } = (await bot.state.rejections(change))[0]!;
    proxy.fault = () => null;
    await world.push('ada', 'exp/sent-back', { 'model.ts': 'with more epochs\n' });
    await reconcile(bot);
    await drain();
    expect((await bot.state.rejections(change)).map((one) => one.head)).toEqual([head]);
    expect(repliesTo(change, comment)).toHaveLength(1);
    expect((await factsOf(change)).rejection).toBeNull();
  });

  it('is not refused for good by one answer that was none', async () => {
    const { change, line } = await proposed('exp/flicker');
    const comment = await world.say('vera', change, line);
    let refused = 0;
    proxy.fault = ({ path }) =>
      /\/members\//.test(path) && refused++ === 0 ? { kind: 'status', status: 404 } : null;
    await run({ kind: 'comment', change, comment });
    await drain();
    expect(refused).toBeGreaterThan(1);
    expect(repliesTo(change, comment)[0]).toContain('Approved fashion');
  });
});

describe('a release that the forge refused', () => {
  it('is a dead letter of the branch task until it is made', async () => {
    const { change } = await proposed('exp/release');
    const facts = await factsOf(change);
    if (facts.claim.kind !== 'verified') throw new Error('no claim');
    const promoted: Promoted = {
      model: 'fashion',
      environment: 'production',
      live: {
        candidate: facts.claim.digest,
        evaluation: facts.answer!.digest,
        package: facts.plan!.package,
        plan: facts.plan!.digest,
        version: facts.claim.claim.version,
        since: new Date().toISOString(),
        commit: facts.change.head,
      },
      decision: { change: `!${change}`, approvers: [], baseline: null },
    };
    refuse('POST', /\/releases/, { kind: 'status', status: 403 });
    await releasePromoted(bot, promoted);
    expect(await deadTasks(bot)).toEqual([{ kind: 'branch' }]);
    proxy.fault = () => null;
    await releasePromoted(bot, promoted);
    expect(world.project.releases.size).toBe(1);
    expect(await deadTasks(bot)).toEqual([]);
  });
});

describe('a change that the bot cannot go on with', () => {
  it('is told so, once; a draft when it is ready', async () => {
    await world.push('ada', 'exp/stuck', { 'model.ts': 'stuck\n' });
    const change = await world.openChange('exp/stuck', 'Draft: Better');
    refuse('GET', /\/pipelines\/\d+\/jobs/, { kind: 'status', status: 403 });
    for (let i = 0; i < 2; i++) await run({ kind: 'change', change });
    expect(await deadTasks(bot)).toEqual([{ kind: 'change', change }]);
    expect(world.comments(change)).toEqual([]);
    await world.api('ada', 'PUT', `merge_requests/${change}`, { title: 'Better' });
    for (let i = 0; i < 2; i++) await run({ kind: 'change', change });
    expect(world.comments(change)).toHaveLength(1);
    expect(world.comments(change)[0]).toContain('CDL cannot go on with this change');
    proxy.fault = () => null;
    await run({ kind: 'change', change });
    expect(world.comments(change)[0]).toContain('CDL goes on with this change');
  });
});
