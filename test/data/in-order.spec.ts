import { setTimeout as wait } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { inOrder } from '../../src/data/source/in-order.ts';

it('of several failures the first in order is told, however fast each was; without one all results come in order', async () => {
  const job = fc.record({ fails: fc.boolean(), scheduled: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(
      fc.array(job, { maxLength: 12 }),
      fc.integer({ min: 1, max: 5 }),
      fc.scheduler(),
      async (jobs, atOnce, scheduler) => {
        const done = inOrder(jobs, atOnce, undefined, async ({ fails, scheduled }, index) => {
          if (scheduled) await scheduler.schedule(Promise.resolve());
          if (fails) throw new Error(String(index));
          return index;
        }).then(
          (results) => results,
          (error: unknown) => error as Error,
        );
        const outcome = await scheduler.waitFor(done);
        const first = jobs.findIndex((one) => one.fails);
        if (first < 0) expect(outcome).toEqual(jobs.map((_, index) => index));
        else expect(outcome).toMatchObject({ message: String(first) });
      },
    ),
  );
});

it('a failure stops what comes after it and begins nothing more', async () => {
  const begun: number[] = [];
  const done = inOrder([0, 1, 2, 3, 4, 5], 3, undefined, async (one, _index, signal) => {
    begun.push(one);
    // Ends after the failure: what comes before it is not stopped.
    if (one === 0) await new Promise((resolve) => setImmediate(resolve));
    if (one === 1) throw new Error('one');
    if (one === 2) await wait(60_000, undefined, { signal });
    return one;
  });
  await expect(done).rejects.toThrow('one');
  expect(begun).toEqual([0, 1, 2]);
});
