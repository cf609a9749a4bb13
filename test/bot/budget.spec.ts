import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { asksForGpu, mergeJobs, overrunOf, type SpentJob, sumOf } from '../../bot/budget.ts';
import { convergeChange } from '../../bot/converge.ts';
import { type Database, openDatabase, parseProject } from '../../src/index.ts';
import { type BotWorld, createBotWorld, projectYaml } from './world.ts';

const now = new Date('2026-01-02T00:00:00Z');
const job = (id: string, change: number, seconds: number, hoursAgo: number | null, gpu = true): SpentJob => ({
  job: id,
  pipeline: '1',
  change,
  name: 'train',
  seconds,
  gpu,
  endedAt: hoursAgo === null ? null : new Date(now.getTime() - hoursAgo * 3600_000).toISOString(),
});

describe('a budget', () => {
  const budgets = { change: { gpu_seconds: 100 }, day: { gpu_seconds: 150, job_seconds: 1000 } };

  it('of a change counts its jobs alone, whenever they ran', () => {
    const jobs = [job('1', 12, 60, 40), job('2', 12, 40, 1), job('3', 13, 40, 1)];
    expect(overrunOf(budgets, 12, jobs, now)).toMatchObject({
      scope: 'change',
      used: 100,
      limit: 100,
      frees: null,
    });
    expect(overrunOf(budgets, 13, jobs, now)).toBeNull();
    expect(overrunOf(undefined, 12, jobs, now)).toBeNull();
    expect(overrunOf({ change: {}, day: {} }, 12, jobs, now)).toBeNull();
  });

  it('of a day counts everybody’s jobs, and says when there is room again', () => {
    const jobs = [job('1', 1, 90, 20), job('2', 2, 90, 2), job('3', 3, 90, 30)];
    expect(overrunOf(budgets, 12, jobs, now)).toMatchObject({
      scope: 'day',
      unit: 'gpu_seconds',
      used: 180,
      frees: '2026-01-02T04:00:00.000Z',
    });
    const running = [job('1', 1, 200, null)];
    expect(overrunOf(budgets, 12, running, now)).toMatchObject({ used: 200, frees: null });
  });

  it('of GPU time does not count jobs without one', () => {
    const jobs = [job('1', 12, 900, 1, false)];
    expect(overrunOf(budgets, 12, jobs, now)).toBeNull();
    expect(overrunOf(budgets, 12, [...jobs, job('2', 1, 100, 1, false)], now)).toMatchObject({
      unit: 'job_seconds',
    });
  });

  it('knows a GPU by the tags of the runner', () => {
    for (const tag of ['gpu', 'saas-linux-gpu-t4', 'GPU:2', 'gpus'])
      expect(asksForGpu(['x', tag]), tag).toBe(true);
    for (const tag of ['cpu', 'bigpug', 'linux']) expect(asksForGpu([tag]), tag).toBe(false);
  });

  it('counts a job once, however often and in whatever order it is noted', () => {
    const jobs = fc.array(
      fc.record({ id: fc.integer({ min: 1, max: 9 }), seconds: fc.integer({ min: 0, max: 50 }) }),
    );
    fc.assert(
      fc.property(jobs, (given) => {
        const all = given.map(({ id, seconds }) => job(String(id), 12, seconds, 1));
        const last = new Map(all.map((one) => [one.job, one.seconds]));
        const sum = [...last.values()].reduce((a, b) => a + b, 0);
        const merged = all.reduce<SpentJob[]>((stored, one) => mergeJobs(stored, [one]), []);
        expect(sumOf(merged).gpuSeconds).toBe(sum);
        expect(sumOf(mergeJobs(merged, all)).jobSeconds).toBe(sum);
      }),
    );
  });

  it('takes positive figures only, and names the key that is wrong', () => {
    expect(() => parseProject(projectYaml('budgets: { change: { gpu_seconds: 0 } }\n'))).toThrow(
      /gpu_seconds/,
    );
    expect(() => parseProject(projectYaml('budgets: { week: {} }\n'))).toThrow(/week/);
  });
});

