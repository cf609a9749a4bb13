import type { Measure } from '../core/evaluation.ts';
import { sliceMetrics } from '../core/slices.ts';
import type { BootstrapOptions } from './bootstrap.ts';
import { compare, score } from './metrics.ts';

/** The rows of some items, and their labels. */
function partOf(
  probabilities: Float32Array,
  y: ArrayLike<number>,
  classes: number,
  places: readonly number[],
) {
  const rows = new Float32Array(places.length * classes);
  for (const [at, place] of places.entries())
    rows.set(probabilities.subarray(place * classes, (place + 1) * classes), at * classes);
  return { rows, labels: places.map((place) => y[place]!) };
}

/** `sliceMetrics` of what `measure` tells of each slice, under the names that gates use. */
function bySlice(
  slices: ReadonlyMap<string, readonly number[]>,
  measure: (places: readonly number[]) => Readonly<Record<string, Measure>>,
): Record<string, Measure> {
  const all = [...slices].flatMap(([slice, places]) => {
    const measures = measure(places);
    return sliceMetrics.flatMap((name): [string, Measure][] => {
      const one = measures[name];
      return one ? [[`${name}[${slice}]`, one]] : [];
    });
  });
  return Object.fromEntries(all);
}

/** `sliceMetrics` of each slice under the names that gates use, with intervals as `score` gives them. */
export function scoreSlices(
  probabilities: Float32Array,
  y: ArrayLike<number>,
  classes: readonly string[],
  slices: ReadonlyMap<string, readonly number[]>,
  options: BootstrapOptions = {},
): Record<string, Measure> {
  return bySlice(slices, (places) => {
    const { rows, labels } = partOf(probabilities, y, classes.length, places);
    return score(rows, labels, classes, { ...options, areas: false }).metrics;
  });
}

/** candidate − baseline of each slice, paired, under the same names. */
export function compareSlices(
  candidate: Float32Array,
  baseline: Float32Array,
  y: ArrayLike<number>,
  classes: readonly string[],
  slices: ReadonlyMap<string, readonly number[]>,
  options: BootstrapOptions = {},
): Record<string, Measure> {
  return bySlice(slices, (places) => {
    const { rows, labels } = partOf(candidate, y, classes.length, places);
    const before = partOf(baseline, y, classes.length, places).rows;
    return compare(rows, before, labels, classes, { ...options, areas: false }).differences;
  });
}
