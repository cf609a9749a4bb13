import { UserError } from '../core/error.ts';
import type { Measure, Scores } from '../core/evaluation.ts';
import { type BootstrapOptions, interval, resample } from './bootstrap.ts';

/** Bins of the calibration error, as in Guo et al. 2017. */
const bins = 15;
/** Probabilities are kept this far from 0 (single precision's epsilon, as scikit-learn does for float32). */
const smallest = 2 ** -23;

/** What a metric needs of each item, worked out once, so that a resample is only sums. */
interface Judged {
  count: number;
  classes: number;
  truth: Uint16Array;
  predicted: Uint16Array;
  /** −ln p(truth). */
  loss: Float64Array;
  /** Squared distance to the one-hot truth. */
  brier: Float64Array;
  confidence: Float64Array;
  bin: Uint8Array;
  top2: Uint8Array;
}

/** Sums over items, from which every metric follows. */
interface Sums {
  items: number;
  hits: Float64Array;
  support: Float64Array;
  predicted: Float64Array;
  loss: number;
  brier: number;
  top2: number;
  binConfidence: Float64Array;
  binHits: Float64Array;
}

/**
 * Judges probabilities `[N, C]` (row-major) against `labels`, with 95 % bootstrap intervals (see `bootstrap.ts`).
 *
 * Definitions are scikit-learn's: the predicted class is the first with the highest probability; `balanced_accuracy` is the
 * mean recall over classes that occur; `macro_*` is the plain mean over classes that occur or are predicted, 0 where
 * undefined; `log_loss` in nats; `brier` the sum over classes of squared errors (Brier 1950, 0 to 2); `ece` the expected
 * calibration error of 15 equal bins (Guo et al. 2017); `top2_accuracy` whether the truth is among the two highest. Rows
 * are scaled to sum to 1. Throws UserError data-invalid when sizes do not fit or there is nothing to judge.
 */
export function score(
  probabilities: Float32Array,
  labels: ArrayLike<number>,
  classes: readonly string[],
  options: BootstrapOptions = {},
): Scores {
  const judged = judgeItems(probabilities, labels, classes.length);
  const sums = emptySums(classes.length);
  const confusion = classes.map(() => classes.map(() => 0));
  for (let item = 0; item < judged.count; item++) {
    add(sums, judged, item);
    confusion[judged.truth[item]!]![judged.predicted[item]!]! += 1;
  }
  const values = metricsOf(sums);
  const samples = Object.fromEntries(Object.keys(values).map((name) => [name, [] as number[]]));
  const drawn = emptySums(classes.length);
  resample(judged.count, options, {
    draw: (item) => add(drawn, judged, item),
    end() {
      for (const [name, value] of Object.entries(metricsOf(drawn))) samples[name]!.push(value);
      clear(drawn);
    },
  });
  const metrics: Record<string, Measure> = {};
  for (const [name, value] of Object.entries(values)) metrics[name] = interval(value, samples[name]!);
  const perClass = classes.map((name, index) => ({
    name,
    ...classMetrics(sums, index),
    support: sums.support[index]!,
  }));
  return { count: judged.count, classes: [...classes], metrics, perClass, confusion };
}

/** How two models differ on the same items. */
export interface Comparison {
  /**
   * candidate − baseline of every metric of {@link score} and of `precision[class]`, `recall[class]`, `f1[class]`, with a
   * 95 % interval of the paired bootstrap.
   */
  differences: Record<string, Measure>;
  /** Two-sided exact McNemar test of the accuracies (McNemar 1947; exact binomial form): chance of such a difference if equal. */
  mcnemar: { onlyCandidate: number; onlyBaseline: number; p: number };
}

/** Compares two models on the same items. Every resample draws the same items for both. Throws as {@link score} does. */
export function compare(
  candidate: Float32Array,
  baseline: Float32Array,
  labels: ArrayLike<number>,
  classes: readonly string[],
  options: BootstrapOptions = {},
): Comparison {
  const pair = [
    judgeItems(candidate, labels, classes.length),
    judgeItems(baseline, labels, classes.length),
  ] as const;
  const sums = [emptySums(classes.length), emptySums(classes.length)] as const;
  let onlyCandidate = 0;
  let onlyBaseline = 0;
  const { count } = pair[0];
  for (let item = 0; item < count; item++) {
    add(sums[0], pair[0], item);
    add(sums[1], pair[1], item);
    const first = pair[0].predicted[item] === pair[0].truth[item];
    const second = pair[1].predicted[item] === pair[1].truth[item];
    if (first && !second) onlyCandidate++;
    if (second && !first) onlyBaseline++;
  }
  const difference = (): [string, number][] => {
    const [after, before] = [allMetrics(sums[0], classes), allMetrics(sums[1], classes)];
    return Object.entries(after).map(([name, value]) => [name, value - before[name]!]);
  };
  const values = difference();
  const samples = values.map((): number[] => []);
  for (const one of sums) clear(one);
  resample(count, options, {
    draw(item) {
      add(sums[0], pair[0], item);
      add(sums[1], pair[1], item);
    },
    end() {
      for (const [index, [, value]] of difference().entries()) samples[index]!.push(value);
      for (const one of sums) clear(one);
    },
  });
  return {
    differences: Object.fromEntries(
      values.map(([name, value], index) => [name, interval(value, samples[index]!)]),
    ),
    mcnemar: { onlyCandidate, onlyBaseline, p: mcnemar(onlyCandidate, onlyBaseline) },
  };
}

