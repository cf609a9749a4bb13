import { z } from 'zod';

/** How often a size came up, by the power of two it lies at or above: `{ 10: 3 }` = three of 1024 to 2047. */
const histogramSchema = z.record(z.string().regex(/^\d{1,2}$/), z.int().positive());

/** What is known of the items of one side, or of a shard of them; made by counting, so that shards add up. */
export const profileSchema = z.strictObject({
  v: z.literal(1),
  count: z.int().nonnegative(),
  /** In the order of the data set's classes. */
  perClass: z.array(z.int().nonnegative()),
  unlabelled: z.int().nonnegative(),
  bytes: histogramSchema,
  /** Of items that are texts. */
  characters: histogramSchema,
  /** Items that break a rule, by reason; an item may have several. */
  reasons: z.record(z.string(), z.int().positive()),
  /** Items that break at least one. */
  invalid: z.int().nonnegative(),
  /** A few of each class, those with the smallest ids. */
  examples: z.array(
    z.strictObject({
      id: z.string(),
      label: z.int().nullable(),
      text: z.string().nullable(),
      png: z.string().nullable(),
    }),
  ),
});

/** See {@link profileSchema}. */
export type Profile = z.infer<typeof profileSchema>;
type Example = Profile['examples'][number];

/** Examples kept of each class. */
export const examplesPerClass = 6;

/** Nothing counted yet. */
export function emptyProfile(classes: number): Profile {
  return {
    v: 1,
    count: 0,
    perClass: Array.from({ length: classes }, () => 0),
    unlabelled: 0,
    bytes: {},
    characters: {},
    reasons: {},
    invalid: 0,
    examples: [],
  };
}

/** Adds one size (≥ 0) to a histogram. */
export function countSize(histogram: Record<string, number>, size: number): void {
  const bin = String(size < 1 ? 0 : Math.floor(Math.log2(size)));
  histogram[bin] = (histogram[bin] ?? 0) + 1;
}

/** Those of the examples that are kept: per class the smallest ids, so that any order and any shards give the same ones. */
export function keepExamples(examples: readonly Example[]): Example[] {
  const sorted = [...examples].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  const kept = new Map<number | null, Example[]>();
  for (const one of sorted) {
    const mine = kept.get(one.label) ?? [];
    if (mine.length < examplesPerClass && mine.at(-1)?.id !== one.id) kept.set(one.label, [...mine, one]);
  }
  return [...kept.keys()]
    .sort((a, b) => (a ?? Number.POSITIVE_INFINITY) - (b ?? Number.POSITIVE_INFINITY))
    .flatMap((label) => kept.get(label)!);
}

/** The profile of two disjoint shards together. Commutative and associative: the number of shards shows nowhere. */
export function mergeProfiles(a: Profile, b: Profile): Profile {
  return {
    v: 1,
    count: a.count + b.count,
    perClass: a.perClass.map((count, index) => count + (b.perClass[index] ?? 0)),
    unlabelled: a.unlabelled + b.unlabelled,
    bytes: addCounts(a.bytes, b.bytes),
    characters: addCounts(a.characters, b.characters),
    reasons: addCounts(a.reasons, b.reasons),
    invalid: a.invalid + b.invalid,
    examples: keepExamples([...a.examples, ...b.examples]),
  };
}

/** Sums by name, in the order of the names. */
export function addCounts(
  a: Readonly<Record<string, number>>,
  b: Readonly<Record<string, number>>,
): Record<string, number> {
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
  return Object.fromEntries(names.map((name) => [name, (a[name] ?? 0) + (b[name] ?? 0)]));
}
