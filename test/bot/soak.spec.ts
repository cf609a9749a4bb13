import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Database, openDatabase } from '../../src/index.ts';
import { soak } from './soak/run.ts';

let folder: string;
let database: Database;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-soak-database-'));
  database = await openDatabase({ url: process.env.CDL_TEST_DATABASE ?? null, folder });
});
afterAll(async () => {
  await database?.close();
  await rm(folder, { recursive: true, force: true });
});

const wanted = Number(process.env.CDL_SOAK ?? 0);
const first = Number(process.env.CDL_SEED ?? Math.floor(Math.random() * 1_000_000));

/** Runs soaks until there were `total` changes; prints the seed of one that fails, for CDL_SEED. */
async function soaks(total: number, size: number) {
  let changes = 0;
  let merged = 0;
  for (let seed = first; changes < total; seed++) {
    const result = await soak(database, seed, size).catch((error: unknown) => {
      throw new Error(`CDL_SEED=${seed}, ${size} changes: ${String(error)}`, { cause: error });
    });
    if (process.env.CDL_SOAK) console.info(`seed ${seed}: ${JSON.stringify(result)}`);
    changes += result.changes;
    merged += result.merged;
  }
  return { changes, merged };
}

describe('two bots on one database, with webhooks lost, doubled and late, restarts and a failing forge', () => {
  // Far more time than it takes, on machines that do other things.
  const timeout = 240_000;
  it('end in the comments, statuses, locks, decisions and releases the last facts call for', {
    timeout,
  }, async () => {
    const { changes } = await soaks(3, 3);
    expect(changes).toBe(3);
  });
});

describe.skipIf(wanted === 0)(
  `the same with ${wanted || 1000} changes${wanted === 0 ? ' (skipped: CDL_SOAK is not set; it takes minutes)' : ''}`,
  () => {
    it('ends in exactly what the oracle says', { timeout: 10_000_000 }, async () => {
      const { changes, merged } = await soaks(wanted, 6);
      expect(changes).toBeGreaterThanOrEqual(wanted);
      expect(merged).toBeGreaterThan(wanted / 50);
    });
  },
);
