import type { Block, Chart, Report } from '../core/report.ts';
import { foldBars } from './chart-fold.ts';
import { chartTable, type TextTable } from './chart-table.ts';
import {
  cleanLine,
  cleanText,
  clip,
  displayWidth,
  formatNumber,
  gateWords,
  pad,
  verdictWords,
} from './text.ts';

/** How wide the terminal is, and whether it understands colours. */
export interface TerminalOptions {
  /** Default 80, at least 40. */
  columns?: number;
  /** Default false: plain text, as for a log. */
  color?: boolean;
}

/** SGR codes (ECMA-48, 8.3.117). */
const colors = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
type Paint = (text: string, color: keyof typeof colors) => string;

const verdictColors = { pass: 'green', warn: 'yellow', fail: 'red', skip: 'dim' } as const;

/** A report for a terminal or a job log. Control characters in the report never reach the terminal. */
export function renderTerminal(report: Report, options: TerminalOptions = {}): string {
  const columns = Math.max(40, options.columns ?? 80);
  const paint: Paint = (text, color) =>
    options.color && text !== '' ? `\u001b[${colors[color]}m${text}\u001b[0m` : text;
  const { sign, word } = verdictWords[report.verdict];
  const title = clip(`${sign} ${word}: ${cleanLine(report.title)}`, columns);
  const refs = Object.entries(report.refs ?? {});
  const lines = [
    paint(title, verdictColors[report.verdict]),
    ...wrap(cleanLine(report.summary), columns).map((line) => paint(line, 'bold')),
    ...report.blocks.flatMap((block) => ['', ...renderBlock(block, columns, paint)]),
    ...(refs.length === 0 ? [] : ['', ...renderFacts(refs, columns, paint)]),
  ];
  return `${lines.join('\n')}\n`;
}

function renderBlock(block: Block, columns: number, paint: Paint): string[] {
  switch (block.kind) {
    case 'heading': {
      const text = clip(cleanLine(block.text), columns);
      return [paint(text, 'bold'), paint('─'.repeat(displayWidth(text)), 'dim')];
    }
    case 'text':
      return cleanText(block.text)
        .split('\n')
        .flatMap((line) => wrap(line, columns));
    case 'facts':
      return renderFacts(block.facts, columns, paint);
    case 'links':
      return renderFacts(
        block.links.map(({ name, text, url }): [string, string] => [name, `${text}  ${url}`]),
        columns,
        paint,
      );
    case 'table':
      return renderTable(block, columns, paint);
    case 'gates':
      return block.gates.flatMap((gate) => {
        const { sign, word } = gateWords[gate.status];
        const first = `${sign} ${pad(word, 7, 'left')} ${clip(cleanLine(gate.name), columns - 12)}`;
        return [
          paint(first, verdictColors[gate.status]),
          ...wrap(cleanLine(gate.explanation), columns - 4).map((line) => `    ${line}`),
        ];
      });
    case 'chart':
      return renderChart(block.chart, columns, paint);
    case 'code':
      return cleanText(block.text)
        .split('\n')
        .map((line) => paint(`  ${line}`, 'dim'));
    case 'command':
      return [
        ...wrap(`${cleanLine(block.why).replace(/[.:]\s*$/, '')}:`, columns),
        paint(`  ${cleanLine(block.command)}`, 'cyan'),
      ];
    case 'details':
      return [
        paint(`▾ ${clip(cleanLine(block.summary), columns - 2)}`, 'bold'),
        ...block.blocks
          .flatMap((inner, index) => [...(index > 0 ? [''] : []), ...renderBlock(inner, columns - 2, paint)])
          .map((line) => (line === '' ? '' : `  ${line}`)),
      ];
  }
}

