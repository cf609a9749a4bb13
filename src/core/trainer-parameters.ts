import { nearest } from './suggest.ts';

function atLeast(least: number, whole: boolean): (value: unknown) => string | null {
  return (value) =>
    typeof value === 'number' && value >= least && (!whole || Number.isInteger(value))
      ? null
      : `takes a ${whole ? 'whole ' : ''}number of at least ${least}`;
}

/** The hyperparameters the built-in trainer itself reads, and what they must be. */
const trainerParameters: Record<string, (value: unknown) => string | null> = {
  epochs: atLeast(1, true),
  batch_size: atLeast(1, true),
  learning_rate: (value) => (typeof value === 'number' && value > 0 ? null : 'takes a number above 0'),
  patience: atLeast(1, true),
  min_delta: atLeast(0, false),
  optimizer: (value) => {
    const known = ['adam', 'sgd', 'momentum', 'rmsprop'];
    if (known.includes(String(value))) return null;
    const guess = nearest(String(value), known);
    return `is not one of ${known.join(', ')}${guess ? ` — did you mean ${guess}?` : ''}`;
  },
};

/**
 * What is wrong with a hyperparameter of a model that the built-in trainer trains; null when nothing is. Names that the trainer
 * does not read belong to the model's own code; one that is nearly the trainer's, and not beside it in `all`, is a slip.
 */
export function hyperparameterProblem(
  name: string,
  value: unknown,
  all: Readonly<Record<string, unknown>>,
): string | null {
  if (Object.hasOwn(trainerParameters, name)) {
    const problem = trainerParameters[name]!(value);
    return problem && `${JSON.stringify(value)} ${problem}`;
  }
  const guess = name.length > 4 ? nearest(name, Object.keys(trainerParameters)) : null;
  if (guess === null || Object.hasOwn(all, guess)) return null;
  return `is nearly ${guess}, which the trainer reads — did you mean ${guess}?`;
}
