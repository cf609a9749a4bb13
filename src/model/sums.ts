import { bins, type Judged } from './judged.ts';

/** Of top-k accuracy; those below the number of classes are told. */
const tops = [2, 3, 5] as const;
/** Of F-beta besides F1: recall counts twice as much, or half as much, as precision (van Rijsbergen 1979, ch. 7). */
const betas = [0.5, 2] as const;

/** Sums over items, from which every metric follows that needs no order of the items. */
export interface Sums {
  items: number;
  hits: Float64Array;
  support: Float64Array;
  predicted: Float64Array;
  loss: number;
  brier: number;
  reciprocal: number;
  gain: number;
  tops: Float64Array;
  binConfidence: Float64Array;
  binHits: Float64Array;
  binItems: Float64Array;
}

/** Sums over no items. */
export function emptySums(classes: number): Sums {
  return {
    items: 0,
    hits: new Float64Array(classes),
    support: new Float64Array(classes),
    predicted: new Float64Array(classes),
    loss: 0,
    brier: 0,
    reciprocal: 0,
    gain: 0,
    tops: new Float64Array(tops.length),
    binConfidence: new Float64Array(bins),
    binHits: new Float64Array(bins),
    binItems: new Float64Array(bins),
  };
}

/** Makes them sums over no items again. */
export function clear(sums: Sums): void {
  sums.items = sums.loss = sums.brier = sums.reciprocal = sums.gain = 0;
  const { hits, support, predicted, binConfidence, binHits, binItems } = sums;
  for (const array of [hits, support, predicted, sums.tops, binConfidence, binHits, binItems]) array.fill(0);
}

/** Adds one item. */
export function add(sums: Sums, judged: Judged, item: number): void {
  const truth = judged.truth[item]!;
  const predicted = judged.predicted[item]!;
  const bin = judged.bin[item]!;
  const above = judged.above[item]!;
  sums.items++;
  sums.support[truth]! += 1;
  sums.predicted[predicted]! += 1;
  if (truth === predicted) {
    sums.hits[truth]! += 1;
    sums.binHits[bin]! += 1;
  }
  sums.binItems[bin]! += 1;
  sums.binConfidence[bin]! += judged.confidence[item]!;
  sums.loss += judged.loss[item]!;
  sums.brier += judged.brier[item]!;
  sums.reciprocal += judged.reciprocal[item]!;
  sums.gain += judged.gain[item]!;
  for (let k = 0; k < tops.length; k++) if (above < tops[k]!) sums.tops[k]! += 1;
}

/** What is said of one class. Undefined ratios are 0. */
export interface ClassMetrics {
  precision: number;
  recall: number;
  specificity: number;
  f1: number;
}

/** Precision, recall (sensitivity), specificity and F1 of one class. */
export function classMetrics(sums: Sums, index: number): ClassMetrics {
  const hits = sums.hits[index]!;
  const [support, predicted] = [sums.support[index]!, sums.predicted[index]!];
  const others = sums.items - support;
  return {
    precision: predicted > 0 ? hits / predicted : 0,
    recall: support > 0 ? hits / support : 0,
    specificity: others > 0 ? (others - (predicted - hits)) / others : 0,
    f1: support + predicted > 0 ? (2 * hits) / (support + predicted) : 0,
  };
}

/** F-beta of a precision and a recall: (1 + β²)·P·R ÷ (β²·P + R); 0 where undefined. */
export function fBeta(precision: number, recall: number, beta: number): number {
  const below = beta * beta * precision + recall;
  return below > 0 ? ((1 + beta * beta) * precision * recall) / below : 0;
}

/** The metrics of all classes together, by name. */
export function metricsOf(sums: Sums): Record<string, number> {
  const total = { recalls: 0, precision: 0, recall: 0, specificity: 0, f1: 0, beta: betas.map(() => 0) };
  let [occurring, known, hits, ece] = [0, 0, 0, 0];
  for (let index = 0; index < sums.hits.length; index++) {
    hits += sums.hits[index]!;
    const occurs = sums.support[index]! > 0;
    if (!occurs && sums.predicted[index] === 0) continue;
    const one = classMetrics(sums, index);
    known++;
    total.precision += one.precision;
    total.recall += one.recall;
    total.specificity += one.specificity;
    total.f1 += one.f1;
    for (const [k, beta] of betas.entries()) total.beta[k]! += fBeta(one.precision, one.recall, beta);
    if (occurs) {
      occurring++;
      total.recalls += one.recall;
    }
  }
  for (let bin = 0; bin < bins; bin++) ece += Math.abs(sums.binHits[bin]! - sums.binConfidence[bin]!);
  const metrics: Record<string, number> = {
    accuracy: hits / sums.items,
    balanced_accuracy: total.recalls / occurring,
    macro_precision: total.precision / known,
    macro_recall: total.recall / known,
    macro_specificity: total.specificity / known,
    macro_f1: total.f1 / known,
  };
  for (const [k, beta] of betas.entries()) metrics[`macro_f${beta}`] = total.beta[k]! / known;
  metrics.log_loss = sums.loss / sums.items;
  metrics.brier = sums.brier / sums.items;
  metrics.ece = ece / sums.items;
  for (const [k, top] of tops.entries()) {
    if (top < sums.hits.length || top === 2) metrics[`top${top}_accuracy`] = sums.tops[k]! / sums.items;
  }
  metrics.map = sums.reciprocal / sums.items;
  metrics.ndcg = sums.gain / sums.items;
  return metrics;
}

/** Of each bin that holds items: how sure the model was on average, how often it was right, how many items. */
export function calibrationOf(sums: Sums): { confidence: number; accuracy: number; count: number }[] {
  return Array.from(sums.binItems, (count, bin) => ({
    confidence: sums.binConfidence[bin]! / count,
    accuracy: sums.binHits[bin]! / count,
    count,
  })).filter((bin) => bin.count > 0);
}
