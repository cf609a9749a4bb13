import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { scoresSchema } from '../../src/core/evaluation.ts';
import { compareCorrect, correctness } from '../../src/model/correct.ts';
import { compare, mcnemar, score } from '../../src/model/metrics.ts';
import { randomRows } from './random-rows.ts';

const names = ['a', 'b', 'c'];
/** Six items of three classes; predicted a b b c a c, truth a b c c b a. */
const table = Float32Array.from([
  0.7, 0.2, 0.1, 0.1, 0.8, 0.1, 0.2, 0.5, 0.3, 0.05, 0.05, 0.9, 0.6, 0.3, 0.1, 0.25, 0.25, 0.5,
]);
const truth = [0, 1, 2, 2, 1, 0];

describe('scores', () => {
  const scores = score(table, truth, names, { bootstrap: 200 });
  const value = (name: string) => scores.metrics[name]!.value;

  test('agree with a table computed by hand', () => {
    expect(scores.confusion).toEqual([
      [1, 0, 1],
      [1, 1, 0],
      [0, 1, 1],
    ]);
    expect(value('accuracy')).toBeCloseTo(3 / 6, 12);
    expect(value('balanced_accuracy')).toBeCloseTo(0.5, 12);
    expect(value('macro_precision')).toBeCloseTo(0.5, 12);
    expect(value('macro_recall')).toBeCloseTo(0.5, 12);
    expect(value('macro_f1')).toBeCloseTo(0.5, 12);
    const p = [0.7, 0.8, 0.3, 0.9, 0.3, 0.25];
    expect(value('log_loss')).toBeCloseTo(p.reduce((sum, one) => sum - Math.log(one), 0) / 6, 6);
    // Squared distances to the one-hot truth: .14 .06 .78 .015 .86 .875.
    expect(value('brier')).toBeCloseTo((0.14 + 0.06 + 0.78 + 0.015 + 0.86 + 0.875) / 6, 6);
    // The truth is first or second in all but the last, whose tie for second goes to the later class.
    expect(value('top2_accuracy')).toBeCloseTo(5 / 6, 12);
    // Six confidences in six different bins: .7 hit, .8 hit, .5 miss, .9 hit, .6 miss, .5 miss.
    expect(value('ece')).toBeCloseTo((0.3 + 0.2 + 0.1 + 0.6 + (0.5 + 0.5)) / 6, 6);
    expect(scores.perClass[0]).toMatchObject({
      name: 'a',
      precision: 0.5,
      recall: 0.5,
      specificity: 3 / 4,
      f1: 0.5,
      support: 2,
    });
    expect(value('map')).toBeCloseTo((1 + 1 + 1 / 2 + 1 + 1 / 2 + 1 / 3) / 6, 12);
    expect(scores.calibration!.reduce((sum, bin) => sum + bin.count, 0)).toBe(6);
  });

  test('of classes that are numbers tell the errors of the expected value, with intervals, and how two models differ', () => {
    // Expected 1.4, 2, 2.1, 2.85, 1.5, 2.25; truth 1, 2, 3, 3, 2, 1; errors .4, 0, .9, .15, .5, 1.25.
    const values = [1, 2, 3];
    const own = score(table, truth, ['1', '2', '3'], { bootstrap: 200, values });
    const of = (name: string) => own.metrics[name]!;
    const squares = 0.16 + 0.81 + 0.0225 + 0.25 + 1.5625;
    expect(of('mae').value).toBeCloseTo(3.2 / 6, 6);
    expect(of('rmse').value).toBeCloseTo(Math.sqrt(squares / 6), 6);
    expect(of('r2').value).toBeCloseTo(1 - squares / 4, 6);
    expect(of('median_ae').value).toBeCloseTo(0.45, 6);
    expect(of('mape').value).toBeCloseTo((0.4 + 0.3 + 0.05 + 0.25 + 1.25) / 6, 6);
    for (const name of ['mae', 'rmse', 'r2', 'median_ae', 'mape']) {
      expect(of(name).low).toBeLessThan(of(name).value);
      expect(of(name).high).toBeGreaterThan(of(name).value);
    }
    const perfect = Float32Array.from(truth.flatMap((label) => names.map((_, k) => (k === label ? 1 : 0))));
    const { differences } = compare(perfect, table, truth, ['1', '2', '3'], { bootstrap: 200, values });
    expect(differences.mae!.value).toBeCloseTo(-3.2 / 6, 6);
    expect(differences.mae!.high).toBeLessThan(0);
    expect(differences.r2!.value).toBeCloseTo(squares / 4, 6);
    expect(score(table, truth, names, { bootstrap: 0 }).metrics.mae).toBeUndefined();
  });

  test('are valid for the evaluation record, within their intervals, the same each time', () => {
    expect(scoresSchema.parse(scores)).toEqual(scores);
    for (const measure of Object.values(scores.metrics)) {
      expect(measure.low).toBeLessThanOrEqual(measure.value);
      expect(measure.high).toBeGreaterThanOrEqual(measure.value);
    }
    expect(score(table, truth, names, { bootstrap: 200 })).toEqual(scores);
    expect(score(table, truth, names, { bootstrap: 200, seed: 2 }).metrics).not.toEqual(scores.metrics);
  });

  test('leave out classes that neither occur nor are predicted, and count undefined precision as 0', () => {
    const rows = Float32Array.from([0.9, 0.1, 0, 0, 0.8, 0.2, 0, 0]);
    const one = score(rows, [0, 1], ['a', 'b', 'c', 'd'], { bootstrap: 0 });
    expect(one.metrics.macro_precision!.value).toBeCloseTo((0.5 + 0) / 2, 12);
    expect(one.metrics.macro_recall!.value).toBeCloseTo((1 + 0) / 2, 12);
    expect(one.metrics.balanced_accuracy!.value).toBeCloseTo(0.5, 12);
    expect(one.metrics.macro_f1!.value).toBeCloseTo((2 / 3 + 0) / 2, 12);
    expect(one.metrics.accuracy).toEqual({ value: 0.5, low: 0.5, high: 0.5 });
  });

  test('have the interval of a proportion for accuracy', () => {
    const { rows, labels } = randomRows(4000, 5, 0.4, 1);
    const { value: p, low, high } = score(rows, labels, ['a', 'b', 'c', 'd', 'e']).metrics.accuracy!;
    const half = 1.96 * Math.sqrt((p * (1 - p)) / 4000);
    expect(low).toBeCloseTo(p - half, 2);
    expect(high).toBeCloseTo(p + half, 2);
    expect((high - low) / (2 * half)).toBeGreaterThan(0.9);
    expect((high - low) / (2 * half)).toBeLessThan(1.1);
  });

  test('stay finite for a sure and wrong prediction, and refuse what does not fit', () => {
    const sure = score(Float32Array.from([0, 1, 1, 0]), [0, 0], ['a', 'b'], { bootstrap: 10 });
    expect(sure.metrics.log_loss!.value).toBeCloseTo(-Math.log(2 ** -23) / 2, 5);
    expect(() => score(table, [0, 1], names)).toThrow(/18 probabilities for 2 items/);
    expect(() => score(table, [0, 1, 2, 3, 0, 0], names)).toThrow(/label 3 of 3/);
    expect(() => score(new Float32Array(0), [], names)).toThrow(/no items/);
    expect(() => score(new Float32Array(3), [0], names)).toThrow(/sum to 0/);
  });

  test('do not depend on the order of the items', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), (seed) => {
        const { rows, labels } = randomRows(30, 3, 0.3, seed);
        const order = Array.from({ length: 30 }, (_, i) => (i * 7) % 30);
        const shuffled = Float32Array.from(order.flatMap((i) => [...rows.subarray(i * 3, i * 3 + 3)]));
        const one = score(rows, labels, names, { bootstrap: 0 });
        const other = score(
          shuffled,
          order.map((i) => labels[i]!),
          names,
          { bootstrap: 0 },
        );
        expect(other.confusion).toEqual(one.confusion);
        for (const [name, { value: expected }] of Object.entries(one.metrics)) {
          expect(other.metrics[name]!.value).toBeCloseTo(expected, 9);
        }
      }),
    );
  });
});

