import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { convergeChange } from '../../bot/converge.ts';
import { keepDrift, scheduleDrift } from '../../bot/drift.ts';
import { queueSeekers } from '../../bot/elsewhere.ts';
import { handleComment } from '../../bot/handle.ts';
import { reconcile } from '../../bot/reconcile.ts';
import { noteStanding } from '../../bot/standing.ts';
import { convergePush, triggerStatus } from '../../bot/trigger.ts';
import { queueWaiting } from '../../bot/waiting.ts';
import { parseLock, watchForge } from '../../src/index.ts';
import { useDatabase } from './database.ts';
import { makeClaim } from './jobs.ts';
import { type BotWorld, createBotWorld, projectYaml } from './world.ts';

let world: BotWorld;
const database = useDatabase();
afterEach(async () => {
  const { violations, problems } = world.sandbox;
  await world.close();
  expect(violations).toEqual([]);
  expect(problems).toEqual([]);
});

const converge = (change: number) => convergeChange(world.context, change, false);

/** What was queued since, for a change. */
async function settle(change: number): Promise<string | undefined> {
  let standing: string | undefined;
  for (let pass = 0; pass < 8; pass++) {
    const before = world.tasks.length;
    standing = (await converge(change))[0]?.standing;
    await world.sandbox.settled();
    const isMoving = standing === 'evaluating' || standing === 'waiting';
    if (world.tasks.length === before && !isMoving) break;
  }
  return standing;
}

const lockOf = async (ref: string) => parseLock((await world.context.mirror.readFile(ref, 'cdl.lock')) ?? '');

async function mergeAsOwner(change: number): Promise<void> {
  const url = `${world.sandbox.url}/api/v4/projects/${world.project.id}/merge_requests/${change}/merge`;
  const { token } = world.people.evaluator;
  const done = await fetch(url, { method: 'PUT', headers: { 'private-token': token } });
  expect(done.status).toBe(200);
  await world.sandbox.settled();
}

