import { UserError } from '../core/error.ts';
import { nearest } from '../core/suggest.ts';
import { type Desk, openDesk } from './data-desk.ts';
import type { CommandInput } from './types.ts';

type Action = (input: CommandInput, desk: Desk, what: readonly string[]) => Promise<number>;

/** Each loads what it needs: adding a folder that did not change should not wait for what the others use. */
const actions: Readonly<Record<string, () => Promise<Action>>> = {
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
export async function data(input: CommandInput): Promise<number> {
  const [action, what] = input.args as unknown as [string, string[] | undefined];
  const run = Object.hasOwn(actions, action) ? actions[action] : undefined;
  if (!run) {
    const names = Object.keys(actions);
    const guess = nearest(action, names);
    throw new UserError(
      'usage',
      `cdl data takes ${names.join(', ')}, not ${action}${guess ? ` — did you mean ${guess}?` : ''}`,
    );
  }
  return (await run())(input, await openDesk(input), what ?? []);
}
