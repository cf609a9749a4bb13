import type { TopLevelSpec } from 'vega-lite';
import type { Chart } from '../core/report.ts';
import { foldBars } from './chart-fold.ts';
import { parallelSpec } from './chart-parallel.ts';
import { chartConfig as config, faint, ink, shownNames } from './chart-style.ts';
import { cleanLine, clip, displayWidth } from './text.ts';

const blue = '#2f6fb4';

/** Colour-blind safe (Okabe & Ito 2008, Color Universal Design), darkest first. */
const palette = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000'];

/** Of shares, from none to all. */
const shares: [string, ...string[]] = ['#f5f8fb', '#c6dcef', '#7fb2d9', '#3a7fbf', '#174f8a'];

/** The vega-lite specification of a chart. Pure. */
export function chartSpec(chart: Exclude<Chart, { kind: 'sheet' }>): TopLevelSpec {
  const title = clip(cleanLine(chart.title), 90);
  switch (chart.kind) {
    case 'confusion':
      return confusionSpec(chart, title);
    case 'lines':
      return linesSpec(chart, title);
    case 'bars':
      return barsSpec(chart, title);
    case 'parallel':
      return parallelSpec(chart, title);
  }
}

/** A line below the title. */
const subtitle = (text: string) => ({ subtitle: text, subtitleColor: faint });
const withSubtitle = { ...config, title: { ...config.title, subtitleFontSize: 12, subtitlePadding: 6 } };

/** From here on cells are too small for a gap, and names for a line of their own. */
const manyClasses = 40;

/** Colour is the share of the row (how often this class was called that); the number is the count. */
function confusionSpec(chart: Extract<Chart, { kind: 'confusion' }>, title: string): TopLevelSpec {
  const names = shownNames(chart.classes, 18);
  const size = names.length;
  const cell = size <= 4 ? 72 : size <= 12 ? 52 : size <= 20 ? 36 : Math.max(8, Math.floor(760 / size));
  const values = names.flatMap((truth, row) => {
    const counts = chart.counts[row] ?? [];
    const total = counts.reduce((sum, count) => sum + count, 0);
    return names.map((predicted, column) => {
      const count = counts[column] ?? 0;
      return { truth, predicted, count, share: total > 0 ? count / total : 0 };
    });
  });
  const many = size > manyClasses;
  const slanted = names.some((name) => displayWidth(name) * 7 > cell);
  const axis = {
    ticks: false,
    domain: false,
    labelPadding: 8,
    ...(many && { labelOverlap: 'parity' as const, labelSeparation: 2 }),
  };
  const order = {
    sort: names,
    scale: { domain: names, paddingInner: many ? 0 : 0.04, paddingOuter: 0 },
  } as const;
  return {
    title: { text: title, ...subtitle('rows: truth · columns: prediction · colour: share of the row') },
    config: withSubtitle,
    width: cell * size,
    height: cell * size,
    ...(many && { view: { fill: shares[0] } }),
    // Nearly all cells of a large matrix are empty; drawing them takes most of a minute.
    data: { values: many ? values.filter(({ count }) => count > 0) : values },
    encoding: {
      x: {
        field: 'predicted',
        type: 'nominal',
        ...order,
        axis: { ...axis, title: 'predicted', labelAngle: slanted ? -40 : 0 },
      },
      y: { field: 'truth', type: 'nominal', ...order, axis: { ...axis, title: 'truth' } },
    },
    layer: [
      {
        mark: { type: 'rect', cornerRadius: many ? 0 : 3 },
        encoding: {
          color: {
            field: 'share',
            type: 'quantitative',
            scale: { domain: [0, 1], range: shares },
            legend: { title: 'share', format: '.0%', gradientLength: Math.min(200, cell * size) },
          },
        },
      },
      ...(cell >= 24
        ? [
            {
              transform: [{ filter: 'datum.count > 0' }],
              mark: { type: 'text' as const, fontSize: cell >= 48 ? 13 : 10, baseline: 'middle' as const },
              encoding: {
                text: { field: 'count', type: 'quantitative' as const, format: ',d' },
                color: {
                  condition: { test: 'datum.share > 0.5', value: 'white' },
                  value: ink,
                },
              },
            },
          ]
        : []),
    ],
  };
}