describe('a comparison', () => {
  test('finds no difference between a model and itself', () => {
    const { differences, mcnemar: test } = compare(table, table, truth, names, { bootstrap: 100 });
    for (const difference of Object.values(differences))
      expect(difference).toEqual({ value: 0, low: 0, high: 0 });
    expect(test).toEqual({ onlyCandidate: 0, onlyBaseline: 0, p: 1 });
  });

  test('is much sharper paired than the two intervals apart, and turns round with its sides', () => {
    const { rows, labels } = randomRows(3000, 3, 0.5, 5);
    const worse = Float32Array.from(rows);
    // Every fiftieth item is turned into a miss.
    for (let i = 0; i < 3000; i += 50)
      for (let k = 0; k < 3; k++) worse[i * 3 + k] = k === (labels[i]! + 1) % 3 ? 1 : 0;
    const { differences, mcnemar: test } = compare(worse, rows, labels, names);
    const own = score(worse, labels, names).metrics.accuracy!;
    const { value, low, high } = differences.accuracy!;
    expect(value).toBeLessThan(0);
    expect(high).toBeLessThan(0);
    expect(high - low).toBeLessThan((own.high - own.low) / 2);
    expect(test.onlyCandidate).toBe(0);
    expect(test.p).toBeLessThan(1e-6);
    expect(differences['recall[b]']!.value).toBeLessThan(0);
    const apart =
      score(worse, labels, names).perClass[1]!.roc_auc! - score(rows, labels, names).perClass[1]!.roc_auc!;
    for (const name of ['roc_auc[b]', 'pr_auc[b]']) {
      expect(differences[name]!.high).toBeLessThan(0);
      expect(differences[name]!.high).toBeGreaterThan(differences[name]!.value);
    }
    expect(differences['roc_auc[b]']!.value).toBeCloseTo(apart, 12);
    const back = compare(rows, worse, labels, names).differences.accuracy!;
    expect([back.value, back.low, back.high]).toEqual(
      [-value, -high, -low].map((n) => expect.closeTo(n, 12)),
    );
  });

  test.each([
    // b, c, twice the binomial tail by hand.
    [0, 0, 1],
    [1, 0, 1],
    [0, 5, 2 / 32],
    [2, 8, (2 * (1 + 10 + 45)) / 1024],
    [5, 5, 1],
  ])('McNemar of %i and %i has p %d', (b, c, p) => {
    expect(mcnemar(b, c)).toBeCloseTo(p, 12);
    expect(mcnemar(c, b)).toBeCloseTo(p, 12);
  });

  test('McNemar stays exact for thousands of disagreements', () => {
    // Normal approximation with continuity correction: z = (|b − c| − 1) / √(b + c).
    expect(mcnemar(2450, 2550)).toBeCloseTo(0.1616, 3);
    expect(mcnemar(1000, 4000)).toBeLessThan(1e-300);
  });
});

