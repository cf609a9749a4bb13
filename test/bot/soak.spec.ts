import { describe, expect, it } from 'vitest';
import { useDatabase } from './database.ts';
import { type SoakResult, soak } from './soak/run.ts';

const database = useDatabase();

const wanted = Number(process.env.CDL_SOAK ?? 0);
const first = Number(process.env.CDL_SEED ?? Math.floor(Math.random() * 1_000_000));

/**
 * Soaks until there were `total` changes, in projects of at most `size`, some at once; what happened in all of them. Prints
 * the seed of one that fails, for CDL_SEED.
 */
async function soaks(total: number, size: number, atOnce: number) {
  const sum = {
    changes: 0,
    merged: 0,
    approved: 0,
    closed: 0,
    comments: 0,
    faults: 0,
    restarts: 0,
    events: 0,
  };
  let left = total;
  let seed = first;
  const work = async () => {
    while (left > 0) {
      const mine = Math.min(size, left);
      left -= mine;
      const at = seed++;
      const result: SoakResult = await soak(database(), at, mine).catch((error: unknown) => {
        left = 0;
        throw new Error(`CDL_SEED=${at}, ${mine} changes: ${String(error)}`, { cause: error });
      });
      for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += result[name];
      if (process.env.CDL_SOAK) console.info(`seed ${at}: ${JSON.stringify(result)}; ${JSON.stringify(sum)}`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return sum;
}

describe('two bots on one database, with webhooks lost, doubled and late, restarts and a failing forge', () => {
  // Far more time than it takes, on machines that do other things.
  const timeout = 240_000;
  it('end in the comments, statuses, locks, decisions and releases the last facts call for', {
    timeout,
  }, async () => {
    const { changes } = await soaks(3, 3, 1);
    expect(changes).toBe(3);
  });
});

describe.skipIf(wanted === 0)(
  `the same with ${wanted || 1000} changes${wanted === 0 ? ' (skipped: CDL_SOAK is not set; it takes minutes)' : ''}`,
  () => {
    it('ends in exactly what the oracle says', { timeout: 10_000_000 }, async () => {
      const { changes, merged, closed } = await soaks(wanted, 12, 3);
      expect(changes).toBe(wanted);
      // People get somewhere.
      expect(merged).toBeGreaterThanOrEqual(Math.floor((wanted - closed) / 10));
    });
  },
);
