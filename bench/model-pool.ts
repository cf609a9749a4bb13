import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { tuneSchema } from '../src/core/project-tune.ts';
import { packageRoot } from '../src/exec/root.ts';

/** Items that a configuration trains on in an epoch: of the fashion example, so few that the pool takes minutes. */
export const searchItems = 5000;
/** Items that it is judged by. */
export const validationItems = 4000;

const pool = (space: Record<string, unknown>) =>
  tuneSchema.parse({ space, metric: 'validation_accuracy', max_epochs: 27, trials: 64, seed: 1 });

/** Pools of 64 configurations of four hyperparameters, each trained for 27 epochs. */
export const pools = {
  /** What the fashion example searches: learning rates over five powers of ten, as in the tasks of Li et al. 2018 (appendix A). */
  wide: pool(parse(readFileSync(join(packageRoot(), 'templates/fashion/tune.yaml'), 'utf8')).space),
  /** The same where somebody knew already which learning rates are worth a try. */
  narrow: pool({
    hidden: { int: [32, 256], log: true },
    learning_rate: { log: [0.0003, 0.03] },
    batch_size: { choice: [64, 128, 256, 512] },
    optimizer: { choice: ['adam', 'momentum', 'rmsprop'] },
  }),
};
