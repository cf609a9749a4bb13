import type { Random } from './random.ts';
import { type Point, placeOf, randomPoint, type Scalar, type Space, valueAt } from './space.ts';

/** A point that was tried, and its loss (lower is better). */
export interface Observation {
  point: Point;
  loss: number;
  /** Epochs it was trained for: losses are compared within the same number only. */
  epochs: number;
}

/** Share of the points that are drawn at random all the same, against a search that is stuck (Falkner et al. 2018). */
const adventure = 0.2;
/** Points tried at random before the model is asked. */
const start = 10;
/** Points drawn from the good ones, of which the most promising is taken. */
const draws = 24;

/**
 * The next point by a tree-structured Parzen estimator (Bergstra et al. 2011, §4; dimensions independent of each other): the
 * 15 % with the lowest losses is told from the rest by a density each, and of points drawn from the good density the one
 * with the greatest ratio good ÷ rest is taken. Asks the highest number of epochs that enough points have reached (as BOHB
 * does, Falkner et al. 2018); at random until then.
 */
export function tpePoint(space: Space, seen: readonly Observation[], random: Random): Point {
  const levels = [...new Set(seen.map((one) => one.epochs))].sort((a, b) => b - a);
  const level = levels.find((epochs) => seen.filter((one) => one.epochs === epochs).length >= start);
  if (level === undefined || random() < adventure) return randomPoint(space, random);
  const known = seen.filter((one) => one.epochs === level).sort((a, b) => a.loss - b.loss);
  const good = Math.max(3, Math.ceil(known.length * 0.15));
  const sides = [known.slice(0, good), known.slice(good)];
  return Object.fromEntries(
    Object.entries(space).map(([name, dimension]): [string, Scalar] => {
      if ('choice' in dimension) {
        const { choice } = dimension;
        const shares = sides.map((side) =>
          // Every choice counts once beforehand, so that none is ruled out.
          choice.map((value) => 1 + side.filter((one) => one.point[name] === value).length),
        );
        const ratios = choice.map(
          (_, at) => shares[0]![at]! / sum(shares[0]!) / (shares[1]![at]! / sum(shares[1]!)),
        );
        const drawn = Array.from({ length: 2 }, () => pick(shares[0]!, random));
        return [name, choice[drawn.reduce((best, at) => (ratios[at]! > ratios[best]! ? at : best))]!];
      }
      const places = sides.map((side) => side.map((one) => placeOf(dimension, one.point[name]!)));
      const candidates = Array.from({ length: draws }, () => drawNear(places[0]!, random));
      const ratio = (place: number) => density(places[0]!, place) / density(places[1]!, place);
      const best = candidates.reduce((a, b) => (ratio(b) > ratio(a) ? b : a));
      return [name, valueAt(dimension, best)];
    }),
  );
}

const sum = (values: readonly number[]) => values.reduce((total, one) => total + one, 0);

function pick(weights: readonly number[], random: Random): number {
  let left = random() * sum(weights);
  for (const [at, weight] of weights.entries()) {
    left -= weight;
    if (left < 0) return at;
  }
  return weights.length - 1;
}

/** Width of the kernels: Scott's rule on [0, 1], but wide enough that the next point is not the last one again. */
function width(places: readonly number[]): number {
  const mean = sum(places) / places.length;
  const deviation = Math.sqrt(sum(places.map((one) => (one - mean) ** 2)) / places.length);
  return Math.max(1 / (places.length + 4), 1.06 * deviation * places.length ** -0.2);
}

/** Share of the uniform density in every mixture: the same on both sides, so that where nothing lies neither wins. */
const prior = 0.1;

/** Mixture of the uniform density and a normal one at each place. */
function density(places: readonly number[], at: number): number {
  const h = width(places);
  const normal = places.map((one) => Math.exp(-(((at - one) / h) ** 2) / 2) / (h * Math.sqrt(2 * Math.PI)));
  return prior + ((1 - prior) * sum(normal)) / places.length;
}

function drawNear(places: readonly number[], random: Random): number {
  if (random() < prior) return random();
  const chosen = Math.floor(random() * places.length);
  // Box and Muller 1958.
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Math.min(1, Math.max(0, places[chosen]! + width(places) * normal));
}
