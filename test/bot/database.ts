import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { taskName } from '../../bot/work.ts';
import { type Database, openDatabase, openQueue } from '../../src/index.ts';

/** A database of their own that is open while the tests around this call run; ask for it in them. */
export function useDatabase(): () => Database {
  let folder: string;
  let database: Database;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cdl-bot-database-'));
    database = await openDatabase({ url: null, folder });
  });
  afterAll(async () => {
    await database?.close();
    // Its server may still be stopping.
    await rm(folder, { recursive: true, force: true, maxRetries: 10 });
  });
  return () => database;
}

/** Does what waits in the queue for a project, `count` tasks; what the queue held, in the order in which it was done. */
export async function doQueued<T>(
  database: Database,
  project: string,
  count: number,
  work: (payload: T) => Promise<void> = async () => {},
): Promise<T[]> {
  const done: T[] = [];
  let end = () => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const handler = async (payload: unknown) => {
    await work(payload as T);
    if (done.push(payload as T) === count) end();
  };
  const queue = await openQueue(database, { [taskName(project)]: handler }, { concurrency: 1 });
  const running = queue.run();
  await ended;
  await queue.stop();
  await running;
  return done;
}