describe('a mistake in cdl.yaml', () => {
  it('is told at its line, once for each, and resolved when it is mended', async () => {
    world = await createBotWorld(database());
    const broken = projectYaml().replace('    gates:', '    gatez:').replace('owner: olga', 'owner: 3');
    await world.push('ada', 'exp/a', { 'cdl.yaml': broken });
    const change = await world.openChange('exp/a');
    for (let i = 0; i < 2; i++) await converge(change);
    const threads = () =>
      world.project.mergeRequests
        .get(change)!
        .notes.flatMap(({ position, resolved, body }) =>
          position ? [{ line: position.new_line, resolved, body }] : [],
        );
    const lineOf = (text: string) => broken.split('\n').findIndex((line) => line.includes(text)) + 1;
    expect(
      threads()
        .map((one) => one.line)
        .sort(),
    ).toEqual([lineOf('owner: 3'), lineOf('gatez')].sort());
    expect(threads().find((one) => one.line === lineOf('gatez'))!.body).toContain('gates');

    await world.push('ada', 'exp/a', { 'cdl.yaml': broken.replace('owner: 3', 'owner: olga') });
    await converge(change);
    expect(threads().filter((one) => !one.resolved)).toHaveLength(1);
    await world.push('ada', 'exp/a', { 'cdl.yaml': projectYaml('# mended\n') });
    await converge(change);
    expect(threads()).toHaveLength(2);
    expect(threads().every((one) => one.resolved)).toBe(true);
    expect(world.comments(change).join('\n')).not.toContain('cannot be read');
    expect(world.comments(change).join('\n')).toContain('cdl.yaml was read again: all is well');
    expect(world.statuses(change).cdl).toBe('success: cdl.yaml was read again: all is well');
    // Once: nobody looks at the status again, nor gives the next commit one.
    const ours = () =>
      world.project.statuses.filter((one) => one.name === 'cdl').map((one) => one.description);
    world.project.statuses.findLast((one) => one.name === 'cdl')!.description = 'as somebody left it';
    const before = ours();
    await converge(change);
    expect(ours()).toEqual(before);
  });

  it('is only a status while the change is a draft, and a change that never had one is told nothing', async () => {
    world = await createBotWorld(database());
    await world.push('ada', 'exp/a', { 'cdl.yaml': projectYaml().replace('    gates:', '    gatez:') });
    const change = await world.openChange('exp/a', 'Draft: Better');
    const notes = () => world.project.mergeRequests.get(change)!.notes.filter((note) => !note.system);
    await converge(change);
    expect(notes()).toEqual([]);
    expect(world.statuses(change).cdl).toBe('failed: cdl.yaml cannot be read');
    await world.push('ada', 'exp/a', { 'cdl.yaml': projectYaml('# mended\n') });
    await converge(change);
    expect(notes()).toEqual([]);
    expect(world.statuses(change).cdl).toContain('success');
    await world.push('ada', 'exp/b', { 'model.ts': 'two\n' });
    const other = await world.openChange('exp/b');
    await converge(other);
    expect(world.statuses(other).cdl).toBeUndefined();
    expect(world.comments(other).join('\n')).not.toContain('read again');
  });

  it('of the default branch is not a change’s fault: the one that mends it passes, the others wait and go on', async () => {
    world = await createBotWorld(database());
    await world.push('ada', 'exp/a', { 'model.ts': 'one\n' });
    const waiting = await world.openChange('exp/a');
    await world.push('ada', 'break', { 'cdl.yaml': projectYaml().replace('    gates:', '    gatez:') });
    await mergeAsOwner(await world.openChange('break'));
    await world.push('ada', 'break', { 'cdl.yaml': projectYaml('# mended\n') });
    const mending = await world.openChange('break');
    for (let i = 0; i < 2; i++) for (const change of [waiting, mending]) await converge(change);
    const notes = (change: number) =>
      world.project.mergeRequests.get(change)!.notes.filter((note) => !note.system);
    for (const change of [waiting, mending]) {
      expect(notes(change)).toHaveLength(1);
      expect(notes(change)[0]!.position).toBeFalsy();
      expect(notes(change)[0]!.body).toContain('cdl.yaml of main cannot be read');
      expect(notes(change)[0]!.body).toContain('gatez');
    }
    expect(world.statuses(mending)).toEqual({
      cdl: 'success: mends cdl.yaml of main; nothing is judged until it is merged',
    });
    expect(world.statuses(waiting).cdl).toBe(
      'pending: cdl.yaml of main cannot be read; nothing is judged until it is mended',
    );
    const earlier = (await world.context.forge.getChange(waiting))!.head;
    await world.push('ada', 'exp/a', { 'model.ts': 'two\n' });
    await converge(waiting);
    // Nobody comes back to the commit before: nothing waits there.
    const there = world.project.statuses.filter((one) => one.sha === earlier && one.name === 'cdl');
    expect(there.at(-1)!.status).toBe('canceled');

    await keepDrift(world.context);
    const issue = () => [...world.project.issues.values()].at(-1)!;
    expect(issue().description).toContain('cdl.yaml of main cannot be read');
    await mergeAsOwner(mending);
    await keepDrift(world.context);
    expect(issue().state).toBe('closed');
    await converge(waiting);
    expect(world.statuses(waiting).cdl).toContain('success');
    expect(await settle(waiting)).toBe('judged');
    expect(world.comments(waiting).join('\n')).not.toContain('cannot be read');
    expect(world.comments(waiting).join('\n')).toContain('/approve');
  });
});

