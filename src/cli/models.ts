import { type Actions, act } from './actions.ts';
import { type ModelsDesk, openModels } from './models-desk.ts';
import type { CommandInput } from './types.ts';

const actions: Actions<ModelsDesk> = {
  ls: async () => (await import('./models-show.ts')).ls,
  show: async () => (await import('./models-show.ts')).show,
  diff: async () => (await import('./models-diff.ts')).diff,
  lineage: async () => (await import('./models-lineage.ts')).lineage,
  pull: async () => (await import('./models-pull.ts')).pull,
  prune: async () => (await import('./models-prune.ts')).prune,
  verify: async () => (await import('./models-verify.ts')).verify,
};

/** `cdl models ls | show | diff | lineage | pull | prune | verify`: the versions that `register` made, and what is known of each. */
export function models(input: CommandInput): Promise<number> {
  return act('models', actions, input, () => openModels(input));
}
