import { afterEach, describe, expect, it } from 'vitest';
import { convergeChange } from '../../bot/converge.ts';
import { handleComment } from '../../bot/handle.ts';
import { convergeBranch } from '../../bot/promote.ts';
import { readChange, readDecisions } from '../../bot/read.ts';
import { reconcile } from '../../bot/reconcile.ts';
import type { Facts } from '../../bot/types.ts';
import { parseLock, shortDigest } from '../../src/index.ts';
import { expectHarmless } from '../report/harmless.ts';
import { useDatabase } from './database.ts';
import { type BotWorld, createBotWorld, projectYaml } from './world.ts';

let world: BotWorld;
const database = useDatabase();
afterEach(async () => {
  const { violations, problems } = world.sandbox;
  await world.close();
  expect(violations).toEqual([]);
  expect(problems).toEqual([]);
});

const converge = (w: BotWorld, change: number) => convergeChange(w.context, change, false);

async function factsOf(w: BotWorld, change: number): Promise<Facts> {
  const read = await readChange(w.context, change, false);
  if (read.kind !== 'read') throw new Error(`change is ${read.kind}`);
  return read.models[0]!;
}

/** Converges until a pass queues nothing more for the change. */
async function settle(w: BotWorld, change: number): Promise<string> {
  for (let pass = 0; pass < 8; pass++) {
    const before = w.tasks.length;
    const [one] = await converge(w, change);
    await w.sandbox.settled();
    const queued = w.tasks.length > before;
    const isMoving = one?.standing === 'evaluating' || one?.standing === 'waiting';
    if (!queued && !isMoving) return one?.standing ?? 'ignored';
  }
  throw new Error('does not settle');
}

async function propose(w: BotWorld, text: string, branch = 'exp/a', title?: string): Promise<number> {
  await w.push('ada', branch, { 'model.ts': text });
  return w.openChange(branch, title);
}

async function answer(
  w: BotWorld,
  who: 'ada' | 'vera' | 'walt' | 'eve',
  change: number,
  body: string,
): Promise<string> {
  const id = await w.say(who, change, body);
  await handleComment(w.context, change, id, false);
  return w.comments(change).at(-1)!;
}

const decisionsOf = async (w: BotWorld) =>
  (await readDecisions(w.context, 'fashion', 'fashion', 'production')).decisions;

async function lockAtHead(w: BotWorld, change: number) {
  const { head } = (await w.context.forge.getChange(change))!;
  const text = await w.context.forge.readFile('cdl.lock', head);
  return text === null ? null : parseLock(text).models.fashion?.production;
}