describe('a lock that main moved away from', () => {
  it('is merged by whole entries, by the bot itself, and the change gets its own entry anew', async () => {
    world = await createBotWorld(database());
    await world.push('ada', 'exp/a', { 'model.ts': 'one\n' });
    const first = await world.openChange('exp/a');
    await world.push('ada', 'exp/b', { 'model.ts': 'first\n', 'other.ts': 'new\n', 'cdl.yaml': seeded(2) });
    const second = await world.openChange('exp/b');
    expect([await settle(first), await settle(second)]).toEqual(['judged', 'judged']);
    await mergeAsOwner(first);
    const { head } = (await world.context.forge.getChange(second))!;
    expect((await world.context.forge.getChange(second))!.state).toBe('open');
    await settle(second);
    const now = (await world.context.forge.getChange(second))!.head;
    expect(now).not.toBe(head);
    const tip = (await world.context.mirror.head('main'))!;
    expect(await world.context.mirror.mergeBase(now, tip)).toBe(tip);
    const merged = await world.context.mirror.readFile(now, 'model.ts');
    expect(merged).toBe('one\n');
    const entry = (await lockOf(now)).models.fashion!.production!;
    expect(entry.candidate).not.toBe((await lockOf(tip)).models.fashion!.production!.candidate);
    // Nothing more to do: the bot does not merge again and again.
    await settle(second);
    expect((await world.context.forge.getChange(second))!.head).toBe(now);
  });
});

const seeded = (seed: number): string => projectYaml().replace('    code:', `    seed: ${seed}\n    code:`);

describe('a version that was registered elsewhere', () => {
  const versions = new Map<string, number>();
  /** Another machine trains and registers what a commit has. */
  const registerElsewhere = (sha: string, data = {}) =>
    makeClaim({ work: world.work, repository: world.project.repository, sha, versions, data });
  const headOf = async (change: number) => (await world.context.forge.getChange(change))!.head;
  const lockedVersion = async (change: number) =>
    (await lockOf(await headOf(change))).models.fashion?.production?.info.version;
  const answer = async (change: number, body: string) => {
    const id = await world.say('ada', change, body);
    await handleComment(world.context, change, id, false);
    return world.comments(change).at(-1)!;
  };
  beforeEach(() => versions.clear());

  it('is proposed by the bot itself, evaluated and locked, where the change’s own pipeline made none', async () => {
    world = await createBotWorld(database());
    world.outcome = 'failed';
    const head = await world.push('ada', 'exp/a', { 'model.ts': 'better\n' });
    const change = await world.openChange('exp/a');
    expect(await settle(change)).toBe('broken');
    await registerElsewhere(await world.push('ada', 'exp/b', { 'model.ts': 'other\n' }));
    expect(await settle(change)).toBe('broken');
    await registerElsewhere(head);
    // What a notification of the bucket calls for: the changes that wait for a version, and no others.
    const already = world.tasks.length;
    await queueSeekers(world.context);
    expect(world.tasks.slice(already)).toEqual([{ kind: 'change', change }]);
    expect(await settle(change)).toBe('judged');
    expect(await lockedVersion(change)).toBe(2);
    expect(world.comments(change)[0]).toContain('Version 2 is from the registry');
    // Once: what comes later is for people to choose, or for the change's own pipeline.
    await registerElsewhere(head, { count: 3000 });
    await settle(change);
    expect(await lockedVersion(change)).toBe(2);
    expect(await answer(change, '/register 3')).toContain('it is proposed');
    await settle(change);
    expect(await lockedVersion(change)).toBe(3);
    await world.push('ada', 'exp/a', { 'model.ts': 'best\n' });
    expect(await settle(change)).toBe('broken');
  });

  it('yields to what the change’s own pipeline makes', async () => {
    world = await createBotWorld(database());
    world.outcome = 'failed';
    const head = await world.push('ada', 'exp/a', { 'model.ts': 'better\n' });
    // The other machine's is version 2; 1 is what the pipeline will make.
    versions.set('taken', 1);
    await registerElsewhere(head, { count: 3000 });
    const change = await world.openChange('exp/a');
    expect(await settle(change)).toBe('judged');
    const found = (await lockOf(await headOf(change))).models.fashion!.production!.candidate;
    world.outcome = 'success';
    await world.push('ada', 'exp/a', { 'notes.md': 'same code\n' });
    expect(await settle(change)).toBe('judged');
    const own = (await lockOf(await headOf(change))).models.fashion!.production!.candidate;
    expect(own).not.toBe(found);
    // Also while the pipeline of the bot's own commit runs.
    expect(await settle(change)).toBe('judged');
    expect((await lockOf(await headOf(change))).models.fashion!.production!.candidate).toBe(own);
  });

  it('is not proposed where a job after registering failed, the data changed, or somebody sent the change back', async () => {
    world = await createBotWorld(database());
    world.after = 'failed';
    await world.push('ada', 'exp/a', { 'model.ts': 'better\n' });
    const failing = await world.openChange('exp/a');
    expect(await settle(failing)).toBe('broken');

    world.after = null;
    world.outcome = 'failed';
    const yaml = projectYaml().replace('test: 0.2', 'test: 0.3');
    await world.push('ada', 'exp/b', { 'model.ts': 'better\n', 'cdl.yaml': yaml });
    const other = await world.openChange('exp/b');
    expect(await settle(other)).toBe('broken');
    await world.push('ada', 'exp/c', { 'model.ts': 'better\n', 'notes.md': 'same code\n' });
    const rejected = await world.openChange('exp/c');
    const id = await world.say('vera', rejected, '/reject train "more epochs"');
    await handleComment(world.context, rejected, id, false);
    expect(await settle(rejected)).toBe('broken');
    await world.push('ada', 'exp/c', { 'notes.md': 'still the same\n' });
    expect(await settle(rejected)).toBe('broken');
  });

  it('is proposed by /register where the change’s own pipeline made another one', async () => {
    world = await createBotWorld(database());
    const head = await world.push('ada', 'exp/a', { 'model.ts': 'better\n' });
    const change = await world.openChange('exp/a');
    expect(await settle(change)).toBe('judged');
    expect(await lockedVersion(change)).toBe(1);
    versions.set('taken', 1);
    await registerElsewhere(head, { count: 3000 });
    expect(await answer(change, '/register 4711')).toContain('has no version 4711');
    expect(await answer(change, '/register 2')).toContain('it is proposed');
    expect(await settle(change)).toBe('judged');
    expect(await lockedVersion(change)).toBe(2);

    await world.push('ada', 'exp/a', { 'model.ts': 'other\n' });
    expect(await answer(change, '/register 2')).toContain('code:');
  });
});

