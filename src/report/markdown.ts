import { plural } from '../core/plural.ts';
import type { Block, Chart, Report } from '../core/report.ts';
import { chartKey } from './chart-key.ts';
import { chartTable, type TextTable } from './chart-table.ts';
import { codeSpan, escapeHtml, escapeInline, escapeLine } from './escape.ts';
import { cleanLine, cleanText, clip, displayWidth, gateWords, pad, verdictWords } from './text.ts';

/** How much of each block is shown; the first that fits the limit is taken. */
interface Budget {
  rows: number;
  cell: number;
  text: number;
  code: number;
  details: boolean;
}

const budgets: readonly Budget[] = [
  { rows: Number.POSITIVE_INFINITY, cell: 4000, text: 100_000, code: 300_000, details: true },
  { rows: 500, cell: 1000, text: 20_000, code: 50_000, details: true },
  { rows: 100, cell: 300, text: 5000, code: 10_000, details: true },
  { rows: 25, cell: 120, text: 2000, code: 3000, details: true },
  { rows: 10, cell: 80, text: 500, code: 800, details: false },
];

const shortened = '*This report was shortened; the job that made it has all of it.*';

/** Fence languages that only colour; others (mermaid, suggestion, math …) would be acted upon. */
const languages = ['text', 'yaml', 'json', 'diff', 'sh', 'ts', 'python', 'sql'];

/**
 * A report as GitLab-flavoured markdown (GitHub shows it too). Everything in the report is untrusted and escaped; no line
 * of the result begins with `/`, so nothing in it is ever a quick action.
 *
 * `pictures` holds, by {@link chartKey}, the markdown of an uploaded picture; a chart without one becomes a table. The
 * result has at most `limit` characters (GitLab refuses a note of more than 1 000 000): tables, code and details are
 * shortened first, then blocks left out from the end, both with a note.
 */
export function renderMarkdown(
  report: Report,
  pictures: ReadonlyMap<string, string> = new Map(),
  limit = 900_000,
): string {
  const refs = Object.entries(report.refs ?? {});
  const blocks: Block[] =
    refs.length === 0
      ? report.blocks
      : [...report.blocks, { kind: 'details', summary: 'Digests', blocks: [{ kind: 'facts', facts: refs }] }];
  let parts: string[] = [];
  for (const [level, budget] of budgets.entries()) {
    parts = [
      ...header(report, budget),
      ...blocks.flatMap((block) => renderBlock(block, pictures, budget)),
      ...(level === 0 ? [] : [shortened]),
    ];
    const text = `${parts.join('\n\n')}\n`;
    if (text.length <= limit) return text;
  }
  const kept: string[] = [];
  let left = limit - shortened.length - 3;
  for (const part of parts.slice(0, -1)) {
    left -= part.length + 2;
    if (left < 0) break;
    kept.push(part);
  }
  return `${[...kept, shortened].join('\n\n')}\n`;
}

function header(report: Report, budget: Budget): string[] {
  const { sign, word } = verdictWords[report.verdict];
  return [
    `## ${sign} ${word}: ${escapeInline(clip(report.title, 200))}`,
    `**${escapeInline(clip(report.summary, Math.min(budget.text, 2000))) || '–'}**`,
  ];
}

/** Parts to be separated by a blank line. */
function renderBlock(block: Block, pictures: ReadonlyMap<string, string>, budget: Budget): string[] {
  switch (block.kind) {
    case 'heading':
      return [`### ${escapeInline(clip(block.text, budget.cell))}`];
    case 'text':
      return [renderText(block.text, budget)];
    case 'facts':
      return [renderFacts(block.facts, budget)];
    case 'links':
      return [renderLinks(block.links, budget)];
    case 'table':
      return [renderTable(block, budget)];
    case 'gates':
      return [
        renderTable(
          {
            head: ['Result', 'Gate', 'Why'],
            align: ['left', 'left', 'left'],
            rows: block.gates.map((gate) => [
              `${gateWords[gate.status].sign} ${gateWords[gate.status].word}`,
              gate.name,
              gate.explanation,
            ]),
          },
          budget,
        ),
      ];
    case 'chart':
      return renderChart(block.chart, pictures, budget);
    case 'code':
      return [renderCode(block, budget)];
    case 'command':
      // A block of its own, so that the forge offers to copy it.
      return [
        ...(block.why ? [`${escapeLine(clip(block.why.replace(/[.:]\s*$/, ''), budget.text))}:`] : []),
        renderCode({ language: 'text', text: block.command }, budget),
      ];
    case 'details':
      return [
        `<details>\n<summary>${escapeHtml(clip(block.summary, 300))}</summary>`,
        ...(budget.details
          ? block.blocks.flatMap((inner) => renderBlock(inner, pictures, budget))
          : ['*Left out for length.*']),
        '</details>',
      ];
  }
}

