import { z } from 'zod';
import { nameSchema } from './project-names.ts';

/** Which parts of the withheld set are also judged by themselves. */
export const slicesSchema = z.strictObject({
  fields: z
    .array(z.string().regex(/^[\w.-]{1,60}$/, 'the name of an attribute of raw items'))
    .max(10)
    .default([])
    .describe('attributes of raw items: the items of each value are a slice, as in accuracy[field=value]'),
  classes: z
    .record(nameSchema, z.array(z.string()).min(1))
    .default({})
    .describe('groups of classes by name: the items of these classes are a slice, as in accuracy[name]'),
});

/** See {@link slicesSchema}. */
export type Slices = z.output<typeof slicesSchema>;

/** What is measured of a slice. None is a metric of one class, so that `name[…]` never means two things. */
export const sliceMetrics = [
  'accuracy',
  'balanced_accuracy',
  'macro_f1',
  'log_loss',
  'brier',
  'ece',
  'mae',
  'rmse',
] as const;

/** The parts of a metric of a slice, `accuracy[lighting=night]`; null for any other name. */
export function sliceMetric(metric: string): { name: (typeof sliceMetrics)[number]; slice: string } | null {
  const found = /^([a-z_]+)\[([\s\S]+)\]$/.exec(metric);
  const name = sliceMetrics.find((one) => one === found?.[1]);
  return name && found ? { name, slice: found[2]! } : null;
}

/** Values of a field that become slices: the most frequent ones. */
const mostValues = 20;

/** What of a withheld set says which slice an item is in; `attributes` is null for tensors, which have none. */
export interface SlicedItems {
  y: readonly number[];
  classes: readonly string[];
  attributes: readonly Readonly<Record<string, string>>[] | null;
}

/** The slices that hold items, by name, with the places of their items in ascending order. Pure. */
export function slicesOf(slices: Slices, items: SlicedItems): Map<string, number[]> {
  const found = new Map<string, number[]>();
  for (const [name, members] of Object.entries(slices.classes)) {
    const places = items.y.flatMap((label, place) =>
      members.includes(items.classes[label]!) ? [place] : [],
    );
    if (places.length > 0) found.set(name, places);
  }
  for (const field of slices.fields) {
    const values = new Map<string, number[]>();
    for (const [place, attributes] of (items.attributes ?? []).entries()) {
      if (!Object.hasOwn(attributes, field)) continue;
      const value = attributes[field]!;
      const places = values.get(value) ?? [];
      places.push(place);
      values.set(value, places);
    }
    const frequent = [...values].sort(([a, x], [b, y]) => y.length - x.length || (a < b ? -1 : 1));
    for (const [value, places] of frequent.slice(0, mostValues)) found.set(`${field}=${value}`, places);
  }
  return found;
}
