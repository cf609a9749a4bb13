import type { Measure } from '../core/evaluation.ts';
import { type Random, seededRandom } from '../train/random.ts';

/** How intervals are drawn. The same seed gives the same intervals. */
export interface BootstrapOptions {
  /** Number of resamples, default 1000; fewer for more than 200 000 items, but at least 200. 0 gives no intervals. */
  bootstrap?: number;
  seed?: number;
  /** Whether areas and ranks (roc_auc, pr_auc, map, ndcg) are measured too, which takes most of the time; default true. */
  areas?: boolean;
  /** The numbers that the classes stand for: then errors of the expected value are measured too; default none. */
  values?: readonly number[] | undefined;
}

/** Called for every draw of an item and at the end of every resample. */
export interface Resampled {
  draw(item: number): void;
  end(): void;
}

/**
 * Ordinary non-parametric bootstrap (Efron 1979): each resample draws `count` items with replacement, uniformly. Drawing
 * items, not values, keeps whatever belongs to one item together: all metrics of a resample, and both models of a pair.
 */
export function resample(count: number, options: BootstrapOptions, target: Resampled): void {
  const asked = options.bootstrap ?? 1000;
  const times = Math.min(asked, Math.max(200, Math.floor(2e8 / Math.max(1, count))));
  const random: Random = seededRandom('bootstrap', options.seed ?? 1);
  for (let time = 0; time < times; time++) {
    for (let i = 0; i < count; i++) target.draw(Math.floor(random() * count));
    target.end();
  }
}

/**
 * The 95 % percentile interval (Efron & Tibshirani 1993, §13.3), linear between order statistics, widened to hold the
 * value itself: for a biased statistic such as the calibration error the resamples can lie all on one side of it.
 */
export function interval(value: number, resamples: readonly number[]): Measure {
  if (resamples.length === 0) return { value, low: value, high: value };
  const sorted = Float64Array.from(resamples).sort();
  const at = (share: number) => {
    const place = share * (sorted.length - 1);
    const below = sorted[Math.floor(place)]!;
    return below + (sorted[Math.ceil(place)]! - below) * (place - Math.floor(place));
  };
  return { value, low: Math.min(value, at(0.025)), high: Math.max(value, at(0.975)) };
}