function renderText(text: string, budget: Budget): string {
  const lines = cleanText(shorten(text, budget.text)).split(/\n[ ]*\n+/);
  return lines
    .map((paragraph) =>
      paragraph
        .split('\n')
        .filter((line) => line.trim() !== '')
        .map(escapeLine)
        .join('\\\n'),
    )
    .filter((paragraph) => paragraph !== '')
    .join('\n\n');
}

function renderFacts(facts: readonly (readonly [string, string])[], budget: Budget): string {
  const shown = facts.slice(0, budget.rows).map(([name, value]) => {
    const text = /^sha256:[0-9a-f]{64}$/.test(value)
      ? codeSpan(value)
      : escapeInline(clip(cleanLine(value), budget.cell));
    return `- **${escapeInline(clip(name, budget.cell)) || '–'}:** ${text}`;
  });
  return [...shown, ...more(facts.length - shown.length, 'fact').map((note) => `- *${note}*`)].join('\n');
}

/** As links of CommonMark (§6.3), in the form with angle brackets; what is no web address stays text. */
function renderLinks(links: readonly { name: string; text: string; url: string }[], budget: Budget): string {
  return links
    .slice(0, budget.rows)
    .map(({ name, text, url }) => {
      const label = escapeInline(clip(cleanLine(text), budget.cell));
      const parsed = URL.canParse(url) ? new URL(url) : null;
      const target =
        parsed && /^https?:$/.test(parsed.protocol)
          ? parsed.href.replace(/[<>\\\s]/g, encodeURIComponent)
          : null;
      return `- **${escapeInline(clip(cleanLine(name), budget.cell)) || '–'}:** ${target ? `[${label}](<${target}>)` : label}`;
    })
    .join('\n');
}

function renderTable(table: TextTable, budget: Budget): string {
  const cell = (text: string) => escapeInline(clip(cleanLine(text), budget.cell));
  const columns = table.head.length;
  const shown = table.rows.slice(0, budget.rows);
  const rows = [table.head, ...shown].map((row) =>
    Array.from({ length: columns }, (_, column) => cell(row[column] ?? '')),
  );
  const align = (column: number) => table.align[column] ?? 'left';
  // Padding only helps whoever reads the source; very wide cells are not worth it.
  const widths = table.head.map((_, column) =>
    Math.min(60, Math.max(3, ...rows.map((row) => displayWidth(row[column]!)))),
  );
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const ruler = widths.map((width, column) =>
    align(column) === 'right' ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width),
  );
  const [head, ...body] = rows.map((row) =>
    line(row.map((text, column) => pad(text, widths[column]!, align(column)))),
  );
  const note = more(table.rows.length - shown.length, 'row').map((text) => `\n*${text}*`);
  return [head, line(ruler), ...body, ...note].join('\n');
}

function renderChart(chart: Chart, pictures: ReadonlyMap<string, string>, budget: Budget): string[] {
  const title = escapeInline(clip(cleanLine(chart.title), budget.cell)) || '–';
  const picture = pictures.get(chartKey(chart))?.trim();
  // The forge's own markdown of its own upload; still never a line that could act. The picture shows its title, who cannot
  // see it is told.
  if (picture && !/^\s*\//m.test(picture)) {
    const alt = escapeHtml(clip(cleanLine(chart.title), budget.cell)) || '–';
    return [
      picture
        .replace(/^!\[[^\]\n]*\](?=\()/, () => `![${title}]`)
        .replace(/^(<img width="\d+") alt="[^"\n]*"/, (_, tag) => `${tag} alt="${alt}"`),
    ];
  }
  return [`**${title}**`, renderTable(chartTable(chart), { ...budget, rows: Math.min(budget.rows, 50) })];
}

/**
 * A fenced block. GitLab looks for quick actions with its own, simpler idea of a fence, so the content must hold neither a
 * fence nor a line that begins with `/`: it is indented where it would.
 */
function renderCode(block: { language: string; text: string }, budget: Budget): string {
  const text = cleanText(shorten(block.text, budget.code));
  const risky = /```|~~~|^\s*\//m.test(text);
  const body = risky ? text.replace(/^/gm, '    ') : text;
  const language = languages.includes(block.language) ? block.language : 'text';
  return `\`\`\`${language}\n${body}\n\`\`\``;
}

function shorten(text: string, length: number): string {
  if (text.length <= length) return text;
  return `${text.slice(0, length)}\n… ${text.length - length} more characters`;
}

function more(count: number, what: string): string[] {
  return count > 0 ? [`… ${plural(count, `more ${what}`)}`] : [];
}
