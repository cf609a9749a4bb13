/**
 * One item's votes: the choice of each labeler (a list of choices written as one text), or null where one has not voted.
 * All rows of a table are equally long.
 */
export type Ratings = readonly (readonly (string | null)[])[];

function countsOf(row: readonly (string | null)[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of row) if (value !== null) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

const total = (values: Iterable<number>): number => {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
};

/** The share of pairs of votes on the same item that agree, 0 to 1; null when no item has two votes. */
export function percentAgreement(ratings: Ratings): number | null {
  let agreeing = 0;
  let pairs = 0;
  for (const row of ratings) {
    const counts = [...countsOf(row).values()];
    const votes = total(counts);
    pairs += (votes * (votes - 1)) / 2;
    agreeing += total(counts.map((count) => (count * (count - 1)) / 2));
  }
  return pairs === 0 ? null : agreeing / pairs;
}

/**
 * Cohen's kappa of two labelers (Cohen 1960, A coefficient of agreement for nominal scales, eq. 1) over the items that
 * both labelled: (p_o - p_e) / (1 - p_e). Null without such items, and where both always gave one and the same label.
 */
export function cohenKappa(ratings: Ratings, first = 0, second = 1): number | null {
  const both = ratings.flatMap((row): [string, string][] => {
    const [a, b] = [row[first] ?? null, row[second] ?? null];
    return a === null || b === null ? [] : [[a, b]];
  });
  if (both.length === 0) return null;
  const observed = both.filter(([a, b]) => a === b).length / both.length;
  const left = countsOf(both.map(([a]) => a));
  const right = countsOf(both.map(([, b]) => b));
  const expected =
    total([...left].map(([value, count]) => count * (right.get(value) ?? 0))) / both.length ** 2;
  return expected === 1 ? null : (observed - expected) / (1 - expected);
}

/**
 * Fleiss' kappa (Fleiss 1971, Measuring nominal scale agreement among many raters, eq. 7) over the items with the commonest
 * number of votes above one, because the measure asks for equally many votes an item. Null where it is not defined.
 */
export function fleissKappa(ratings: Ratings): number | null {
  const tables = ratings.map(countsOf);
  const sizes = new Map<number, number>();
  for (const table of tables) {
    const votes = total(table.values());
    if (votes > 1) sizes.set(votes, (sizes.get(votes) ?? 0) + 1);
  }
  const votes = [...sizes].sort((a, b) => b[1] - a[1] || b[0] - a[0])[0]?.[0];
  if (votes === undefined) return null;
  const used = tables.filter((table) => total(table.values()) === votes);
  const shares = new Map<string, number>();
  let observed = 0;
  for (const table of used) {
    for (const [value, count] of table) {
      observed += (count * (count - 1)) / (votes * (votes - 1)) / used.length;
      shares.set(value, (shares.get(value) ?? 0) + count / (votes * used.length));
    }
  }
  const expected = total([...shares.values()].map((share) => share ** 2));
  return Math.abs(1 - expected) < 1e-12 ? null : (observed - expected) / (1 - expected);
}

/** How different two answers are, from 0 (the same) to 1. */
export type Distance = (a: string, b: string) => number;

/** Answers are the same or not. */
const nominal: Distance = (a, b) => (a === b ? 0 : 1);

/**
 * How different two lists of choices are: 1 − MASI (Passonneau 2006, Measuring Agreement on Set-Valued Items, section 3), the
 * Jaccard index times 1 for equal lists, 2/3 where one holds the other, 1/3 where they overlap, 0 where they do not. Of single
 * choices it is the same or not.
 */
export function listDistance(a: readonly string[], b: readonly string[]): number {
  const [left, right] = [new Set(a), new Set(b)];
  const shared = [...left].filter((choice) => right.has(choice)).length;
  const all = left.size + right.size - shared;
  if (shared === all) return 0;
  const weight = shared === 0 ? 0 : shared === Math.min(left.size, right.size) ? 2 / 3 : 1 / 3;
  return 1 - (shared / all) * weight;
}

/**
 * Krippendorff's alpha with any number of labelers and missing votes (Krippendorff 2011, Computing Krippendorff's
 * Alpha-Reliability, sections C and D): 1 - D_o / D_e, of nominal data unless another distance is given. Null when no item has
 * two votes, or all votes are the same.
 */
export function krippendorffAlpha(ratings: Ratings, distance: Distance = nominal): number | null {
  const totals = new Map<string, number>();
  /** The sum of the distances of all ordered pairs. */
  const apart = (counts: ReadonlyMap<string, number>): number =>
    total(
      [...counts].flatMap(([a, count]) => [...counts].map(([b, other]) => count * other * distance(a, b))),
    );
  let n = 0;
  let observed = 0;
  for (const row of ratings) {
    const counts = countsOf(row);
    const votes = total(counts.values());
    if (votes < 2) continue;
    n += votes;
    for (const [value, count] of counts) totals.set(value, (totals.get(value) ?? 0) + count);
    observed += apart(counts) / (votes - 1);
  }
  if (n === 0) return null;
  const expected = apart(totals) / (n - 1);
  return expected === 0 ? null : 1 - observed / expected;
}

/** All measures of one table. `items` counts those with two votes or more; `cohen` is there for exactly two labelers. */
export interface Agreement {
  items: number;
  percent: number | null;
  cohen: number | null;
  fleiss: number | null;
  alpha: number | null;
}

/** Every measure of agreement at once; alpha by this distance, the others compare whole answers. */
export function agreementOf(ratings: Ratings, distance?: Distance): Agreement {
  return {
    items: ratings.filter((row) => row.filter((value) => value !== null).length > 1).length,
    percent: percentAgreement(ratings),
    cohen: ratings[0]?.length === 2 ? cohenKappa(ratings) : null,
    fleiss: fleissKappa(ratings),
    alpha: krippendorffAlpha(ratings, distance),
  };
}