describe('an event of the default branch', () => {
  /** The changes that are queued because of it. */
  async function queued(): Promise<number[]> {
    const before = world.tasks.length;
    const branch = await world.context.forge.defaultBranch();
    await queueWaiting(world.context, (await world.context.mirror.head(branch))!);
    return world.tasks.slice(before).flatMap((task) => (task.kind === 'change' ? [task.change] : []));
  }

  it('has every open change looked at when the branch moved, otherwise those alone that wait for an evaluation', async () => {
    world = await createBotWorld(database());
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    const done = await world.openChange('exp/a');
    expect(await settle(done)).toBe('judged');
    expect(await queued()).toEqual([done]);
    expect(await queued()).toEqual([]);

    await world.push('ada', 'exp/b', { 'model.ts': 'better\n' });
    const waiting = await world.openChange('exp/b');
    expect((await converge(waiting))[0]?.standing).toBe('evaluating');
    expect(await queued()).toEqual([waiting]);
    expect(await settle(waiting)).toBe('judged');
    expect(await queued()).toEqual([]);

    await mergeAsOwner(done);
    expect(await queued()).toEqual([waiting]);
    expect(await queued()).toEqual([]);
  });
});

describe('looking for what no webhook told', () => {
  it('asks two questions where nothing happened, and looks at what moved, was said or waits for a job', async () => {
    world = await createBotWorld(database());
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    const change = await world.openChange('exp/a');
    await settle(change);
    const now = { ...world.context, now: () => new Date() };
    const later = { ...world.context, now: () => new Date(Date.now() + 3_600_000) };
    await reconcile(now);
    const look = async (context = later) => {
      world.tasks.length = 0;
      const asked: string[] = [];
      const stop = watchForge(({ method, route }) => asked.push(`${method} ${route}`));
      await reconcile(context, false);
      stop();
      return { asked, tasks: world.tasks.map(({ kind }) => kind) };
    };
    await reconcile(later);
    // Which changes were updated, and (git) where the branches are.
    const idle = ['GET /api/v4/projects/:x/merge_requests', 'POST /:x'];
    expect(await look()).toEqual({ asked: idle, tasks: [] });
    const converged = (standing: 'waiting' | 'judged') => [
      {
        model: 'fashion',
        environment: 'production',
        standing,
        status: {
          name: 'cdl/fashion',
          state: 'pending' as const,
          description: '',
          url: null,
          pipeline: null,
        },
        isOpen: true,
      },
    ];
    await noteStanding(world.context.state, change, converged('waiting'), new Date());
    const waiting = await look();
    expect(waiting).toEqual({ asked: idle, tasks: ['change', 'branch'] });
    await noteStanding(world.context.state, change, converged('judged'), new Date());
    expect((await look()).tasks).toEqual([]);
    await world.push('ada', 'exp/b', { 'other.ts': 'x\n' });
    expect((await look()).tasks).toEqual(['branch']);
    // Within the time that looks overlap, what was said counts as an update.
    await world.context.state.setCursor('looked', new Date().toISOString());
    await world.say('vera', change, '/status');
    expect((await look(now)).tasks).toEqual(['change', 'comment', 'branch']);
  });
});