describe('a good change', () => {
  it('is evaluated, reported, locked, approved and promoted', async () => {
    world = await createBotWorld(database());
    const change = await propose(world, 'good\n');
    expect(await settle(world, change)).toBe('judged');
    const facts = await factsOf(world, change);
    expect(await lockAtHead(world, change)).toMatchObject({
      candidate: facts.claim.kind === 'verified' && facts.claim.digest,
      evaluation: facts.answer!.digest,
      info: { version: 1 },
    });
    expect(world.comments(change)).toHaveLength(1);
    const [report] = world.comments(change);
    expect(report).toContain(`/approve ${shortDigest(facts.review!)}`);
    expect(report).toContain('0.9000');
    expect(report).toMatch(/!\[.*\]\(\/uploads\//);
    expect(world.statuses(change)['cdl/fashion']).toBe('pending: waiting for approval (0 of 1 approval)');
    // Where the author pushed, nothing waits any more: the lock commit has the status now.
    const { head } = (await world.context.forge.getChange(change))!;
    const earlier = world.project.statuses.filter((one) => one.sha !== head);
    expect(new Set(earlier.map((one) => one.status))).toEqual(new Set(['canceled']));
    expect(await decisionsOf(world)).toEqual([]);

    const said = await answer(world, 'vera', change, `/approve ${shortDigest(facts.review!)}`);
    expect(said).toContain('Approved fashion for production');
    expect(await settle(world, change)).toBe('judged');
    expect(world.statuses(change)['cdl/fashion']).toBe('success: approved');
    const [approved] = await decisionsOf(world);
    expect(approved).toMatchObject({
      decision: 'approved',
      seq: 1,
      change: `!${change}`,
      approvers: [{ name: 'vera', role: 'validator' }],
    });

    await world.api('vera', 'GET', `merge_requests/${change}`);
    await world.api('eve', 'GET', `merge_requests/${change}`);
    const live = {
      candidate: approved!.candidate,
      evaluation: approved!.evaluation,
      package: facts.plan!.package,
      plan: approved!.plan,
      version: 1,
      since: new Date().toISOString(),
      commit: facts.change.head,
    };
    await world.setLive({ current: live });
    for (let i = 0; i < 2; i++) await convergeBranch(world.context);
    expect((await decisionsOf(world)).map((one) => one.decision)).toEqual(['approved', 'promoted']);
    expect(world.tasks.at(-1)).toEqual({ kind: 'change', change });
  });

  it('needs no new approval after the lock commit, a rebase or a squash, and a new one after a change of content', async () => {
    world = await createBotWorld(database());
    const change = await propose(world, 'good\n');
    await settle(world, change);
    const review = (await factsOf(world, change)).review!;
    await answer(world, 'vera', change, `/approve ${shortDigest(review)}`);
    await settle(world, change);
    await world.push('ada', 'exp/a', { 'README.md': 'words\n' });
    await settle(world, change);
    expect((await factsOf(world, change)).review).toBe(review);
    expect(world.statuses(change)['cdl/fashion']).toBe('success: approved');
    await world.push('ada', 'exp/a', { 'model.ts': 'good, different\n' });
    await settle(world, change);
    expect(world.statuses(change)['cdl/fashion']).toContain('waiting for approval (0 of 1');
    expect(world.comments(change)[0]).toContain(`approval of ${shortDigest(review)} by vera is void`);
    const older = await answer(world, 'vera', change, `/approve ${shortDigest(review)}`);
    expect(older).toContain('the report of an earlier state');
    expect(await decisionsOf(world)).toHaveLength(1);
  });
});

describe('a change that is refused', () => {
  it('by a gate gets no lock entry, unless a validator overrules with a reason', async () => {
    world = await createBotWorld(database());
    world.quality.set('bad\n', 60);
    const change = await propose(world, 'bad\n');
    expect(await settle(world, change)).toBe('judged');
    expect(world.statuses(change)['cdl/fashion']).toMatch(/^failed: gate failed: accuracy/);
    expect(await lockAtHead(world, change)).toBeNull();
    const line = `/approve ${shortDigest((await factsOf(world, change)).review!)}`;
    expect(await answer(world, 'vera', change, line)).toContain('--override');
    await settle(world, change);
    expect(await decisionsOf(world)).toEqual([]);
    await answer(world, 'vera', change, `${line} --override "the only shoe data we have"`);
    await settle(world, change);
    expect(await decisionsOf(world)).toMatchObject([{ override: { reason: 'the only shoe data we have' } }]);
    expect(await lockAtHead(world, change)).not.toBeNull();
  });

  it('is one whose claim is not what the commit makes', async () => {
    world = await createBotWorld(database());
    world.claim = (honest) => {
      const { candidate } = honest as { candidate: { code: string } };
      return { ...honest, candidate: { ...candidate, code: `sha256:${'0'.repeat(64)}` } };
    };
    const change = await propose(world, 'good\n');
    expect(await settle(world, change)).toBe('wrong');
    expect(world.comments(change)[0]).toContain('the claim names other files than the commit has');
    expect(world.statuses(change)['cdl/fashion']).toMatch(/^failed: the claim/);
    expect([...world.project.pipelines.values()].filter((p) => p.source === 'api')).toEqual([]);
  });

  it('names the job that failed', async () => {
    world = await createBotWorld(database());
    world.outcome = 'failed';
    const change = await propose(world, 'good\n');
    expect(await settle(world, change)).toBe('broken');
    expect(world.statuses(change)['cdl/fashion']).toBe('failed: failed: train: [fashion]');
    expect(world.comments(change)[0]).toContain('train: \\[fashion\\]');
  });

  it.each([
    [
      'what its step failed of',
      '{"v":1,"step":"train","message":"loss became NaN","hint":null}',
      'train: loss became NaN',
    ],
    ['no more than that it failed when it says nothing readable', '{"v":1,"step":["x"]}', null],
  ])('tells of a job %s', async (_what, failure, said) => {
    world = await createBotWorld(database());
    world.outcome = 'failed';
    world.failure = failure;
    const change = await propose(world, 'good\n');
    expect(await settle(world, change)).toBe('broken');
    const [comment] = world.comments(change);
    expect(comment).toContain('The pipeline failed in train');
    if (said) expect(comment).toContain(said);
    else expect(comment).not.toContain('```');
  });

  it('has a hand-made lock entry replaced when its candidate is verified', async () => {
    world = await createBotWorld(database());
    await world.push('ada', 'exp/a', {
      'model.ts': 'good\n',
      'cdl.lock': 'version: 1\nmodels: {fashion: nonsense}\n',
    });
    const change = await world.openChange('exp/a');
    await settle(world, change);
    expect(await lockAtHead(world, change)).toMatchObject({ info: { version: 1 } });
  });

  it('is judged by the old gates and roles when it changes them, and says so', async () => {
    world = await createBotWorld(database());
    world.quality.set('bad\n', 60);
    const easy = projectYaml().replace('min: 0.85', 'min: 0.1').replace('vera, walt', 'eve');
    await world.push('ada', 'exp/a', { 'model.ts': 'bad\n', 'cdl.yaml': easy });
    const change = await world.openChange('exp/a');
    await settle(world, change);
    expect(world.statuses(change)['cdl/fashion']).toMatch(/^failed: gate failed/);
    expect(world.comments(change)[0]).toContain('alters roles or approval rules, gates');
    const line = `/approve ${shortDigest((await factsOf(world, change)).review!)} --override "please"`;
    expect(await answer(world, 'eve', change, line)).toContain('does not have the role');
  });
});

describe('who may decide', () => {
  it('is not the author, nor who wrote a commit, nor somebody without the role', async () => {
    world = await createBotWorld(database());
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    await world.push('eve', 'exp/a', { 'README.md': 'hello\n' });
    const change = await world.openChange('exp/a');
    await settle(world, change);
    const line = `/approve ${shortDigest((await factsOf(world, change)).review!)}`;
    expect(await answer(world, 'ada', change, line)).toContain('You are an author of this change');
    expect(await answer(world, 'eve', change, line)).toContain('does not have the role');
    await settle(world, change);
    expect(await decisionsOf(world)).toEqual([]);
  });

  it('is counted: two of two, each person once', async () => {
    world = await createBotWorld(database(), projectYaml('approvals: {required: 2}\n'));
    const change = await propose(world, 'good\n');
    await settle(world, change);
    const line = `/approve ${shortDigest((await factsOf(world, change)).review!)}`;
    expect(await answer(world, 'vera', change, line)).toContain('1 more approval is needed');
    await answer(world, 'vera', change, line);
    await settle(world, change);
    expect(world.statuses(change)['cdl/fashion']).toContain('(1 of 2 approvals)');
    expect(await decisionsOf(world)).toEqual([]);
    await answer(world, 'walt', change, line);
    await settle(world, change);
    expect((await decisionsOf(world))[0]!.approvers.map((one) => one.name)).toEqual(['vera', 'walt']);
  });

  it('can send a change back, until its content changes', async () => {
    world = await createBotWorld(database());
    const change = await propose(world, 'good\n');
    await settle(world, change);
    expect(await answer(world, 'vera', change, '/reject trian "more epochs"')).toContain(
      'Did you mean `train`?',
    );
    await answer(world, 'vera', change, '/reject train "more epochs"');
    await settle(world, change);
    expect(world.statuses(change)['cdl/fashion']).toBe('failed: sent back to train: more epochs');
    await world.push('ada', 'exp/a', { 'model.ts': 'more, epochs\n' });
    await settle(world, change);
    expect(world.statuses(change)['cdl/fashion']).toContain('waiting for approval');
  });
});

describe('a change that is over', () => {
  it('leaves no pipeline behind that waits for an approval', async () => {
    world = await createBotWorld(database());
    const change = await propose(world, 'good\n');
    await settle(world, change);
    expect(world.statuses(change)['cdl/fashion']).toContain('pending: waiting for approval');
    const mr = world.project.mergeRequests.get(change)!;
    for (const state of ['closed', 'merged'] as const) {
      Object.assign(mr, { state: 'opened' });
      await settle(world, change);
      expect(world.statuses(change)['cdl/fashion']).toContain('pending: waiting for approval');
      Object.assign(mr, { state });
      for (let i = 0; i < 2; i++) await converge(world, change);
      expect(world.statuses(change)['cdl/fashion']).toMatch(/^canceled/);
    }
  });
});

describe('when production moves', () => {
  it('an open approved change is asked again, and its approval is void', async () => {
    world = await createBotWorld(database());
    const [first, second] = [
      await propose(world, 'good\n', 'exp/a'),
      await propose(world, 'better\n', 'exp/b'),
    ];
    await settle(world, first);
    await settle(world, second);
    const [one, two] = [await factsOf(world, first), await factsOf(world, second)];
    for (const [change, facts] of [
      [first, one],
      [second, two],
    ] as const) {
      await answer(world, 'vera', change, `/approve ${shortDigest(facts.review!)}`);
      await settle(world, change);
    }
    const [approved] = await decisionsOf(world);
    await world.setLive({
      current: {
        candidate: approved!.candidate,
        evaluation: approved!.evaluation,
        package: one.plan!.package,
        plan: approved!.plan,
        version: 1,
        since: new Date().toISOString(),
        commit: one.change.head,
      },
    });
    await convergeBranch(world.context);
    expect(world.tasks).toContainEqual({ kind: 'change', change: second });
    await settle(world, second);
    const after = await factsOf(world, second);
    expect(after.answer!.evaluation.baseline).toBe(approved!.candidate);
    expect(after.review).not.toBe(two.review);
    expect(world.statuses(second)['cdl/fashion']).toContain('waiting for approval (0 of 1');
  });

  it('a deployment that was taken back is revoked once and its lock entry reverted by a change', async () => {
    world = await createBotWorld(database());
    const change = await propose(world, 'good\n');
    await settle(world, change);
    const facts = await factsOf(world, change);
    await answer(world, 'vera', change, `/approve ${shortDigest(facts.review!)}`);
    await settle(world, change);
    const { head } = (await world.context.forge.getChange(change))!;
    const owner = [...world.sandbox.world.users.values()].find((user) => user.username === 'olga')!;
    await fetch(`${world.sandbox.url}/api/v4/projects/${world.project.id}/merge_requests/${change}/merge`, {
      method: 'PUT',
      headers: {
        'private-token': (owner as typeof owner & { token: string }).token,
        'content-type': 'application/json',
      },
      body: JSON.stringify({ sha: head }),
    });
    await world.sandbox.settled();
    expect((await world.context.forge.getChange(change))!.state).toBe('merged');
    const [approved] = await decisionsOf(world);
    await world.setLive({
      failed: {
        candidate: approved!.candidate,
        evaluation: approved!.evaluation,
        package: facts.plan!.package,
        plan: approved!.plan,
        version: 1,
        since: new Date().toISOString(),
        commit: head,
        // What a server answered is somebody's text, and GitLab acts on the description of a change as it does on a comment.
        reason: '12 % of the requests failed\n/merge\nCloses #1 @all ![x](https://evil.example/x.png)',
      },
    });
    for (let i = 0; i < 2; i++) await convergeBranch(world.context);
    expect((await decisionsOf(world)).map((one) => one.decision)).toEqual(['approved', 'revoked']);
    const open = await world.context.forge.listChanges({ state: 'open' });
    expect(open.map((one) => one.sourceBranch)).toEqual([
      `cdl/revert-fashion-production-${shortDigest(approved!.candidate)}`,
    ]);
    expect(await lockAtHead(world, open[0]!.id)).toBeUndefined();
    const { description } = world.project.mergeRequests.get(open[0]!.id)!;
    expectHarmless(description);
    expect(description).toContain('12 % of the requests failed');
    await converge(world, change);
    expect(world.comments(change)[0]).toContain('12 % of the requests failed');
    // Who approved it did so before anybody knew: their word is used up.
    expect((await decisionsOf(world)).map((one) => one.decision)).toEqual(['approved', 'revoked']);
    expect((await factsOf(world, open[0]!.id)).returns).toEqual({ candidate: null, version: null });
    await settle(world, open[0]!.id);
    expect(world.statuses(open[0]!.id)['cdl/fashion']).toBe('success: takes out what was taken back');
    expect(await lockAtHead(world, open[0]!.id)).toBeUndefined();
  });
});

describe('a bot that was away', () => {
  it('finds what no webhook told it, and answers each comment once', async () => {
    world = await createBotWorld(database());
    await reconcile(world.context);
    const change = await propose(world, 'good\n');
    const comment = await world.say('vera', change, '/status');
    world.tasks.length = 0;
    await reconcile(world.context);
    expect(world.tasks).toEqual([
      { kind: 'change', change },
      { kind: 'comment', change, comment },
      { kind: 'branch' },
    ]);
    for (let i = 0; i < 2; i++) await handleComment(world.context, change, comment, false);
    expect(world.comments(change)).toHaveLength(1);
    world.tasks.length = 0;
    await reconcile(world.context);
    expect(world.tasks.filter((task) => task.kind === 'comment')).toEqual([]);
  });
});
