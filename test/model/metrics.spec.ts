import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { scoresSchema } from '../../src/core/evaluation.ts';
import { compare, mcnemar, score } from '../../src/model/metrics.ts';
import { seededRandom } from '../../src/train/random.ts';

const names = ['a', 'b', 'c'];
/** Six items of three classes; predicted a b b c a c, truth a b c c b a. */
const table = Float32Array.from([
  0.7, 0.2, 0.1, 0.1, 0.8, 0.1, 0.2, 0.5, 0.3, 0.05, 0.05, 0.9, 0.6, 0.3, 0.1, 0.25, 0.25, 0.5,
]);
const truth = [0, 1, 2, 2, 1, 0];

/** Random probabilities of `count` items that favour the truth by `skill`. */
function randomRows(count: number, classes: number, skill: number, seed: number) {
  const random = seededRandom('rows', seed);
  const labels = Uint8Array.from({ length: count }, () => Math.floor(random() * classes));
  const rows = new Float32Array(count * classes);
  for (let i = 0; i < count; i++) {
    let sum = 0;
    for (let k = 0; k < classes; k++) sum += rows[i * classes + k] = random() + (k === labels[i] ? skill : 0);
    for (let k = 0; k < classes; k++) rows[i * classes + k]! /= sum;
  }
  return { rows, labels };
}

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
    // The truth is first or second in all but the last, whose tie for second goes to the first class: so in all.
    expect(value('top2_accuracy')).toBeCloseTo(1, 12);
    // Six confidences in six different bins: .7 hit, .8 hit, .5 miss, .9 hit, .6 miss, .5 miss.
    expect(value('ece')).toBeCloseTo((0.3 + 0.2 + 0.1 + 0.6 + (0.5 + 0.5)) / 6, 6);
    expect(scores.perClass[0]).toEqual({ name: 'a', precision: 0.5, recall: 0.5, f1: 0.5, support: 2 });
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

test('scores agree with scikit-learn on random rows (needs python3 with scikit-learn)', (context) => {
  const python = process.env.CDL_PYTHON ?? 'python3';
  const { rows, labels } = randomRows(500, 4, 0.3, 9);
  const script = `
import json, sys
import numpy as np
from sklearn import metrics as m
d = json.load(sys.stdin)
p = np.array(d["rows"], dtype=np.float64).reshape(-1, 4); y = np.array(d["labels"]); q = p.argmax(1)
k = dict(average="macro", zero_division=0)
print(json.dumps({"accuracy": m.accuracy_score(y, q), "balanced_accuracy": m.balanced_accuracy_score(y, q),
  "macro_precision": m.precision_score(y, q, **k), "macro_recall": m.recall_score(y, q, **k), "macro_f1": m.f1_score(y, q, **k),
  "log_loss": m.log_loss(y, p / p.sum(1, keepdims=True)), "top2_accuracy": m.top_k_accuracy_score(y, p, k=2)}))`;
  try {
    execFileSync(python, ['-c', 'import sklearn'], { stdio: 'ignore' });
  } catch {
    return context.skip('python3 with scikit-learn is not installed');
  }
  const input = JSON.stringify({ rows: [...rows], labels: [...labels] });
  const text = execFileSync(python, ['-c', script], { input }).toString();
  const ours = score(rows, labels, ['a', 'b', 'c', 'd'], { bootstrap: 0 }).metrics;
  for (const [name, value] of Object.entries(JSON.parse(text) as Record<string, number>)) {
    expect(ours[name]!.value).toBeCloseTo(value, 6);
  }
});
