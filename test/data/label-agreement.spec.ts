import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  agreementOf,
  cohenKappa,
  fleissKappa,
  krippendorffAlpha,
  listDistance,
  percentAgreement,
  type Ratings,
} from '../../src/data/label-agreement.ts';

/** Rows of one pair, as often as said. */
const pairs = (counts: readonly [string, string, number][]): Ratings =>
  counts.flatMap(([a, b, times]) => Array.from({ length: times }, () => [a, b]));

/** Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section C: four observers, twelve units. */
const krippendorff: Ratings = [
  ['1', '1', null, '1'],
  ['2', '2', '3', '2'],
  ['3', '3', '3', '3'],
  ['3', '3', '3', '3'],
  ['2', '2', '2', '2'],
  ['1', '2', '3', '4'],
  ['4', '4', '4', '4'],
  ['1', '1', '2', '1'],
  ['2', '2', '2', '2'],
  [null, '5', '5', '5'],
  [null, null, '1', '1'],
  [null, null, '3', null],
];

/** Fleiss' worked example as it is widely printed: ten subjects, fourteen raters, five categories. */
const fleiss = [
  [0, 0, 0, 0, 14],
  [0, 2, 6, 4, 2],
  [0, 0, 3, 5, 6],
  [0, 3, 9, 2, 0],
  [2, 2, 8, 1, 1],
  [7, 7, 0, 0, 0],
  [3, 2, 6, 3, 0],
  [2, 5, 3, 2, 2],
  [6, 5, 2, 1, 0],
  [0, 2, 2, 3, 7],
].map((row) => row.flatMap((count, category) => Array.from({ length: count }, () => String(category))));

const vote = fc.constantFrom('a', 'b', 'c', null);
const table = fc.array(fc.array(vote, { minLength: 3, maxLength: 3 }), { maxLength: 20 });

describe('agreement', () => {
  it('is what the printed tables say', () => {
    expect(krippendorffAlpha(krippendorff)).toBeCloseTo(0.743, 3);
    expect(fleissKappa(fleiss)).toBeCloseTo(0.21, 3);
    // 50 proposals judged by two readers: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no.
    const readers = pairs([
      ['yes', 'yes', 20],
      ['yes', 'no', 5],
      ['no', 'yes', 10],
      ['no', 'no', 15],
    ]);
    expect(cohenKappa(readers)).toBeCloseTo(0.4, 12);
    expect(percentAgreement(readers)).toBeCloseTo(0.7, 12);
  });

  it('is not defined where chance explains everything or nobody voted twice', () => {
    expect(agreementOf([['a', 'a']])).toEqual({
      items: 1,
      percent: 1,
      cohen: null,
      fleiss: null,
      alpha: null,
    });
    expect(agreementOf([['a', null]])).toMatchObject({ items: 0, percent: null, alpha: null });
    expect(agreementOf([])).toMatchObject({ items: 0, percent: null });
  });

  it('does not depend on the order of items or on the names of labels', () => {
    fc.assert(
      fc.property(table, (rows) => {
        const renamed = [...rows]
          .reverse()
          .map((row) => row.map((value) => (value === null ? null : `x${value}`)));
        const [one, other] = [agreementOf(rows), agreementOf(renamed)];
        for (const key of ['percent', 'fleiss', 'alpha'] as const) {
          if (one[key] === null) expect(other[key]).toBeNull();
          else expect(other[key]).toBeCloseTo(one[key], 9);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('of lists of choices counts what they share, and of single choices nothing but the same', () => {
    expect(listDistance(['a', 'b'], ['b', 'a'])).toBe(0);
    expect(listDistance(['a', 'b'], ['a'])).toBeCloseTo(1 - (1 / 2) * (2 / 3), 12);
    expect(listDistance(['a', 'b'], ['b', 'c'])).toBeCloseTo(1 - (1 / 3) * (1 / 3), 12);
    expect(listDistance(['a'], ['b', 'c'])).toBe(1);
    // Two items by two labelers, by hand: observed 4/3, expected 28/9.
    const rows: Ratings = [
      ['a b', 'a'],
      ['c', 'c'],
    ];
    const lists = (a: string, b: string) => listDistance(a.split(' '), b.split(' '));
    expect(krippendorffAlpha(rows, lists)).toBeCloseTo(4 / 7, 12);
    expect(krippendorffAlpha(rows)).toBeLessThan(4 / 7);
    expect(krippendorffAlpha(krippendorff, lists)).toBe(krippendorffAlpha(krippendorff));
  });
});