function linesSpec(chart: Extract<Chart, { kind: 'lines' }>, title: string): TopLevelSpec {
  const names = shownNames(
    chart.series.map((one) => one.name),
    28,
  );
  const values = chart.series.flatMap(({ points }, index) =>
    points
      .filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y))
      .map(([x, y]) => ({ series: names[index]!, x, y })),
  );
  const others = (chart.behind ?? []).flatMap((points, line) =>
    points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y)).map(([x, y]) => ({ line, x, y })),
  );
  const [low, high] = rangeOf(values, others);
  const behind = others.filter(({ y }) => y >= low && y <= high);
  const most = Math.max(0, ...chart.series.map((one) => one.points.length));
  const whole = values.every((value) => Number.isInteger(value.x));
  return {
    title,
    config,
    width: 560,
    height: 300,
    encoding: {
      x: {
        field: 'x',
        type: 'quantitative',
        scale: { zero: false, nice: false, padding: 6 },
        axis: {
          title: cleanLine(chart.x),
          grid: false,
          tickCount: Math.min(10, Math.max(1, most)),
          ...(whole ? { format: ',d', tickMinStep: 1 } : {}),
        },
      },
      y: {
        field: 'y',
        type: 'quantitative',
        scale: { zero: false, nice: true, ...(behind.length > 0 && { domain: [low, high] }) },
        axis: { title: cleanLine(chart.y), domain: false, ticks: false, tickCount: 6 },
      },
    },
    layer: [
      ...(behind.length > 0
        ? [
            {
              data: { values: behind },
              mark: {
                type: 'line' as const,
                color: '#c3ccd5',
                strokeWidth: 1,
                point: { size: 14, filled: true, color: '#c3ccd5' },
              },
              encoding: { detail: { field: 'line' } },
            },
          ]
        : []),
      {
        data: { values },
        mark: {
          type: 'line',
          strokeWidth: 2.5,
          interpolate: 'linear',
          point: most <= 40 ? { size: 40, filled: true } : false,
        },
        encoding: {
          color: {
            field: 'series',
            type: 'nominal',
            scale: { domain: names, range: palette },
            // Beside the picture: wherever in it, it would lie on some line.
            legend: { title: null, orient: 'right', symbolType: 'stroke' },
          },
        },
      },
    ],
  };
}

/**
 * What is shown of the values: all of the lines with a name, and of those behind them nine in ten, as long as that does not make
 * the first more than twice as flat. A trial that went wrong must not be all that is seen.
 */
function rangeOf(values: readonly { y: number }[], behind: readonly { y: number }[]): [number, number] {
  if (values.length === 0 || behind.length === 0) return [0, 1];
  const [low, high] = [Math.min(...values.map(({ y }) => y)), Math.max(...values.map(({ y }) => y))];
  const sorted = behind.map(({ y }) => y).sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
  const room = (high - low || 1) / 2;
  return [Math.min(low, Math.max(low - room, at(0.05))), Math.max(high, Math.min(high + room, at(0.95)))];
}

/** Horizontal bars, so that names of any length can be read. */
function barsSpec(chart: Extract<Chart, { kind: 'bars' }>, title: string): TopLevelSpec {
  const { bars, note } = foldBars(chart.bars);
  const names = shownNames(
    bars.map((bar) => bar.name),
    28,
  );
  const values = bars.map((bar, index) => ({ name: names[index]!, value: bar.value }));
  const whole = values.every((bar) => Number.isInteger(bar.value));
  return {
    title: note === null ? title : { text: title, ...subtitle(note) },
    config: withSubtitle,
    width: 520,
    height: { step: 28 },
    data: { values },
    encoding: {
      y: {
        field: 'name',
        type: 'nominal',
        sort: names,
        scale: { paddingInner: 0.25 },
        // Names are cut already.
        axis: { title: null, domain: false, ticks: false, labelPadding: 8, labelLimit: 0 },
      },
      x: {
        field: 'value',
        type: 'quantitative',
        // Where all are 0 there is still a left and a right.
        ...(values.every((bar) => bar.value === 0) && { scale: { domain: [0, 1] } }),
        // Each bar says its number: lines behind them would run through it.
        axis: {
          title: cleanLine(chart.y),
          tickCount: 5,
          grid: false,
          domain: false,
          ticks: false,
          ...(whole ? { format: ',d', tickMinStep: 1 } : {}),
        },
      },
    },
    layer: [
      { mark: { type: 'bar', color: blue, cornerRadiusEnd: 3 } },
      {
        mark: { type: 'text', align: 'left', dx: 5, fontSize: 12, color: faint },
        encoding: { text: { field: 'value', type: 'quantitative', format: whole ? ',d' : '.4~g' } },
      },
    ],
  };
}
