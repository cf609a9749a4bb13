import { expect, it } from 'vitest';
import { tuneSchema } from '../../src/core/project-tune.ts';
import { renderTerminal } from '../../src/report/terminal.ts';
import { tuneReport } from '../../src/steps/tune-report.ts';
import type { Trial } from '../../src/train/tuning.ts';

const space = {
  rate: { log: [0.0003, 0.3] },
  width: { int: [8, 512], log: true },
  rule: { choice: ['adam', 'sgd'] },
};
const trial = (id: number, rate: number, losses: number[], more: Partial<Trial> = {}): Trial => ({
  ...{ id, losses, state: 'waiting', point: { rate, width: 8 * 2 ** id, rule: id % 2 ? 'sgd' : 'adam' } },
  curve: losses.flatMap((loss, rung): [number, null][] =>
    rung === 0
      ? [[loss, null]]
      : [
          [1, null],
          [loss, null],
        ],
  ),
  ...{ owner: null, since: 0, checkpoint: null, seconds: 1, why: null },
  ...more,
});
const trials = [
  trial(0, 0.001, [0.9, 0.5]),
  trial(1, 0.01, [0.8, 0.4]),
  trial(2, 0.1, [1.5]),
  trial(3, 0.3, [50_000]),
  trial(4, 0.2, [], { state: 'failed', why: 'epoch 1: loss is NaN' }),
];
const report = (more: object = {}) => {
  const tune = tuneSchema.parse({ space, max_epochs: 3, ...more });
  return tuneReport('m', tune, trials, trials[1]!, 'all 5 configurations were tried');
};
const charts = report().blocks.flatMap((block) => (block.kind === 'chart' ? [block.chart] : []));

it('the report of a search says of each trial how far it came and why no further', () => {
  const text = renderTerminal(report(), { columns: 100, color: false });
  expect(text).toMatch(/1 +0\.01 +16 +sgd +3 +0\.4000 +best/);
  expect(text).toMatch(/0 +0\.001 .* trained to the end/);
  expect(text).toMatch(/2 +0\.1 .* stopped: rank 3\/4/);
  expect(text).toMatch(/3 +0\.3 .* stopped: rank 4\/4/);
  expect(text).toMatch(/4 +0\.2 .* failed: epoch 1: loss is NaN/);
});

it('its axes have the powers of ten of a logarithmic scale, every choice, and the result by rank', () => {
  const chart = charts.find((one) => one.kind === 'parallel');
  if (chart?.kind !== 'parallel') throw new Error('no parallel coordinates');
  expect(chart.axes.map(({ name, ticks, best }) => [name, ticks.map(({ text }) => text), best])).toEqual([
    ['rate', ['0.0003', '0.001', '0.01', '0.1', '0.3'], '0.01'],
    ['width', ['8', '100', '512'], '16'],
    ['rule', ['adam', 'sgd'], 'sgd'],
    ['loss at epoch 1', ['50000', '1.5', '0.8'], '0.8'],
  ]);
  // One that went wrong takes a place, and no more room than any other.
  expect(chart.lines.map(({ places }) => Math.round(places.at(-1)! * 3))).toEqual([2, 1, 0, 3]);
});

it('its learning curves name the longest and have all others behind them', () => {
  const many = tuneReport(
    'm',
    tuneSchema.parse({ space, max_epochs: 3 }),
    [...trials, ...[5, 6, 7].map((id) => trial(id, 0.02, [2 + id]))],
    trials[1]!,
    'done',
  );
  const chart = many.blocks.flatMap((block) => (block.kind === 'chart' ? [block.chart] : []))[1]!;
  if (chart.kind !== 'lines') throw new Error('no curves');
  expect(chart.series).toHaveLength(6);
  expect(chart.series[0]!.name).toBe('trial 1 (best)');
  expect(chart.behind).toHaveLength(2);
});

it('of many hyperparameters there is one column, behind what became of the trial', () => {
  const wide = Object.fromEntries(['a', 'b', 'c', 'd', 'e'].map((name) => [name, { uniform: [0, 1] }]));
  const tune = tuneSchema.parse({ space: wide, max_epochs: 3 });
  const point = Object.fromEntries(Object.keys(wide).map((name) => [name, 0.5]));
  const one = { ...trials[1]!, point };
  const text = renderTerminal(tuneReport('m', tune, [one], one, 'done'), { columns: 80, color: false });
  expect(text).toMatch(/trial +epochs +loss +fate +configuration/);
  expect(text).toMatch(/1 +3 +0\.4000 +best +a 0\.5, b 0\.5/);
});
