import { UserError } from '../core/error.ts';
import type { ModelConfig } from '../core/project.ts';
import type { Hyperparameters, OptimizerName } from '../train/types.ts';

/** The trainer's own hyperparameters by their names in `cdl.yaml`; the rest is the user's. Throws UserError config-invalid. */
export function hyperparametersOf(given: ModelConfig['hyperparameters']): Hyperparameters {
  const { epochs, batch_size, learning_rate, optimizer, patience, min_delta, ...own } = given;
  const number = (name: string, value: unknown, fallback: number) => {
    if (value === undefined) return fallback;
    if (typeof value === 'number') return value;
    throw new UserError(
      'config-invalid',
      `hyperparameters.${name} takes a number, not ${JSON.stringify(value)}`,
    );
  };
  return {
    ...own,
    epochs: number('epochs', epochs, 5),
    batchSize: number('batch_size', batch_size, 64),
    learningRate: number('learning_rate', learning_rate, 0.001),
    optimizer: (optimizer ?? 'adam') as OptimizerName,
    earlyStopping:
      patience === undefined
        ? null
        : { patience: number('patience', patience, 3), minDelta: number('min_delta', min_delta, 0) },
  };
}
