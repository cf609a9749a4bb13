import type { Judged } from './judged.ts';

/** Predictions and truths as numbers, and the items by rising error, so that a resample is only walks along them. */
export interface Numeric {
  truth: Float64Array;
  predicted: Float64Array;
  /** Absolute errors. */
  errors: Float64Array;
  order: Uint32Array;
}

/** Smallest denominator of a relative error (double precision's epsilon, as scikit-learn has it). */
const smallest = Number.EPSILON;

/**
 * What a distribution over numbers predicts: its expected value Σ pₖ·valueₖ, which is what makes the squared error least.
 * `values` are the numbers that the classes stand for.
 */
export function numericOf(judged: Judged, values: readonly number[]): Numeric {
  const { count, classes, probabilities } = judged;
  const truth = Float64Array.from(judged.truth, (label) => values[label]!);
  const predicted = new Float64Array(count);
  for (let item = 0; item < count; item++) {
    for (let k = 0; k < classes; k++) predicted[item]! += probabilities[item * classes + k]! * values[k]!;
  }
  const errors = truth.map((one, item) => Math.abs(one - predicted[item]!));
  const order = Uint32Array.from({ length: count }, (_, item) => item).sort(
    (a, b) => errors[a]! - errors[b]!,
  );
  return { truth, predicted, errors, order };
}

/**
 * Regression errors when item i counts `weights[i]` times, as scikit-learn defines them: `mae`, `rmse`, `r2` (1 − residual ÷
 * total sum of squares; of truths that are all equal 1 where nothing is wrong, else 0), `median_ae`, `mape` (a share).
 */
export function regressionMetrics(numeric: Numeric, weights: ArrayLike<number>): Record<string, number> {
  const { truth, errors, order } = numeric;
  let [items, total, absolute, squared, relative] = [0, 0, 0, 0, 0];
  for (let item = 0; item < truth.length; item++) {
    const weight = weights[item]!;
    const error = errors[item]!;
    items += weight;
    total += weight * truth[item]!;
    absolute += weight * error;
    squared += weight * error * error;
    relative += weight * (error / Math.max(smallest, Math.abs(truth[item]!)));
  }
  const mean = total / items;
  let spread = 0;
  for (let item = 0; item < truth.length; item++) spread += weights[item]! * (truth[item]! - mean) ** 2;
  return {
    mae: absolute / items,
    rmse: Math.sqrt(squared / items),
    r2: spread > 0 ? 1 - squared / spread : squared === 0 ? 1 : 0,
    median_ae:
      (errorAt(errors, order, weights, (items - 1) / 2) + errorAt(errors, order, weights, items / 2)) / 2,
    mape: relative / items,
  };
}

/** The error at a place of the items by rising error, each as often as its weight; between two places the lower one. */
function errorAt(
  errors: Float64Array,
  order: Uint32Array,
  weights: ArrayLike<number>,
  place: number,
): number {
  let left = Math.floor(place);
  for (const item of order) {
    left -= weights[item]!;
    if (left < 0) return errors[item]!;
  }
  return errors[order.at(-1)!]!;
}
