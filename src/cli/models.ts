import { UserError } from '../core/error.ts';
import { nearest } from '../core/suggest.ts';
import { type ModelsDesk, openModels } from './models-desk.ts';
import type { CommandInput } from './types.ts';

type Action = (input: CommandInput, desk: ModelsDesk, what: readonly string[]) => Promise<number>;

const actions: Readonly<Record<string, () => Promise<Action>>> = {
  ls: async () => (await import('./models-show.ts')).ls,
  show: async () => (await import('./models-show.ts')).show,
  diff: async () => (await import('./models-diff.ts')).diff,
  lineage: async () => (await import('./models-lineage.ts')).lineage,
  pull: async () => (await import('./models-pull.ts')).pull,
  verify: async () => (await import('./models-verify.ts')).verify,
};

/** `cdl models ls | show | diff | lineage | pull | verify`: the versions that `register` made, and what is known of each. */
export async function models(input: CommandInput): Promise<number> {
  const [action, what] = input.args as unknown as [string, string[] | undefined];
  const run = Object.hasOwn(actions, action) ? actions[action] : undefined;
  if (!run) {
    const names = Object.keys(actions);
    const guess = nearest(action, names);
    throw new UserError(
      'usage',
      `cdl models takes ${names.join(', ')}, not ${action}${guess ? ` — did you mean ${guess}?` : ''}`,
    );
  }
  return (await run())(input, await openModels(input), what ?? []);
}
