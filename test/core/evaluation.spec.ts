import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import {
  evaluationKey,
  evaluationQuestion,
  type Gate,
  gateSchema,
  judge,
  type Measure,
  measureOf,
  type Scores,
  scoresSchema,
} from '../../src/core/evaluation.ts';

const exact = (value: number): Measure => ({ value, low: value, high: value });
const within = (value: number, by: number): Measure => ({ value, low: value - by, high: value + by });

function scores(metrics: Record<string, Measure>, perClass: Record<string, number> = {}): Scores {
  return {
    count: 100,
    classes: Object.keys(perClass),
    metrics,
    perClass: Object.entries(perClass).map(([name, value]) => ({
      name,
      precision: value,
      recall: value,
      f1: value,
      support: 10,
    })),
    confusion: [],
  };
}

/** gate, the candidate's scores, production's (or null), differences → what the gate says. */
type Row = [
  what: string,
  gate: Gate,
  now: Scores,
  before: Scores | null,
  differences: Record<string, Measure>,
  status: string,
  name: string,
  explanation: string,
];

const accuracy = (value: number) => scores({ accuracy: exact(value) });
const table: Row[] = [
  [
    'above a minimum',
    { metric: 'accuracy', min: 0.85 },
    accuracy(0.9),
    null,
    {},
    'pass',
    'accuracy ≥ 85 %',
    '90.00 % is 5.00 points above the limit',
  ],
  [
    'at a minimum',
    { metric: 'accuracy', min: 0.85 },
    accuracy(0.85),
    null,
    {},
    'pass',
    'accuracy ≥ 85 %',
    '85.00 % is at the limit',
  ],
  [
    'a hair below a minimum',
    { metric: 'accuracy', min: 0.85 },
    accuracy(0.84999),
    null,
    {},
    'fail',
    'accuracy ≥ 85 %',
    '85.00 % is 0.001 points below the limit',
  ],
  [
    'below a maximum',
    { metric: 'size_bytes', max: 2_000_000 },
    scores({ size_bytes: exact(1_500_000) }),
    null,
    {},
    'pass',
    'size_bytes ≤ 2 MB',
    '1.50 MB is 500 KB below the limit',
  ],
  [
    'at a maximum',
    { metric: 'size_bytes', max: 100 },
    scores({ size_bytes: exact(100) }),
    null,
    {},
    'pass',
    'size_bytes ≤ 100 bytes',
    '100 bytes is at the limit',
  ],
  [
    'above a maximum',
    { metric: 'latency_ms', max: 100 },
    scores({ latency_ms: exact(150.25) }),
    null,
    {},
    'fail',
    'latency_ms ≤ 100 ms',
    '150 ms is 50.3 ms above the limit',
  ],
  [
    'a metric nobody measured',
    { metric: 'auc', min: 0.1 },
    accuracy(1),
    null,
    {},
    'fail',
    'auc ≥ 0.1',
    'auc was not measured',
  ],
  [
    'a metric that is no number',
    { metric: 'accuracy', max: 1 },
    accuracy(Number.NaN),
    null,
    {},
    'fail',
    'accuracy ≤ 100 %',
    'accuracy was not measured',
  ],
  [
    'a drop without production',
    { metric: 'accuracy', max_drop: 0.01 },
    accuracy(0.9),
    null,
    {},
    'skip',
    'accuracy drop ≤ 1 point against production',
    'nothing is in production yet',
  ],
  [
    'a drop within the bound',
    { metric: 'accuracy', max_drop: 0.01 },
    accuracy(0.9),
    accuracy(0.9),
    { accuracy: within(0, 0.01) },
    'pass',
    'accuracy drop ≤ 1 point against production',
    '90.00 % against 90.00 %: 0.00 points (95 % interval -1.00 … 1.00 points)',
  ],
  [
    'a drop whose interval leaves the bound',
    { metric: 'accuracy', max_drop: 0.01 },
    accuracy(0.9),
    accuracy(0.9),
    { accuracy: within(0, 0.0101) },
    'fail',
    'accuracy drop ≤ 1 point against production',
    '90.00 % against 90.00 %: 0.00 points (95 % interval -1.01 … 1.01 points)',
  ],
  [
    'a gain, however large',
    { metric: 'accuracy', max_drop: 0 },
    accuracy(0.9),
    accuracy(0.5),
    { accuracy: within(0.4, 0.1) },
    'pass',
    'accuracy drop ≤ 0 points against production',
    '90.00 % against 50.00 %: +40.00 points (95 % interval 30.00 … 50.00 points)',
  ],
  [
    'no drop at all where none is allowed',
    { metric: 'accuracy', max_drop: 0 },
    accuracy(0.5),
    accuracy(0.5),
    {},
    'pass',
    'accuracy drop ≤ 0 points against production',
    '50.00 % against 50.00 %: 0.00 points',
  ],
  [
    'a rise within the bound',
    { metric: 'log_loss', max_rise: 0.5 },
    scores({ log_loss: exact(1) }),
    scores({ log_loss: exact(0.5) }),
    {},
    'pass',
    'log_loss rise ≤ 0.5 against production',
    '1 against 0.5000: +0.5000',
  ],
  [
    'a rise whose interval leaves the bound',
    { metric: 'log_loss', max_rise: 0.5 },
    scores({ log_loss: within(1, 0.25) }),
    scores({ log_loss: exact(0.5) }),
    {},
    'fail',
    'log_loss rise ≤ 0.5 against production',
    '1 against 0.5000: +0.5000 (95 % interval 0.2500 … 0.7500)',
  ],
  [
    'a drop of what production did not measure',
    { metric: 'auc', max_drop: 1 },
    scores({ auc: exact(1) }),
    accuracy(1),
    {},
    'fail',
    'auc drop ≤ 1 against production',
    'auc was not measured on both',
  ],
  [
    'a difference that is no number',
    { metric: 'accuracy', max_drop: 1 },
    accuracy(0.9),
    accuracy(Number.NaN),
    {},
    'fail',
    'accuracy drop ≤ 100 points against production',
    '90.00 % against NaN: NaN (95 % interval NaN … NaN)',
  ],
];

