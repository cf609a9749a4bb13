/**
 * Does `work` for every one, `atOnce` at a time, and gives what came of it in their order. The first failure stops the
 * others through the signal they are given, and is thrown when all have ended.
 */
export async function inOrder<T, R>(
  all: readonly T[],
  atOnce: number,
  signal: AbortSignal | undefined,
  work: (one: T, index: number, signal: AbortSignal) => Promise<R>,
): Promise<R[]> {
  const stop = new AbortController();
  const both = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  const results = new Array<R>(all.length);
  const failures: unknown[] = [];
  let next = 0;
  const worker = async () => {
    while (next < all.length && !stop.signal.aborted) {
      const index = next++;
      try {
        results[index] = await work(all[index]!, index, both);
      } catch (error) {
        failures.push(error);
        stop.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, all.length) }, worker));
  if (failures.length > 0) throw failures[0];
  return results;
}
