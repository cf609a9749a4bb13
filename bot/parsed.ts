import { keepNewest } from '../src/index.ts';

/** How many texts each reader keeps the meaning of. */
const most = 100;

/**
 * A pure reader of texts that keeps what it made of the last of them: cdl.yaml and cdl.lock are read for every look at a change
 * and are nearly always the ones of a minute ago. Nobody may change what it gives.
 */
export function remembering<T>(read: (text: string) => T): (text: string) => T {
  const known = new Map<string, T>();
  return (text) => {
    const before = known.get(text);
    if (before !== undefined) return before;
    return keepNewest(known, most, text, read(text));
  };
}
