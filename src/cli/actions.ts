import { UserError } from '../core/error.ts';
import { nearest } from '../core/suggest.ts';
import type { CommandInput } from './types.ts';

/** One action of a command such as `cdl data`: `desk` is what all of its actions work with. */
export type Action<Desk> = (input: CommandInput, desk: Desk, what: readonly string[]) => Promise<number>;

/** Actions by name; each loads what it needs, so that a quick one does not wait for what the others use. */
export type Actions<Desk> = Readonly<Record<string, () => Promise<Action<Desk>>>>;

/** Does the action that the command line names, at a desk that is opened only then. Throws UserError usage for one there is not. */
export async function act<Desk>(
  command: string,
  actions: Actions<Desk>,
  input: CommandInput,
  openDesk: () => Promise<Desk>,
): Promise<number> {
  const [action, what] = input.args as unknown as [string, string[] | undefined];
  const load = Object.hasOwn(actions, action) ? actions[action] : undefined;
  if (!load) {
    const names = Object.keys(actions);
    const guess = nearest(action, names);
    throw new UserError(
      'usage',
      `cdl ${command} takes ${names.join(', ')}, not ${action}${guess ? ` — did you mean ${guess}?` : ''}`,
    );
  }
  const run = await load();
  return run(input, await openDesk(), what ?? []);
}

/** How many to list at most: `--number`. Throws UserError usage. */
export function mostListed(input: CommandInput): number {
  const most = Number(input.options.number);
  if (!Number.isInteger(most) || most < 1) throw new UserError('usage', '--number takes a number from 1 on');
  return most;
}