describe('a push to a branch without a change', () => {
  const yaml = projectYaml('triggers:\n  - { branches: ["exp/*"], task: train }\n');
  const runs = () => [...world.project.pipelines.values()].filter((one) => one.inputs.cdl_task === 'train');
  const statusOf = (sha: string) =>
    world.project.statuses.filter((one) => one.sha === sha && one.name === triggerStatus).at(-1);

  it('starts training once by the rules of the default branch, as the bot, and stops what an earlier push started', async () => {
    world = await createBotWorld(database(), yaml);
    world.outcome = 'running';
    const first = await world.push('ada', 'exp/a', { 'model.ts': 'one\n' });
    for (let i = 0; i < 2; i++) await convergePush(world.context, 'exp/a');
    expect(runs().map((one) => [one.sha, one.userId])).toEqual([[first, world.people.bot.id]]);
    expect(statusOf(first)).toMatchObject({ status: 'running' });
    const second = await world.push('ada', 'exp/a', { 'model.ts': 'two\n' });
    await convergePush(world.context, 'exp/a');
    expect(runs().map((one) => [one.sha, one.status])).toEqual([
      [first, 'canceled'],
      [second, 'running'],
    ]);
    runs()[1]!.status = 'success';
    await convergePush(world.context, 'exp/a');
    expect(statusOf(second)).toMatchObject({ status: 'success' });
  });

  it('is found by reconciling when no webhook told it: once, and not what was pushed before the bot was there', async () => {
    world = await createBotWorld(database(), yaml);
    world.outcome = 'running';
    await world.push('ada', 'exp/old', { 'model.ts': 'old\n' });
    await reconcile(world.context);
    const look = async () => {
      world.tasks.length = 0;
      await reconcile(world.context);
      const pushes = world.tasks.flatMap((task) => (task.kind === 'push' ? [task.branch] : []));
      for (const branch of pushes) await convergePush(world.context, branch);
      return pushes;
    };
    expect(await look()).toEqual([]);
    const first = await world.push('ada', 'exp/a', { 'model.ts': 'one\n' });
    await world.push('ada', 'feature/a', { 'model.ts': 'two\n' });
    expect(await look()).toEqual(['exp/a']);
    expect(runs().map((one) => one.sha)).toEqual([first]);
    // Its end is not told either.
    runs()[0]!.status = 'success';
    expect(await look()).toEqual(['exp/a']);
    expect(statusOf(first)).toMatchObject({ status: 'success' });
    expect(await look()).toEqual([]);
    expect(runs()).toHaveLength(1);
    // Killed before it has noted where the branches are, it finds the same again and starts nothing twice.
    const noted = (await world.context.state.cursor('heads'))!;
    const second = await world.push('ada', 'exp/old', { 'model.ts': 'newer\n' });
    expect(await look()).toEqual(['exp/old']);
    await world.context.state.setCursor('heads', noted);
    expect(await look()).toEqual(['exp/old']);
    expect(runs().map((one) => one.sha)).toEqual([first, second]);
  });

  it('starts nothing for branches no rule names, for those with a change, by rules of the branch itself, or over budget', async () => {
    world = await createBotWorld(database(), `${yaml}budgets: { day: { job_seconds: 10 } }\n`);
    await world.push('ada', 'feature/a', { 'cdl.yaml': yaml.replace('exp/*', '**') });
    await convergePush(world.context, 'feature/a');
    const before = world.tasks.length;
    await convergePush(world.context, 'main');
    // Whoever took the delivery in did not know which the default branch is.
    expect(world.tasks.slice(before)).toEqual([{ kind: 'branch' }]);
    await convergePush(world.context, 'exp/never-there');
    await world.push('ada', 'exp/b', { 'model.ts': 'two\n' });
    await world.openChange('exp/b');
    await convergePush(world.context, 'exp/b');
    const sha = await world.push('ada', 'exp/c', { 'model.ts': 'three\n' });
    const spent = { pipeline: '1', change: 0, name: 'train', seconds: 11, gpu: false };
    await world.context.state.setJobs([{ ...spent, job: '1', endedAt: new Date().toISOString() }]);
    await convergePush(world.context, 'exp/c');
    expect(runs()).toEqual([]);
    expect(statusOf(sha)).toMatchObject({
      status: 'failed',
      description: expect.stringContaining('used up'),
    });
  });
});

