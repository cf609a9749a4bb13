/** Two models on the same items: where only one of them is right, and what that says. */
export interface Paired {
  onlyCandidate: number;
  onlyBaseline: number;
  /** Two-sided exact McNemar test: chance of such a difference if both were equally good. */
  p: number;
}

/** Counts where only one of two models predicts the truth, and tests it. */
export function pairedTest(
  candidate: ArrayLike<number>,
  baseline: ArrayLike<number>,
  truth: ArrayLike<number>,
): Paired {
  let [onlyCandidate, onlyBaseline] = [0, 0];
  for (let item = 0; item < truth.length; item++) {
    const first = candidate[item] === truth[item];
    const second = baseline[item] === truth[item];
    if (first && !second) onlyCandidate++;
    if (second && !first) onlyBaseline++;
  }
  return { onlyCandidate, onlyBaseline, p: mcnemar(onlyCandidate, onlyBaseline) };
}

/** Two-sided exact p (McNemar 1947; exact binomial form): twice the smaller tail of Binomial(b + c, ½), at most 1. */
export function mcnemar(b: number, c: number): number {
  const n = b + c;
  const least = Math.min(b, c);
  // ln of the binomial probabilities, one after the other: they underflow as plain numbers beyond n ≈ 1000.
  let log = -n * Math.LN2;
  let tail = Math.exp(log);
  for (let k = 1; k <= least; k++) {
    log += Math.log((n - k + 1) / k);
    tail += Math.exp(log);
  }
  return Math.min(1, 2 * tail);
}
