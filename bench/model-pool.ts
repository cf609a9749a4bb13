import { tuneSchema } from '../src/core/project-tune.ts';

/** Items that a configuration trains on in an epoch: of the fashion example, so few that the pool takes minutes. */
export const searchItems = 5000;
/** Items that it is judged by. */
export const validationItems = 4000;

/** The pool of configurations: four hyperparameters, 64 points, each trained for 27 epochs. */
export const searched = tuneSchema.parse({
  space: {
    hidden: { int: [32, 256], log: true },
    learning_rate: { log: [0.0003, 0.03] },
    batch_size: { choice: [64, 128, 256, 512] },
    optimizer: { choice: ['adam', 'momentum', 'rmsprop'] },
  },
  metric: 'validation_accuracy',
  max_epochs: 27,
  trials: 64,
  seed: 1,
});