describe('drift', () => {
  it('is also a lock of the default branch that cannot be read', async () => {
    world = await createBotWorld(database(), projectYaml(), { 'cdl.lock': 'version: 1\nmodels: nonsense\n' });
    for (let i = 0; i < 2; i++) await keepDrift(world.context);
    const issues = [...world.project.issues.values()];
    expect(issues.map((one) => one.state)).toEqual(['opened']);
    expect(issues[0]!.description).toContain('cdl.lock of main cannot be read');
  });

  it('is one issue, kept up to date, and closed when all is well; looked for once in so many hours', async () => {
    world = await createBotWorld(database());
    const issues = () => [...world.project.issues.values()];
    await keepDrift(world.context);
    expect(issues()).toEqual([]);
    await world.push('ada', 'exp/a', { 'model.ts': 'one\n' });
    const change = await world.openChange('exp/a');
    await settle(change);
    await mergeAsOwner(change);
    for (let i = 0; i < 2; i++) await keepDrift(world.context);
    expect(issues()).toHaveLength(1);
    expect(issues()[0]!.description).toContain('nothing is live');
    expect(issues()[0]!.description).toContain('nobody decided');
    const tip = (await world.context.mirror.head('main'))!;
    const {
      candidate,
      evaluation,
      package: packaged,
      info,
    } = (await lockOf(tip)).models.fashion!.production!;
    await world.trusted.copyArtifact(world.work, packaged);
    const since = '2026-01-01T00:00:00.000Z';
    await world.context.effects.appendDecision({
      candidate,
      evaluation,
      project: 'fashion',
      model: 'fashion',
      environment: 'production',
      baseline: null,
      plan: candidate,
      decision: 'promoted',
      approvers: [],
      policy: candidate,
      change: `!${change}`,
    });
    const { version } = info;
    await world.setLive({
      current: { candidate, evaluation, package: packaged, plan: candidate, version, since, commit: tip },
    });
    await keepDrift(world.context);
    expect(issues().map((one) => one.state)).toEqual(['closed']);

    world.tasks.length = 0;
    await scheduleDrift(world.context, 24);
    await scheduleDrift(world.context, 24);
    expect(world.tasks).toEqual([{ kind: 'drift' }]);
    const later = { ...world.context, now: () => new Date(Date.now() + 25 * 3600_000) };
    await scheduleDrift(later, 24);
    expect(world.tasks).toHaveLength(2);
  });
});
