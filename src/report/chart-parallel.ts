import type { TopLevelSpec } from 'vega-lite';
import type { Chart } from '../core/report.ts';
import { chartConfig, faint, ink, shownNames } from './chart-style.ts';
import { cleanLine, clip } from './text.ts';

/** Parallel coordinates: an axis a hyperparameter, a line a configuration; colour is the rank of its score. */
export function parallelSpec(chart: Extract<Chart, { kind: 'parallel' }>, title: string): TopLevelSpec {
  const names = shownNames(
    chart.axes.map((axis) => axis.name),
    20,
  );
  const ranked = [...chart.lines].sort((a, b) => b.score - a.score);
  // The worst first, so that the better lie above them, and the best above all.
  const values = ranked.flatMap((line, rank) =>
    line.places.map((place, at) => ({
      line: rank,
      axis: names[at]!,
      place,
      quality: ranked.length > 1 ? rank / (ranked.length - 1) : 1,
      best: line.best,
    })),
  );
  const ends = names.flatMap((axis) => [0, 1].map((place) => ({ axis, place })));
  const ticks = chart.axes.flatMap((axis, at) =>
    axis.ticks.map(({ place, text }) => ({ axis: names[at]!, place, text: clip(cleanLine(text), 14) })),
  );
  const x = {
    field: 'axis',
    type: 'nominal' as const,
    sort: names,
    scale: { type: 'point' as const, padding: 0.4 },
    axis: {
      title: null,
      domain: false,
      ticks: false,
      labelAngle: 0,
      labelPadding: 26,
      labelFontWeight: 600 as const,
    },
  };
  const y = {
    field: 'place',
    type: 'quantitative' as const,
    scale: { domain: [0, 1] },
    axis: null,
  };
  const line = { type: 'line' as const, interpolate: 'monotone' as const };
  const words = (where: string, mark: object) => ({
    data: { values: ticks },
    transform: [{ filter: where }],
    mark: { type: 'text' as const, fontSize: 11, ...mark },
    encoding: { x, y, text: { field: 'text' } },
  });
  const between = 'datum.place > 0 && datum.place < 1';
  return {
    title,
    config: chartConfig,
    width: Math.max(420, 130 * names.length),
    height: 280,
    layer: [
      {
        data: { values: ends },
        mark: { type: 'line', color: '#9aa5b1', strokeWidth: 1.5 },
        encoding: { x, y, detail: { field: 'axis' } },
      },
      {
        data: { values },
        mark: { ...line, strokeWidth: 1.6, opacity: 0.75 },
        encoding: {
          x,
          y,
          detail: { field: 'line' },
          color: {
            field: 'quality',
            type: 'quantitative',
            scale: { domain: [0, 1], range: ['#dbe7f2', '#8fb9de', '#174f8a'] },
            legend: null,
          },
        },
      },
      {
        data: { values: values.filter((one) => one.best) },
        mark: {
          ...line,
          strokeWidth: 3.5,
          color: '#d55e00',
          point: { filled: true, size: 60, color: '#d55e00' },
        },
        encoding: { x, y, detail: { field: 'line' } },
      },
      words('datum.place === 0 || datum.place === 1', {
        dy: { expr: 'datum.place === 0 ? 12 : -10' },
        color: faint,
      }),
      // Beside the axis, over the lines: twice, so that they stand on white.
      words(between, { align: 'left', dx: 9, stroke: 'white', strokeWidth: 4, strokeJoin: 'round' }),
      words(between, { align: 'left', dx: 9, color: ink, fontWeight: 600 }),
    ],
  };
}
