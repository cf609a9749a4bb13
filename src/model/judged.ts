import { UserError } from '../core/error.ts';

/** Bins of the calibration error, as in Guo et al. 2017. */
export const bins = 15;
/** Probabilities are kept this far from 0 and 1 (single precision's epsilon, as scikit-learn does for float32). */
const smallest = 2 ** -23;

/** What a metric needs of each item, worked out once, so that a resample is only sums. */
export interface Judged {
  count: number;
  classes: number;
  truth: Uint16Array;
  predicted: Uint16Array;
  /** `[count, classes]`, row-major, every row scaled to sum to 1. */
  probabilities: Float64Array;
  /** −ln p(truth). */
  loss: Float64Array;
  /** Squared distance to the one-hot truth. */
  brier: Float64Array;
  confidence: Float64Array;
  bin: Uint8Array;
  /** How many classes stand before the truth (of equals those of higher index do, as scikit-learn sorts them). */
  above: Uint16Array;
  /** 1 ÷ rank of the truth, the last of its equals. */
  reciprocal: Float64Array;
  /** Discounted gain of the truth, averaged over its equals. */
  gain: Float64Array;
}

/**
 * Judges every row of `probabilities` `[N, C]` against its label. Throws UserError data-invalid when sizes do not fit, a
 * row is no distribution, or there is nothing to judge.
 */
export function judgeItems(probabilities: Float32Array, labels: ArrayLike<number>, classes: number): Judged {
  const count = labels.length;
  if (count === 0) throw new UserError('data-invalid', 'there are no items to score');
  if (probabilities.length !== count * classes) {
    throw new UserError(
      'data-invalid',
      `${probabilities.length} probabilities for ${count} items of ${classes} classes`,
    );
  }
  const judged: Judged = {
    count,
    classes,
    truth: Uint16Array.from(labels),
    predicted: new Uint16Array(count),
    probabilities: Float64Array.from(probabilities),
    loss: new Float64Array(count),
    brier: new Float64Array(count),
    confidence: new Float64Array(count),
    bin: new Uint8Array(count),
    above: new Uint16Array(count),
    reciprocal: new Float64Array(count),
    gain: new Float64Array(count),
  };
  for (let item = 0; item < count; item++) judgeItem(judged, item);
  return judged;
}

function judgeItem(judged: Judged, item: number): void {
  const { classes } = judged;
  const row = judged.probabilities.subarray(item * classes, (item + 1) * classes);
  const truth = judged.truth[item]!;
  if (truth >= classes)
    throw new UserError('data-invalid', `item ${item} has the label ${truth} of ${classes}`);
  let sum = 0;
  let best = 0;
  for (let k = 0; k < classes; k++) {
    sum += row[k]!;
    if (row[k]! > row[best]!) best = k;
  }
  if (!(sum > 0 && Number.isFinite(sum))) {
    throw new UserError('data-invalid', `the probabilities of item ${item} sum to ${sum}`);
  }
  for (let k = 0; k < classes; k++) row[k]! /= sum;
  const own = row[truth]!;
  let brier = 0;
  let [higher, equal, later] = [0, 0, 0];
  for (let k = 0; k < classes; k++) {
    const p = row[k]!;
    brier += (p - (k === truth ? 1 : 0)) ** 2;
    if (p > own) higher++;
    else if (p === own) {
      equal++;
      if (k > truth) later++;
    }
  }
  let gain = 0;
  for (let rank = higher + 1; rank <= higher + equal; rank++) gain += 1 / Math.log2(rank + 1);
  const confidence = row[best]!;
  judged.predicted[item] = best;
  judged.loss[item] = -Math.log(Math.min(1 - smallest, Math.max(smallest, own)));
  judged.brier[item] = brier;
  judged.confidence[item] = confidence;
  judged.bin[item] = Math.min(bins - 1, Math.max(0, Math.ceil(confidence * bins) - 1));
  judged.above[item] = higher + later;
  judged.reciprocal[item] = 1 / (higher + equal);
  judged.gain[item] = gain / equal;
}
