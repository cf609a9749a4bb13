import { type Actions, act } from './actions.ts';
import { type Desk, openDesk } from './data-desk.ts';
import type { CommandInput } from './types.ts';

const actions: Actions<Desk> = {
  analyze: async () => (await import('./data-analyze.ts')).analyze,
  add: async () => (await import('./data-add.ts')).addPaths,
  log: async () => (await import('./data-history.ts')).log,
  diff: async () => (await import('./data-history.ts')).diff,
  checkout: async () => (await import('./data-checkout.ts')).checkout,
  ls: async () => (await import('./data-read.ts')).ls,
  get: async () => (await import('./data-read.ts')).get,
  push: async () => (await import('./data-share.ts')).push,
  pull: async () => (await import('./data-share.ts')).pull,
  pin: async () => (await import('./data-pin.ts')).pin,
};

/** `cdl data analyze | add | log | diff | checkout | ls | get | push | pull | pin`: versions of folders and data sets. */
export function data(input: CommandInput): Promise<number> {
  return act('data', actions, input, () => openDesk(input));
}
