/**
 * Does `work` for every one, `atOnce` at a time, and gives what came of it in their order. A failure stops those that come
 * after it, through the signal they are given; of several the first in order is thrown, when all have ended, so that what
 * is said does not depend on which of them was faster.
 */
export async function inOrder<T, R>(
  all: readonly T[],
  atOnce: number,
  signal: AbortSignal | undefined,
  work: (one: T, index: number, signal: AbortSignal) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(all.length);
  const workers = Array.from({ length: Math.min(atOnce, all.length) }, () => ({
    index: 0,
    stop: new AbortController(),
  }));
  let failed = all.length;
  let failure: unknown;
  let next = 0;
  await Promise.all(
    workers.map(async (self) => {
      const both = signal ? AbortSignal.any([signal, self.stop.signal]) : self.stop.signal;
      while (next < failed) {
        self.index = next++;
        try {
          results[self.index] = await work(all[self.index]!, self.index, both);
        } catch (error) {
          if (self.index > failed) continue;
          failed = self.index;
          failure = error;
          for (const other of workers) if (other.index > failed) other.stop.abort(error);
        }
      }
    }),
  );
  if (failed < all.length) throw failure;
  return results;
}
