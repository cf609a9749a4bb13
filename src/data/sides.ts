import { UserError } from '../core/error.ts';
import type { SplitConfig } from '../core/project-split.ts';
import { createSplitter, sideOf } from './split.ts';

/** Items that stay together, as the split sees them: what decides (an id, the name of a declared group, or the bytes of a tensor), and their labels. */
export interface Group {
  name: string | Uint8Array;
  labels: readonly (number | null)[];
}

/** The side of each group by its name alone: whatever else comes or goes, it stays. */
export function sidesOf(groups: readonly Group[], split: SplitConfig, key = split.key): ('train' | 'test')[] {
  const fraction = createSplitter(key);
  return groups.map(({ name }) =>
    sideOf(fraction(typeof name === 'string' ? Buffer.from(name, 'utf8') : name), split.test),
  );
}

/** Where an item goes; `aside` for one that would join items of different sides. */
export type Placed = 'train' | 'test' | 'aside';

/**
 * The side of each item, by the number of its group. An item that was there before keeps its side, whoever is grouped with
 * it; others follow those of their group that were there before. When these are on both sides, others of the group are set
 * aside, all of them: on either side they would be near to what is on the other. A group without them goes by its name.
 */
export function placeItems(
  of: readonly number[],
  byName: readonly ('train' | 'test')[],
  before: (at: number) => 'train' | 'test' | undefined,
): Placed[] {
  const known: (Placed | undefined)[] = [];
  for (const [at, group] of of.entries()) {
    const side = before(at);
    if (side) known[group] = (known[group] ?? side) === side ? side : 'aside';
  }
  return of.map((group, at) => before(at) ?? known[group] ?? byName[group]!);
}

/** How many items of each class are withheld, of how many. */
function perClass(
  groups: readonly Group[],
  sides: readonly ('train' | 'test')[],
  classes: number,
): { test: number; all: number }[] {
  const counts = Array.from({ length: classes }, () => ({ test: 0, all: 0 }));
  for (const [index, { labels }] of groups.entries()) {
    for (const label of labels) {
      if (label === null) continue;
      counts[label]!.all += 1;
      if (sides[index] === 'test') counts[label]!.test += 1;
    }
  }
  return counts;
}

/** Whether enough and not too much of a class is withheld: on both sides, and half to twice its share. */
function isBalanced({ test, all }: { test: number; all: number }, share: number): boolean {
  if (all === 0) return true;
  return test > 0 && test < all && test >= (share / 2) * all && test <= share * 2 * all;
}

const tries = 200;

/**
 * Checks that every class is on both sides with about its share. A keyed hash gives every class its share by itself, but for
 * small ones chance may say otherwise; correcting that afterwards would move items as data grows, so instead another key is
 * proposed, which is a decision people make once. Throws UserError data-invalid.
 */
export function checkStratified(
  groups: readonly Group[],
  split: SplitConfig,
  classes: readonly string[],
): void {
  const counts = perClass(groups, sidesOf(groups, split), classes.length);
  const bad = counts.findIndex((count) => !isBalanced(count, split.test));
  if (bad < 0) return;
  const base = split.key.replace(/-\d+$/, '');
  const better = Array.from({ length: tries }, (_, index) => `${base}-${index + 2}`).find((key) =>
    perClass(groups, sidesOf(groups, split, key), classes.length).every((one) => isBalanced(one, split.test)),
  );
  const { test, all } = counts[bad]!;
  throw new UserError(
    'data-invalid',
    `split.key ${split.key} withholds ${test} of ${all} items of ${classes[bad]}; split.stratify asks for about ${Math.round(split.test * 100)} %`,
    better
      ? `say split.key: ${better}, which withholds about that of every class`
      : `collect more of ${classes[bad]}, or leave split.stratify out: no key of ${tries} tried does better`,
  );
}
