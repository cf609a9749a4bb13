import type { TopLevelSpec } from 'vega-lite';
import type { Chart } from '../core/report.ts';
import { chartConfig, faint, ink, shownNames } from './chart-style.ts';
import { cleanLine, clip } from './text.ts';

/** Far outside of the picture the drawing of pixels ends the process. */
const within = (place: number) => (Number.isFinite(place) ? Math.min(1, Math.max(0, place)) : 0);

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
      place: within(place),
      quality: ranked.length > 1 ? rank / (ranked.length - 1) : 1,
      best: line.best,
    })),
  );
  const ends = names.flatMap((axis) => [0, 1].map((place) => ({ axis, place })));
  const ticks = chart.axes.flatMap((axis, at) =>
    axis.ticks.map(({ place, text }) => ({
      axis: names[at]!,
      place,
      text: clip(cleanLine(text), 14),
      scale: axis.scale,
    })),
  );
  // On an axis of choices the word is there already.
  const winner = chart.lines.find((line) => line.best);
  const marks = chart.axes.flatMap((axis, at) =>
    winner && axis.scale
      ? [{ axis: names[at]!, place: within(winner.places[at]!), text: clip(cleanLine(axis.best), 14) }]
      : [],
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
      labelLimit: 240,
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
  const words = (where: string, mark: object, of: object[] = ticks) => ({
    data: { values: of },
    transform: [{ filter: where }],
    mark: { type: 'text' as const, fontSize: 11, ...mark },
    encoding: { x, y, text: { field: 'text' } },
  });
  const between = 'datum.place > 0 && datum.place < 1';
  const choices = `!datum.scale && ${between}`;
  // Over the lines: twice, so that they stand on white.
  const halo = { stroke: 'white', strokeWidth: 4, strokeJoin: 'round' };
  const beside = { align: 'left', dx: 9 };
  const before = { align: 'right', dx: -5 };
  // Not where the end of the axis has its word.
  const aside = { ...beside, dy: { expr: 'datum.place > 0.9 ? 14 : -9' }, fontSize: 12, fontWeight: 600 };
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
      words(choices, { ...beside, ...halo }),
      words(choices, { ...beside, color: ink, fontWeight: 600 }),
      words(`datum.scale && ${between}`, { ...before, ...halo }),
      words(`datum.scale && ${between}`, { ...before, color: faint }),
      words('true', { ...aside, ...halo }, marks),
      words('true', { ...aside, color: '#b34a00' }, marks),
    ],
  };
}