/** Names beside values; a value with a word that does not fit there (a digest, which people copy) stands below its name. */
function renderFacts(facts: readonly (readonly [string, string])[], columns: number, paint: Paint): string[] {
  const widest = Math.max(0, ...facts.map(([name]) => displayWidth(cleanLine(name))));
  const width = Math.min(widest, Math.floor(columns / 3));
  const room = columns - width - 2;
  return facts.flatMap(([name, value]) => {
    const [label, text] = [cleanLine(name), cleanLine(value)];
    const isWide = displayWidth(label) > width;
    if (isWide && displayWidth(label) + 2 + displayWidth(text) <= columns) {
      return [`${paint(label, 'dim')}  ${text}`];
    }
    if (isWide || text.split(' ').some((word) => displayWidth(word) > room)) {
      return [
        paint(clip(label, columns), 'dim'),
        ...wrap(text, Math.max(1, columns - 2)).map((line) => `  ${line}`),
      ];
    }
    const lines = wrap(text, room);
    const before = paint(pad(label, width, 'left'), 'dim');
    return lines.map((line, index) => `${index === 0 ? before : ' '.repeat(width)}  ${line}`.trimEnd());
  });
}

/** Columns no narrower than this for the sake of their cells alone. */
const leastHead = 6;

/** Columns shrink, widest first, until the table fits: heads before cells. What does not fit is cut with an ellipsis. */
function renderTable(table: TextTable, columns: number, paint: Paint): string[] {
  const cells = [table.head, ...table.rows].map((row) =>
    table.head.map((_, column) => cleanLine(row[column] ?? '')),
  );
  const widths = table.head.map((_, column) =>
    Math.max(1, ...cells.map((row) => displayWidth(row[column]!))),
  );
  const fixed = 2 * (widths.length - 1);
  const bodies = widths.map((_, column) =>
    Math.max(leastHead, ...cells.slice(1).map((row) => displayWidth(row[column]!))),
  );
  const shrink = (least: (column: number) => number) => {
    while (widths.reduce((sum, width) => sum + width, fixed) > columns) {
      const open = widths.map((width, column) => (width > least(column) ? width : 0));
      const widest = Math.max(...open);
      if (widest === 0) return;
      widths[open.indexOf(widest)]! -= 1;
    }
  };
  shrink((column) => bodies[column]!);
  shrink(() => 3);
  const line = (row: readonly string[]) =>
    row
      .map((text, column) => pad(clip(text, widths[column]!), widths[column]!, table.align[column] ?? 'left'))
      .join('  ')
      .trimEnd();
  const [head, ...body] = cells.map(line);
  const ruler = widths.map((width) => '─'.repeat(width)).join('  ');
  return [
    paint(clip(head!, columns), 'bold'),
    paint(clip(ruler, columns), 'dim'),
    ...body.map((row) => clip(row, columns)),
  ];
}

function renderChart(chart: Chart, columns: number, paint: Paint): string[] {
  const title = paint(clip(cleanLine(chart.title), columns), 'bold');
  if (chart.kind === 'bars') {
    const { bars, note } = foldBars(chart.bars);
    return [title, ...renderBars(bars, columns, paint), ...(note === null ? [] : [paint(note, 'dim')])];
  }
  // Pictures have no form in text.
  if (chart.kind === 'sheet') return [title, paint('(pictures, in the report)', 'dim')];
  if (chart.kind === 'lines') {
    const width = Math.max(0, ...chart.series.map((one) => displayWidth(cleanLine(one.name))));
    const sparks = chart.series.map(({ name, points }) => {
      const label = pad(cleanLine(name), width, 'left');
      return clip(`${label}  ${sparkline(points, Math.max(8, columns - width - 26))}`, columns);
    });
    return [title, ...sparks, paint(clip(`${cleanLine(chart.y)} by ${cleanLine(chart.x)}`, columns), 'dim')];
  }
  if (chart.kind === 'parallel') return [title, ...renderTable(chartTable(chart), columns, paint)];
  const wide = chart.classes.length * 6 + 14 > columns;
  if (!wide) return [title, ...renderTable(chartTable(chart), columns, paint)];
  return [title, ...renderConfusions(chart, columns, paint)];
}

