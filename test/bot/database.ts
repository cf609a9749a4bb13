import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { type Database, openDatabase } from '../../src/index.ts';

/** A database that is open while the tests around this call run; ask for it in them. */
export function useDatabase(): () => Database {
  let folder: string;
  let database: Database;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cdl-bot-database-'));
    database = await openDatabase({ url: process.env.CDL_TEST_DATABASE ?? null, folder });
  });
  afterAll(async () => {
    await database?.close();
    // Its server may still be stopping.
    await rm(folder, { recursive: true, force: true, maxRetries: 10 });
  });
  return () => database;
}