describe('areas under the curves', () => {
  const area = (rows: number[], labels: number[]) => {
    const both = Float32Array.from(rows.flatMap((p) => [1 - p, p]));
    return score(both, labels, ['no', 'yes'], { bootstrap: 0 });
  };

  test('are those of a curve drawn by hand, ties counting half', () => {
    // Pairs of a yes and a no in the right order: 0.875 > both, 0.5 = 0.5 and > 0.25.
    const one = area([0.875, 0.5, 0.5, 0.25], [1, 1, 0, 0]);
    expect(one.perClass[1]!.roc_auc).toBeCloseTo((2 + 1.5) / 4, 12);
    // Thresholds: 0.875 (P 1, R ½), 0.5 (P ⅔, R 1).
    expect(one.perClass[1]!.pr_auc).toBeCloseTo(0.5 * 1 + 0.5 * (2 / 3), 12);
  });

  test('are not told where only one side occurs', () => {
    const one = area([0.9, 0.8], [1, 1]);
    expect(one.perClass[1]!.roc_auc).toBeUndefined();
    expect(one.metrics.roc_auc).toBeUndefined();
  });

  test('equal the share of pairs in the right order, whatever the probabilities', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 8 }), fc.boolean()), { minLength: 2 }),
        (items) => {
          const [yes, no] = [true, false].map((side) =>
            items.filter((one) => one[1] === side).map(([n]) => n),
          );
          const found = area(
            items.map(([n]) => n / 8),
            items.map(([, side]) => (side ? 1 : 0)),
          ).perClass[1]!.roc_auc;
          if (yes!.length === 0 || no!.length === 0) {
            expect(found).toBeUndefined();
            return;
          }
          let right = 0;
          for (const a of yes!) for (const b of no!) right += a > b ? 1 : a === b ? 0.5 : 0;
          expect(found).toBeCloseTo(right / (yes!.length * no!.length), 10);
        },
      ),
    );
  });
});

describe('correctness of each item', () => {
  test('gives the same test as the probabilities, and the interval of matched pairs', () => {
    const { rows, labels } = randomRows(800, 3, 0.5, 3);
    const { rows: others } = randomRows(800, 3, 0.3, 4);
    const own = correctness(rows, labels);
    const found = compareCorrect(own, correctness(others, labels));
    const full = compare(rows, others, labels, names, { bootstrap: 500 });
    expect(found).toMatchObject(full.mcnemar);
    expect(found.difference).toBeCloseTo(full.differences.accuracy!.value, 12);
    const { low, high } = full.differences.accuracy!;
    expect((2 * found.half) / (high - low)).toBeGreaterThan(0.85);
    expect((2 * found.half) / (high - low)).toBeLessThan(1.15);
    expect(() => compareCorrect(own, own.subarray(1))).toThrow(/800 and 799 items/);
  });
});