function renderBars(
  bars: readonly { name: string; value: number }[],
  columns: number,
  paint: Paint,
): string[] {
  const names = bars.map((bar) => clip(cleanLine(bar.name), Math.floor(columns / 3)));
  const values = bars.map((bar) => formatNumber(bar.value));
  const nameWidth = Math.max(0, ...names.map(displayWidth));
  const valueWidth = Math.max(0, ...values.map(displayWidth));
  const room = Math.max(4, columns - nameWidth - valueWidth - 4);
  const most = Math.max(0, ...bars.map((bar) => bar.value)) || 1;
  return bars.map((bar, index) => {
    const length = Math.max(0, Math.round((bar.value / most) * room)) || 0;
    return `${pad(names[index]!, nameWidth, 'left')}  ${pad(values[index]!, valueWidth, 'right')}  ${paint('█'.repeat(length), 'cyan')}`.trimEnd();
  });
}

/** Eight heights of block, resampled to `width` cells, with the first and last value beside it. */
function sparkline(points: readonly (readonly [number, number])[], width: number): string {
  const values = points.map((point) => point[1]).filter(Number.isFinite);
  if (values.length === 0) return '–';
  const count = Math.min(width, values.length);
  const sampled = Array.from(
    { length: count },
    (_, i) => values[Math.round((i * (values.length - 1)) / Math.max(1, count - 1))]!,
  );
  const low = Math.min(...sampled);
  const span = Math.max(...sampled) - low || 1;
  const blocks = sampled
    .map((value) => '▁▂▃▄▅▆▇█'[Math.min(7, Math.floor(((value - low) / span) * 8))])
    .join('');
  return `${formatNumber(values[0]!)} ${blocks} ${formatNumber(values.at(-1)!)}`;
}

/** A matrix too wide for the terminal, as its most frequent mistakes. */
function renderConfusions(
  chart: Extract<Chart, { kind: 'confusion' }>,
  columns: number,
  paint: Paint,
): string[] {
  const mistakes = chart.counts.flatMap((row, truth) => {
    const total = row.reduce((sum, count) => sum + count, 0);
    return row.flatMap((count, predicted) =>
      count > 0 && predicted !== truth ? [{ truth, predicted, count, share: count / total }] : [],
    );
  });
  mistakes.sort((a, b) => b.count - a.count || a.truth - b.truth || a.predicted - b.predicted);
  const rows = mistakes
    .slice(0, 10)
    .map(({ truth, predicted, count, share }) => [
      chart.classes[truth] ?? String(truth),
      chart.classes[predicted] ?? String(predicted),
      formatNumber(count),
      `${(share * 100).toFixed(1)} %`,
    ]);
  if (rows.length === 0) return ['no mistakes'];
  const table: TextTable = {
    head: ['truth', 'taken for', 'items', 'of its class'],
    align: ['left', 'left', 'right', 'right'],
    rows,
  };
  const rest = mistakes.length - rows.length;
  return [
    ...renderTable(table, columns, paint),
    ...(rest > 0 ? [paint(`… ${rest} more kinds of mistake`, 'dim')] : []),
  ];
}

/** Lines of at most `columns` cells; a word longer than a line is cut. */
function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (let word of text.split(' ')) {
    while (displayWidth(word) > columns) {
      if (line) lines.push(line);
      line = '';
      const head = clip(word, columns + 1).replace(/…$/, '');
      const part = head.length < word.length ? head : word.slice(0, columns);
      lines.push(part);
      word = word.slice(part.length);
    }
    if (line === '') line = word;
    else if (displayWidth(line) + 1 + displayWidth(word) <= columns) line += ` ${word}`;
    else {
      lines.push(line);
      line = word;
    }
  }
  lines.push(line);
  return lines;
}
