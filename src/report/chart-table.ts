import type { Chart } from '../core/report.ts';
import { formatNumber } from './text.ts';

/** A table of plain text. */
export interface TextTable {
  head: string[];
  align: ('left' | 'right')[];
  rows: string[][];
}

/** A chart in words, for where no picture can be shown. */
export function chartTable(chart: Chart): TextTable {
  if (chart.kind === 'bars') {
    return {
      head: [chart.x, chart.y],
      align: ['left', 'right'],
      rows: chart.bars.map((bar) => [bar.name, formatNumber(bar.value)]),
    };
  }
  if (chart.kind === 'sheet') {
    return {
      head: ['of', 'pictures'],
      align: ['left', 'right'],
      rows: chart.rows.map((row) => [row.name, formatNumber(row.pictures.length)]),
    };
  }
  if (chart.kind === 'parallel') {
    return {
      head: ['hyperparameter', 'from', 'to', 'best'],
      align: ['left', 'right', 'right', 'right'],
      rows: chart.axes.map(({ name, ticks, best }) => [
        name,
        ticks[0]?.text ?? '–',
        ticks.at(-1)?.text ?? '–',
        best,
      ]),
    };
  }
  if (chart.kind === 'lines') {
    return {
      head: [`${chart.y} by ${chart.x}`, 'first', 'lowest', 'highest', 'last'],
      align: ['left', 'right', 'right', 'right', 'right'],
      rows: chart.series.map(({ name, points }) => {
        const values = points.map((point) => point[1]);
        const lowest = values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
        const highest = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
        const all = values.length === 0 ? [] : [values[0]!, lowest, highest, values.at(-1)!];
        return [name, ...(all.length === 0 ? ['–', '–', '–', '–'] : all.map(formatNumber))];
      }),
    };
  }
  return {
    head: ['truth ↓ predicted →', ...chart.classes],
    align: ['left', ...chart.classes.map(() => 'right' as const)],
    rows: chart.classes.map((name, row) => [name, ...(chart.counts[row] ?? []).map(formatNumber)]),
  };
}
