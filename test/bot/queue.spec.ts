import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { dropTask, readQueue, renderQueue, replayTasks, tendQueue } from '../../bot/queue.ts';
import { createBotState } from '../../bot/state.ts';
import type { Task } from '../../bot/types.ts';
import { jobOf, taskName, taskOfKey } from '../../bot/work.ts';
import { openQueue } from '../../src/index.ts';
import { doQueued, useDatabase } from './database.ts';

const project = 'team/fashion';

describe("the bot's queue, from outside", () => {
  const database = useDatabase();

  async function add(task: Task): Promise<void> {
    const queue = await openQueue(database(), {}, { concurrency: 1 });
    await queue.add(taskName(project), { task }, jobOf(project, task));
    await queue.stop();
  }

  const states = async () => (await readQueue(database())).map((row) => [row.state, row.key]);

  it('is empty, or only dead letters, before any bot ran', async () => {
    expect(renderQueue(await readQueue(database()))).toBe('the queue is empty');
    await createBotState(database(), project).setCursor(`failed/${project} change:9`, 'no');
    expect(await states()).toEqual([['dead', `${project} change:9`]]);
    await dropTask(database(), `${project} change:9`);
    expect(await states()).toEqual([]);
  });

  describe('with tasks', () => {
    beforeEach(async () => {
      await database().query('delete from bot_cursors');
      await add({ kind: 'change', change: 7 });
      await database().query('select graphile_worker.complete_jobs(array_agg(id)) from graphile_worker.jobs');
      await add({ kind: 'change', change: 7 });
      await createBotState(database(), project).setCursor(
        `failed/${project} change:8 comment:31`,
        'no such step\nmore',
      );
    });

    it('lists what waits and what is dead, with the reason in one line', async () => {
      expect(await states()).toEqual([
        ['waiting', `${project} change:7`],
        ['dead', `${project} change:8 comment:31`],
      ]);
      expect(renderQueue(await readQueue(database()))).toMatch(/comment:31\s+no such step$/);
    });

    it('replays a dead letter as the task it was, and takes the letter back', async () => {
      expect(await replayTasks(database(), 'all')).toEqual([`${project} change:8 comment:31`]);
      expect(await states()).toEqual([
        ['waiting', `${project} change:7`],
        ['waiting', `${project} change:8 comment:31`],
      ]);
      const done = await doQueued(database(), project, 2);
      expect(done).toContainEqual({ task: { kind: 'comment', change: 8, comment: '31' } });
      expect(await states()).toEqual([]);
    });

    it('leaves a running task alone, and says so', async () => {
      await database().query('update graphile_worker._private_jobs set locked_at = now(), locked_by = $1', [
        'w',
      ]);
      expect((await states())[0]).toEqual(['running', `${project} change:7`]);
      await expect(dropTask(database(), `${project} change:7`)).rejects.toThrow(/is running/);
      await expect(replayTasks(database(), `${project} change:7`)).rejects.toThrow(/is running/);
      await database().query('update graphile_worker._private_jobs set locked_at = null, locked_by = null');
      await dropTask(database(), `${project} change:7`);
      expect(await states()).toEqual([['dead', `${project} change:8 comment:31`]]);
    });

    it('refuses a key that is not there, and a failure that is no task', async () => {
      await expect(dropTask(database(), 'nothing')).rejects.toThrow(/no task "nothing"/);
      await createBotState(database(), project).setCursor('failed/of another kind', 'denied');
      await expect(replayTasks(database(), 'of another kind')).rejects.toThrow(
        /no task that can be replayed/,
      );
      expect(await states()).toContainEqual(['dead', 'of another kind']);
    });

    it('replays a release that failed as the task of the default branch', async () => {
      await createBotState(database(), project).setCursor('failed/release model/m/v1', 'denied');
      expect(await replayTasks(database(), 'release model/m/v1')).toEqual(['release model/m/v1']);
      expect(await states()).toContainEqual(['waiting', `${project} branch`]);
      expect((await states()).flat()).not.toContain('release model/m/v1');
    });

    it('is found by its URL alone', async () => {
      const { data } = await tendQueue({ CDL_DATABASE: database().url }, { replay: null, drop: null });
      expect(data.tasks).toHaveLength(2);
    });
  });
});

it('a key says which task it is of', () => {
  const id = fc.integer({ min: 1, max: 1e9 });
  const task = fc.oneof(
    fc.record({ kind: fc.constant('change' as const), change: id }),
    fc.record({ kind: fc.constant('comment' as const), change: id, comment: id.map(String) }),
    fc.record({ kind: fc.constant('push' as const), branch: fc.string({ minLength: 1 }) }),
    fc.constantFrom<Task>({ kind: 'branch' }, { kind: 'registry' }, { kind: 'drift' }),
  );
  fc.assert(
    fc.property(task, (one) => {
      expect(taskOfKey(project, jobOf(project, one).key)).toEqual(one);
    }),
  );
});