/** Two-sided exact p: twice the smaller tail of Binomial(b + c, ½), at most 1. */
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

function judgeItems(probabilities: Float32Array, labels: ArrayLike<number>, classes: number): Judged {
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
    loss: new Float64Array(count),
    brier: new Float64Array(count),
    confidence: new Float64Array(count),
    bin: new Uint8Array(count),
    top2: new Uint8Array(count),
  };
  for (let item = 0; item < count; item++) judgeItem(judged, probabilities, item);
  return judged;
}

function judgeItem(judged: Judged, probabilities: Float32Array, item: number): void {
  const { classes } = judged;
  const start = item * classes;
  const truth = judged.truth[item]!;
  if (truth >= classes)
    throw new UserError('data-invalid', `item ${item} has the label ${truth} of ${classes}`);
  let sum = 0;
  let best = 0;
  for (let k = 0; k < classes; k++) {
    const p = probabilities[start + k]!;
    sum += p;
    if (p > probabilities[start + best]!) best = k;
  }
  if (!(sum > 0 && Number.isFinite(sum))) {
    throw new UserError('data-invalid', `the probabilities of item ${item} sum to ${sum}`);
  }
  const own = probabilities[start + truth]!;
  let brier = 0;
  let above = 0;
  for (let k = 0; k < classes; k++) {
    const p = probabilities[start + k]!;
    brier += (p / sum - (k === truth ? 1 : 0)) ** 2;
    if (p > own || (p === own && k < truth)) above++;
  }
  const confidence = probabilities[start + best]! / sum;
  judged.predicted[item] = best;
  judged.loss[item] = -Math.log(Math.min(1 - smallest, Math.max(smallest, own / sum)));
  judged.brier[item] = brier;
  judged.confidence[item] = confidence;
  judged.bin[item] = Math.min(bins - 1, Math.max(0, Math.ceil(confidence * bins) - 1));
  judged.top2[item] = above < 2 ? 1 : 0;
}

function emptySums(classes: number): Sums {
  return {
    items: 0,
    hits: new Float64Array(classes),
    support: new Float64Array(classes),
    predicted: new Float64Array(classes),
    loss: 0,
    brier: 0,
    top2: 0,
    binConfidence: new Float64Array(bins),
    binHits: new Float64Array(bins),
  };
}

function clear(sums: Sums): void {
  sums.items = sums.loss = sums.brier = sums.top2 = 0;
  for (const array of [sums.hits, sums.support, sums.predicted, sums.binConfidence, sums.binHits])
    array.fill(0);
}

function add(sums: Sums, judged: Judged, item: number): void {
  const truth = judged.truth[item]!;
  const predicted = judged.predicted[item]!;
  const bin = judged.bin[item]!;
  sums.items++;
  sums.support[truth]! += 1;
  sums.predicted[predicted]! += 1;
  if (truth === predicted) {
    sums.hits[truth]! += 1;
    sums.binHits[bin]! += 1;
  }
  sums.binConfidence[bin]! += judged.confidence[item]!;
  sums.loss += judged.loss[item]!;
  sums.brier += judged.brier[item]!;
  sums.top2 += judged.top2[item]!;
}

function classMetrics(sums: Sums, index: number): { precision: number; recall: number; f1: number } {
  const hits = sums.hits[index]!;
  const share = (total: number) => (total > 0 ? hits / total : 0);
  const total = sums.support[index]! + sums.predicted[index]!;
  return {
    precision: share(sums.predicted[index]!),
    recall: share(sums.support[index]!),
    f1: total > 0 ? (2 * hits) / total : 0,
  };
}

function metricsOf(sums: Sums): Record<string, number> {
  let [occurring, recalls, known, precision, recall, f1, hits, ece] = [0, 0, 0, 0, 0, 0, 0, 0];
  for (let index = 0; index < sums.hits.length; index++) {
    hits += sums.hits[index]!;
    const occurs = sums.support[index]! > 0;
    if (!occurs && sums.predicted[index] === 0) continue;
    const one = classMetrics(sums, index);
    known++;
    precision += one.precision;
    recall += one.recall;
    f1 += one.f1;
    if (occurs) {
      occurring++;
      recalls += one.recall;
    }
  }
  for (let bin = 0; bin < bins; bin++) ece += Math.abs(sums.binHits[bin]! - sums.binConfidence[bin]!);
  return {
    accuracy: hits / sums.items,
    balanced_accuracy: recalls / occurring,
    macro_precision: precision / known,
    macro_recall: recall / known,
    macro_f1: f1 / known,
    log_loss: sums.loss / sums.items,
    brier: sums.brier / sums.items,
    ece: ece / sums.items,
    top2_accuracy: sums.top2 / sums.items,
  };
}

/** The metrics, and those of each class under the names that gates use. */
function allMetrics(sums: Sums, classes: readonly string[]): Record<string, number> {
  const all = metricsOf(sums);
  for (const [index, name] of classes.entries()) {
    const one = classMetrics(sums, index);
    all[`precision[${name}]`] = one.precision;
    all[`recall[${name}]`] = one.recall;
    all[`f1[${name}]`] = one.f1;
  }
  return all;
}
