import type { Dimension, TuneConfig } from './project-tune.ts';
import { hyperparameterProblem } from './trainer-parameters.ts';

/** Where in `tune:` something cannot be, and why. */
export interface TuneProblem {
  at: PropertyKey[];
  text: string;
}

/** Values that a dimension gives: all of a choice, of others the ends and, where it is continuous, one that is not whole. */
function samples(dimension: Dimension): unknown[] {
  if ('choice' in dimension) return dimension.choice;
  if ('int' in dimension) return dimension.int;
  const [low, high] = 'uniform' in dimension ? dimension.uniform : dimension.log;
  return [low, low + (high - low) / Math.PI, high];
}

/**
 * The rules of `tune:` that need the rest of the model: `gpus` that a training asks for, and whether the built-in trainer
 * trains it, which has hyperparameters of its own.
 */
export function tuneProblems(tune: TuneConfig, gpus: number, isBuiltIn: boolean): TuneProblem[] {
  const problems: TuneProblem[] = [];
  if (tune.gpu_seconds !== undefined && gpus === 0) {
    problems.push({
      at: ['gpu_seconds'],
      text: 'would stop nothing: resources.train.gpu is 0, so that trials take no GPU time; say seconds, or set resources.train.gpu',
    });
  }
  for (const [name, dimension] of Object.entries(tune.space)) {
    const say = (text: string) => problems.push({ at: ['space', name], text });
    if (name === 'epochs') say('cannot vary: the search itself decides it, between grace and max_epochs');
    else if (isBuiltIn && (name === 'patience' || name === 'min_delta'))
      say('cannot vary: a trial is stopped by the search, never by itself');
    else if (isBuiltIn) {
      const found = samples(dimension).map((value) => hyperparameterProblem(name, value, tune.space));
      const problem = found.find((one) => one !== null);
      if (problem) say(problem);
    }
  }
  return problems;
}
