import { UserError } from '../core/error.ts';
import { type Paired, pairedTest } from './mcnemar.ts';

/** File of an evaluation artifact that says of each test item, in the order of the test set, whether it was right. */
export const correctFile = 'correct.bin';

/** One byte an item: 1 where the first of the highest of `probabilities` `[N, C]` is the label. */
export function correctness(probabilities: Float32Array, labels: ArrayLike<number>): Uint8Array {
  const classes = labels.length === 0 ? 0 : probabilities.length / labels.length;
  return Uint8Array.from(labels, (label, item) => {
    const row = probabilities.subarray(item * classes, (item + 1) * classes);
    let best = 0;
    for (let k = 1; k < classes; k++) if (row[k]! > row[best]!) best = k;
    return best === label ? 1 : 0;
  });
}

/** How two candidates differ in accuracy on the same items. */
export interface AccuracyDifference extends Paired {
  items: number;
  /** candidate − other. */
  difference: number;
  /** Half of the 95 % interval of the difference of two proportions in matched pairs (Fleiss 1981, §8.1). */
  half: number;
}

/** Compares two files of {@link correctness}. Throws UserError artifact-corrupt when they are not of the same items. */
export function compareCorrect(candidate: Uint8Array, other: Uint8Array): AccuracyDifference {
  const items = candidate.length;
  if (items === 0 || other.length !== items) {
    throw new UserError('artifact-corrupt', `evaluations of ${items} and ${other.length} items are no pair`);
  }
  const paired = pairedTest(candidate, other, new Uint8Array(items).fill(1));
  const [b, c] = [paired.onlyCandidate, paired.onlyBaseline];
  const difference = (b - c) / items;
  const variance = (b + c - (b - c) ** 2 / items) / items ** 2;
  return { ...paired, items, difference, half: 1.959964 * Math.sqrt(variance) };
}
