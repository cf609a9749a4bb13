import { afterEach, expect, it, vi } from 'vitest';
import { lately } from '../../src/forge/lately.ts';

afterEach(() => {
  vi.useRealTimers();
});

it('asks once for all who want to know within a time, and anew after it or after a failure', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  let asked = 0;
  let fails = false;
  const branch = lately(1000, async () => {
    asked++;
    if (fails) throw new Error('away');
    return `main ${asked}`;
  });
  expect(await Promise.all([branch(), branch()])).toEqual(['main 1', 'main 1']);
  vi.advanceTimersByTime(999);
  expect(await branch()).toBe('main 1');
  vi.advanceTimersByTime(1);
  fails = true;
  await expect(branch()).rejects.toThrow('away');
  fails = false;
  expect(await branch()).toBe('main 3');
});
