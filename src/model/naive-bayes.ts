import { UserError } from '../core/error.ts';

/** Items as counts of terms: `x` is `[y.length, width]`, row-major. */
export interface Counts {
  x: Uint8Array | Float32Array;
  y: ArrayLike<number>;
  width: number;
}

/**
 * Multinomial naive Bayes with Laplace's smoothing (Manning, Raghavan, Schütze, "Introduction to Information Retrieval",
 * 2008, §13.2): the baseline that a network for texts must not fall short of. Returns the likeliest class of each row.
 * Throws UserError data-invalid when rows are not as wide as those it learned from.
 */
export function trainNaiveBayes(
  train: Counts,
  classes: number,
  smoothing = 1,
): (x: Uint8Array | Float32Array) => number[] {
  const { x, y, width } = train;
  const counts = Array.from({ length: classes }, () => new Float64Array(width).fill(smoothing));
  const items = new Float64Array(classes);
  for (let row = 0; row < y.length; row++) {
    const label = y[row]!;
    items[label]!++;
    const own = counts[label]!;
    for (let term = 0; term < width; term++) own[term]! += x[row * width + term]!;
  }
  const weights = counts.map((own) => {
    const total = own.reduce((sum, count) => sum + count, 0);
    return own.map((count) => Math.log(count / total));
  });
  const prior = items.map((count) => Math.log(count / y.length));
  return (rows) => {
    if (rows.length % width !== 0) {
      throw new UserError('data-invalid', `${rows.length} counts are no rows of ${width} terms`);
    }
    return Array.from({ length: rows.length / width }, (_, row) => {
      const scores = weights.map((own, label) => {
        let score = prior[label]!;
        for (let term = 0; term < width; term++) {
          const count = rows[row * width + term]!;
          if (count > 0) score += count * own[term]!;
        }
        return score;
      });
      return scores.indexOf(Math.max(...scores));
    });
  };
}
