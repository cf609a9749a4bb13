import { UserError } from '../core/error.ts';
import type { Dimension } from '../core/project-tune.ts';
import { permutation, type Random, seededRandom } from './random.ts';

/** A value of one hyperparameter. */
export type Scalar = number | string | boolean;
/** One point of a search space: hyperparameters by name. */
export type Point = Record<string, Scalar>;
/** A search space by the names of its hyperparameters. */
export type Space = Readonly<Record<string, Dimension>>;

const shared = (text: number) => Number(text.toPrecision(6));

/** The value at a place in [0, 1] of a dimension. Six digits, so that what is written down is what was trained. */
export function valueAt(dimension: Dimension, place: number): Scalar {
  if ('choice' in dimension) {
    const { choice } = dimension;
    return choice[Math.min(choice.length - 1, Math.floor(place * choice.length))]!;
  }
  if ('int' in dimension) {
    const [low, high] = dimension.int;
    // Every whole number is the middle of an interval of its own.
    const [from, to] = [low - 0.5, high + 0.5];
    const exact = dimension.log && from > 0 ? from * (to / from) ** place : from + (to - from) * place;
    return Math.min(high, Math.max(low, Math.round(exact)));
  }
  if ('log' in dimension) {
    const [low, high] = dimension.log;
    return shared(low * (high / low) ** place);
  }
  const [low, high] = dimension.uniform;
  return shared(low + (high - low) * place);
}

/** Where a value lies in its dimension, in [0, 1]: the reverse of {@link valueAt} (the middle of what gives it). */
export function placeOf(dimension: Dimension, value: Scalar): number {
  if ('choice' in dimension) {
    const { choice } = dimension;
    return (Math.max(0, choice.indexOf(value)) + 0.5) / choice.length;
  }
  const number = Number(value);
  if ('int' in dimension) {
    const [from, to] = [dimension.int[0] - 0.5, dimension.int[1] + 0.5];
    return dimension.log && from > 0
      ? Math.log(number / from) / Math.log(to / from)
      : (number - from) / (to - from);
  }
  const isLog = 'log' in dimension;
  const [low, high] = isLog ? dimension.log : dimension.uniform;
  return isLog ? Math.log(number / low) / Math.log(high / low) : (number - low) / (high - low);
}

/** A point drawn uniformly, every dimension on its own scale. */
export function randomPoint(space: Space, random: Random): Point {
  return Object.fromEntries(
    Object.entries(space).map(([name, dimension]) => [name, valueAt(dimension, random())]),
  );
}

/** How many points a grid has with `steps` values on each continuous dimension. */
export function gridSize(space: Space, steps: number): number {
  return Object.values(space).reduce((product, one) => product * gridValues(one, steps).length, 1);
}

/**
 * Point `index` of the grid, in an order shuffled by `seed`, so that a budget smaller than the grid still covers all of it.
 * Throws UserError config-invalid for a grid too large to be shuffled (more than 10⁶ points).
 */
export function gridPoint(space: Space, steps: number, seed: number, index: number): Point {
  const size = gridSize(space, steps);
  if (size > 1e6) {
    throw new UserError(
      'config-invalid',
      `the grid has ${size} points; take a smaller grid, or another sampler`,
    );
  }
  let rest = permutation(size, seededRandom('grid', seed))[index % size]!;
  return Object.fromEntries(
    Object.entries(space).map(([name, dimension]) => {
      const values = gridValues(dimension, steps);
      const value = values[rest % values.length]!;
      rest = Math.floor(rest / values.length);
      return [name, value];
    }),
  );
}

function gridValues(dimension: Dimension, steps: number): Scalar[] {
  if ('choice' in dimension) return [...dimension.choice];
  // Ends included: that is where the best of a grid often lies.
  const ends = Array.from({ length: steps }, (_, at) => at / (steps - 1));
  return [...new Set(ends.map((place) => valueAt(dimension, place)))];
}