describe('the bot and a budget', () => {
  let database: Database;
  let world: BotWorld;
  beforeAll(async () => {
    database = await openDatabase({
      url: null,
      folder: join(process.env.TMPDIR ?? '/tmp', `cdl-budget-${process.pid}`),
    });
    world = await createBotWorld(database, projectYaml('budgets: { change: { gpu_seconds: 100 } }\n'));
  });
  afterAll(async () => {
    await world?.close();
    await database?.close();
  });

  it('shows the cost, stops a pipeline that is over it, says so once, and starts no evaluation', async () => {
    const { context } = world;
    world.cost = { seconds: 30, tags: ['gpu'] };
    await world.push('ada', 'exp/a', { 'model.ts': 'one\n' });
    const change = await world.openChange('exp/a');
    await convergeChange(context, change, true);
    await convergeChange(context, change, true);
    // Three jobs of 30 s and what it took to note their ends.
    expect(world.comments(change).join('\n')).toMatch(/ 9\d of 100 of them on runners with a GPU/);

    world.outcome = 'running';
    world.cost = { seconds: 30, tags: ['gpu'] };
    await world.push('ada', 'exp/a', { 'model.ts': 'two\n' });
    const pipeline = [...world.project.pipelines.values()].at(-1)!;
    pipeline.status = 'running';
    for (let i = 0; i < 3; i++) await convergeChange(context, change, true);
    expect(pipeline.status).toBe('canceled');
    const said = world.comments(change).filter((body) => body.includes('The budget is used up'));
    expect(said).toHaveLength(1);
    expect(said[0]).toContain('budgets.change.gpu\\_seconds');
    expect(Object.values(world.statuses(change)).join()).toContain('has used up its GPU time');

    // A push without a trained model asks nothing; with one, the evaluation waits for room.
    const before = world.project.pipelines.size;
    world.outcome = 'success';
    await world.push('ada', 'exp/a', { 'model.ts': 'three\n' });
    await convergeChange(context, change, true);
    expect(world.project.pipelines.size).toBe(before + 1);

    // Somebody raises the limit on the default branch: it goes on, and says so.
    await world.push('ada', 'raise', {
      'cdl.yaml': projectYaml('budgets: { change: { gpu_seconds: 1000 } }\n'),
    });
    const raise = await world.openChange('raise', 'More');
    const url = `${world.sandbox.url}/api/v4/projects/${world.project.id}/merge_requests/${raise}/merge`;
    await fetch(url, { method: 'PUT', headers: { 'private-token': world.people.evaluator.token } });
    await convergeChange(context, change, true);
    expect(world.comments(change).some((body) => body.includes('There is room in the budget again'))).toBe(
      true,
    );
    expect([...world.project.pipelines.values()].at(-1)!.inputs.cdl_task).toBe('evaluate');
    // What was spent survives a bot that forgets all but its tables.
    expect(sumOf(await context.state.jobsOf(change)).gpuSeconds).toBeGreaterThan(150);
  });

  it('tells a draft when it is ready, and stops its pipeline before', async () => {
    const { context } = world;
    world.outcome = 'success';
    world.cost = { seconds: 2000, tags: ['gpu'] };
    await world.push('ada', 'exp/draft', { 'model.ts': 'draft\n' });
    const change = await world.openChange('exp/draft', 'Draft: Better');
    await convergeChange(context, change, true);
    world.outcome = 'running';
    await world.push('ada', 'exp/draft', { 'model.ts': 'draft two\n' });
    const pipeline = [...world.project.pipelines.values()].at(-1)!;
    for (let i = 0; i < 2; i++) await convergeChange(context, change, true);
    expect(pipeline.status).toBe('canceled');
    expect(world.comments(change)).toEqual([]);
    await world.api('ada', 'PUT', `merge_requests/${change}`, { title: 'Better' });
    for (let i = 0; i < 2; i++) await convergeChange(context, change, true);
    expect(world.comments(change).filter((body) => body.includes('The budget is used up'))).toHaveLength(1);
  });
});
