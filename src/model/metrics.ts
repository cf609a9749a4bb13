import type { Measure, Scores } from '../core/evaluation.ts';
import { type BootstrapOptions, interval, resample } from './bootstrap.ts';
import { type Judged, judgeItems } from './judged.ts';
import { type Paired, pairedTest } from './mcnemar.ts';
import { areasOf, orderItems, rankedMetrics } from './ranked.ts';
import { numericOf, regressionMetrics } from './regression.ts';
import { add, calibrationOf, classMetrics, clear, emptySums, fBeta, metricsOf, type Sums } from './sums.ts';

export { mcnemar } from './mcnemar.ts';

/**
 * Walking along the order of the items costs more than adding them up: areas are resampled within this budget of steps
 * (items × classes × resamples), but at least this often.
 */
const rankedBudget = 4e8;
const fewestRanked = 50;
/** Beyond so many probabilities the order of all items by all classes does not fit in memory: areas are not measured. */
const mostRanked = 5e7;

/**
 * Judges probabilities `[N, C]` (row-major) against `labels`, with 95 % bootstrap intervals (see `bootstrap.ts`).
 *
 * Definitions are scikit-learn's: the predicted class is the first with the highest probability; `balanced_accuracy` is the
 * mean recall over classes that occur; `macro_*` is the plain mean over classes that occur or are predicted, 0 where
 * undefined; `log_loss` in nats; `brier` the sum over classes of squared errors (Brier 1950, 0 to 2); `ece` the expected
 * calibration error of 15 equal bins (Guo et al. 2017); `topK_accuracy` whether the truth is among the K highest (of equals, later classes count as higher); `roc_auc`
 * and `pr_auc` the mean areas of one class against the rest; `map` label ranking average precision, `ndcg` with one relevant
 * class an item. With `values` also the regression errors of `regression.ts`. Rows are scaled to sum to 1. Throws UserError data-invalid when sizes do not fit or there is nothing.
 */
export function score(
  probabilities: Float32Array,
  labels: ArrayLike<number>,
  classes: readonly string[],
  options: BootstrapOptions = {},
): Scores {
  const judged = judgeItems(probabilities, labels, classes.length);
  const orders = ordersOf(judged, options);
  const sums = emptySums(classes.length);
  const confusion = classes.map(() => classes.map(() => 0));
  const once = new Uint16Array(judged.count).fill(1);
  for (let item = 0; item < judged.count; item++) {
    add(sums, judged, item);
    confusion[judged.truth[item]!]![judged.predicted[item]!]! += 1;
  }
  const measured = resampled([judged], [], options, ([first], ranked) => ({
    ...metricsOf(first!),
    ...ranked[0],
  }));
  const perClass = classes.map((name, index) => {
    const areas = orders[index] ? areasOf(judged, orders[index], index, once) : null;
    return {
      name,
      ...classMetrics(sums, index),
      ...(areas && { roc_auc: areas.roc, pr_auc: areas.pr }),
      support: sums.support[index]!,
    };
  });
  return {
    count: judged.count,
    classes: [...classes],
    metrics: measured,
    perClass,
    confusion,
    calibration: calibrationOf(sums),
  };
}

/** How two models differ on the same items. */
export interface Comparison {
  /**
   * candidate − baseline of every metric of {@link score} and of `precision[class]`, `recall[class]`, `specificity[class]`,
   * `f1[class]`, `f0.5[class]`, `f2[class]`, `roc_auc[class]`, `pr_auc[class]`, with a 95 % interval of the paired bootstrap.
   */
  differences: Record<string, Measure>;
  mcnemar: Paired;
}

/** Compares two models on the same items. Every resample draws the same items for both. Throws as {@link score} does. */
export function compare(
  candidate: Float32Array,
  baseline: Float32Array,
  labels: ArrayLike<number>,
  classes: readonly string[],
  options: BootstrapOptions = {},
): Comparison {
  const pair = [candidate, baseline].map((rows) => judgeItems(rows, labels, classes.length));
  const differences = resampled(pair, classes, options, ([after, before], [rankedAfter, rankedBefore]) => {
    const first: Record<string, number> = { ...allMetrics(after!, classes), ...rankedAfter };
    const second: Record<string, number> = { ...allMetrics(before!, classes), ...rankedBefore };
    return Object.fromEntries(Object.entries(first).map(([name, value]) => [name, value - second[name]!]));
  });
  return {
    differences,
    mcnemar: pairedTest(pair[0]!.predicted, pair[1]!.predicted, pair[0]!.truth),
  };
}

/**
 * Values of a statistic over all items, with intervals from resamples that draw the same items for every model. Areas are those
 * of the classes that are named, too.
 */
function resampled(
  models: readonly Judged[],
  names: readonly string[],
  options: BootstrapOptions,
  statistic: (sums: readonly Sums[], ranked: readonly Record<string, number>[]) => Record<string, number>,
): Record<string, Measure> {
  const { count, classes } = models[0]!;
  const orders = models.map((model) => ordersOf(model, options));
  const sums = models.map(() => emptySums(classes));
  const weights = new Uint16Array(count).fill(1);
  const numeric = models.map((model) => options.values && numericOf(model, options.values));
  const ranked = (withAreas: boolean) =>
    models.map((model, index) => ({
      ...(withAreas && rankedMetrics(model, orders[index]!, weights, names)),
      ...(numeric[index] && regressionMetrics(numeric[index], weights)),
    }));
  for (let item = 0; item < count; item++) {
    for (const [index, model] of models.entries()) add(sums[index]!, model, item);
  }
  const values = Object.entries(statistic(sums, ranked(true))).filter(([, value]) => Number.isFinite(value));
  const samples = new Map(values.map(([name]) => [name, [] as number[]]));
  let left = Math.max(fewestRanked, Math.floor(rankedBudget / (count * classes * models.length)));
  for (const one of sums) clear(one);
  weights.fill(0);
  resample(count, options, {
    draw(item) {
      for (let index = 0; index < models.length; index++) add(sums[index]!, models[index]!, item);
      weights[item]! += 1;
    },
    end() {
      // A resample without one of the classes has no area for it: such a value is left out, not taken for another.
      const drawn = statistic(sums, ranked(left-- > 0));
      for (const [name, value] of Object.entries(drawn)) {
        if (Number.isFinite(value)) samples.get(name)?.push(value);
      }
      for (const one of sums) clear(one);
      weights.fill(0);
    },
  });
  return Object.fromEntries(values.map(([name, value]) => [name, interval(value, samples.get(name)!)]));
}

function ordersOf(judged: Judged, options: BootstrapOptions): ReturnType<typeof orderItems> {
  if (options.areas === false) return [];
  return judged.count * judged.classes > mostRanked ? [] : orderItems(judged);
}

/** The metrics, and those of each class under the names that gates use. */
function allMetrics(sums: Sums, classes: readonly string[]): Record<string, number> {
  const all = metricsOf(sums);
  for (const [index, name] of classes.entries()) {
    const one = classMetrics(sums, index);
    all[`precision[${name}]`] = one.precision;
    all[`recall[${name}]`] = one.recall;
    all[`specificity[${name}]`] = one.specificity;
    all[`f1[${name}]`] = one.f1;
    all[`f0.5[${name}]`] = fBeta(one.precision, one.recall, 0.5);
    all[`f2[${name}]`] = fBeta(one.precision, one.recall, 2);
  }
  return all;
}
