import type { Judged } from './judged.ts';

/** The items by falling probability of one class, and where a run of equal probabilities ends. */
interface Order {
  items: Uint32Array;
  ends: Uint8Array;
}

/** Areas under the curves of one class against the rest; null where only one side occurs. */
export interface Areas {
  /** Under the receiver operating characteristic (Fawcett 2006, algorithm 2; ties count half). */
  roc: number;
  /** Average precision: Σ (Rₙ − Rₙ₋₁)·Pₙ over the thresholds, without interpolation. */
  pr: number;
}

/** Orders the items for every class, once; each resample then only walks along. */
export function orderItems(judged: Judged): Order[] {
  const { count, classes, probabilities } = judged;
  return Array.from({ length: classes }, (_, k) => {
    const of = (item: number) => probabilities[item * classes + k]!;
    const items = Uint32Array.from({ length: count }, (_, item) => item).sort((a, b) => of(b) - of(a));
    const ends = new Uint8Array(count);
    for (let at = 0; at < count; at++) {
      ends[at] = at === count - 1 || of(items[at]!) !== of(items[at + 1]!) ? 1 : 0;
    }
    return { items, ends };
  });
}

/** The areas of one class when item i counts `weights[i]` times. */
export function areasOf(judged: Judged, order: Order, index: number, weights: Uint16Array): Areas | null {
  let [hits, misses, area, precision] = [0, 0, 0, 0];
  let [newHits, newMisses] = [0, 0];
  const { truth } = judged;
  const { items, ends } = order;
  for (let at = 0; at < items.length; at++) {
    const item = items[at]!;
    if (truth[item] === index) newHits += weights[item]!;
    else newMisses += weights[item]!;
    if (ends[at] === 0) continue;
    area += newMisses * (hits + newHits / 2);
    hits += newHits;
    misses += newMisses;
    if (newHits > 0) precision += newHits * (hits / (hits + misses));
    newHits = newMisses = 0;
  }
  return hits > 0 && misses > 0 ? { roc: area / (hits * misses), pr: precision / hits } : null;
}

/**
 * `roc_auc` and `pr_auc`: plain means, one class against the rest, over the classes for which they are defined; with names of
 * the classes also of each, as `roc_auc[class]`.
 */
export function rankedMetrics(
  judged: Judged,
  orders: readonly Order[],
  weights: Uint16Array,
  names: readonly string[] = [],
): Record<string, number> {
  const each: Record<string, number> = {};
  let [roc, pr, known] = [0, 0, 0];
  for (const [index, order] of orders.entries()) {
    const areas = areasOf(judged, order, index, weights);
    if (!areas) continue;
    roc += areas.roc;
    pr += areas.pr;
    known++;
    if (names[index] === undefined) continue;
    each[`roc_auc[${names[index]}]`] = areas.roc;
    each[`pr_auc[${names[index]}]`] = areas.pr;
  }
  return known === 0 ? {} : { roc_auc: roc / known, pr_auc: pr / known, ...each };
}