describe('a gate', () => {
  it.each(table)('judges %s', (_what, gate, now, before, differences, status, name, explanation) => {
    expect(judge([gate], now, before, differences)).toEqual({
      gates: [{ name, status, explanation }],
      verdict: status === 'fail' ? 'fail' : 'pass',
    });
  });

  it('takes the paired difference where there is one, not the looser one of the two intervals', () => {
    const now = scores({ accuracy: within(0.9, 0.02) });
    const before = scores({ accuracy: within(0.9, 0.02) });
    const gate: Gate = { metric: 'accuracy', max_drop: 0.01 };
    expect(judge([gate], now, before, {}).verdict).toBe('fail');
    expect(judge([gate], now, before, { accuracy: within(0, 0.005) }).verdict).toBe('pass');
  });

  it.each(['Ankle boot', 'T-shirt/top', 'a[b]', ']', '[', 'a]b', 'two\nlines', '__proto__', 'constructor'])(
    'finds the class %j',
    (name) => {
      const now = scores(
        {},
        Object.fromEntries([
          [name, 0.5],
          ['other', 0.9],
        ]),
      );
      for (const kind of ['precision', 'recall', 'f1']) {
        expect(measureOf(now, `${kind}[${name}]`)).toEqual(exact(0.5));
        expect(judge([{ metric: `${kind}[${name}]`, min: 0.6 }], now, null, {}).verdict).toBe('fail');
      }
      expect(measureOf(now, `support[${name}]`)).toBeNull();
    },
  );

  it.each(['__proto__', 'constructor', 'toString', 'recall[__proto__]', 'recall[]', ''])(
    'fails on the metric %j, which every object seems to have',
    (metric) => {
      const everything = scores({ accuracy: exact(1) });
      expect(measureOf(everything, metric)).toBeNull();
      expect(judge([{ metric, min: 0 }], everything, null, {}).verdict).toBe('fail');
      expect(judge([{ metric, max_drop: 9 }], everything, everything, {}).verdict).toBe('fail');
    },
  );

  it('has exactly one limit', () => {
    expect(gateSchema.safeParse({ metric: 'accuracy' }).success).toBe(false);
    expect(gateSchema.safeParse({ metric: 'accuracy', min: 0, max: 1 }).success).toBe(false);
    expect(gateSchema.safeParse({ metric: 'accuracy', max_drop: -0.1 }).success).toBe(false);
    expect(gateSchema.safeParse({ metric: 'accuracy', min: Number.NaN }).success).toBe(false);
    expect(gateSchema.safeParse({ metric: 'accuracy', min: 0 }).success).toBe(true);
  });
});

describe('the verdict', () => {
  const good: Gate = { metric: 'accuracy', min: 0.5 };
  const bad: Gate = { metric: 'accuracy', min: 0.99 };
  const skipped: Gate = { metric: 'accuracy', max_drop: 0 };

  it.each([
    ['warn', []],
    ['pass', [good]],
    ['pass', [skipped]],
    ['pass', [good, skipped]],
    ['fail', [good, bad, skipped]],
  ] as [string, Gate[]][])('is %s for the gates %j', (verdict, gates) => {
    expect(judge(gates, accuracy(0.9), null, {}).verdict).toBe(verdict);
  });

  it('is never better with one gate more', () => {
    const gate = fc.oneof(
      fc.record({
        metric: fc.constantFrom('accuracy', 'auc'),
        min: fc.double({ min: 0, max: 1, noNaN: true }),
      }),
      fc.record({
        metric: fc.constantFrom('accuracy', 'auc'),
        max_drop: fc.double({ min: 0, max: 1, noNaN: true }),
      }),
    );
    fc.assert(
      fc.property(fc.array(gate, { minLength: 1 }), gate, (gates, more) => {
        const now = accuracy(0.7);
        const before = accuracy(0.8);
        if (judge(gates, now, before, {}).verdict === 'fail') {
          expect(judge([...gates, more], now, before, {}).verdict).toBe('fail');
        }
      }),
    );
  });
});

describe('scores', () => {
  it('hold no number that is none', () => {
    expect(scoresSchema.safeParse(accuracy(0.5)).success).toBe(true);
    expect(scoresSchema.safeParse(accuracy(Number.NaN)).success).toBe(false);
    expect(scoresSchema.safeParse(accuracy(Number.POSITIVE_INFINITY)).success).toBe(false);
  });
});

describe('the question of an evaluation', () => {
  it('is another one when anything it depends on changes', () => {
    const base = {
      project: 'p',
      model: 'm',
      environment: 'e',
      candidate: digestBytes('c'),
      baseline: null,
      gates: [{ metric: 'accuracy', min: 0.5 }],
      data: digestBytes('d'),
    };
    const others = [
      { project: 'x' },
      { model: 'x' },
      { environment: 'x' },
      { candidate: digestBytes('x') },
      { baseline: digestBytes('x') },
      { gates: [{ metric: 'accuracy', min: 0.6 }] },
      { data: digestBytes('x') },
    ];
    const all = [{}, ...others].map((other) => evaluationQuestion({ ...base, ...other }));
    expect(new Set(all).size).toBe(all.length);
    expect(evaluationKey(all[0]!)).toMatch(/^evaluations\/[0-9a-f]{64}\.json$/);
  });
});
