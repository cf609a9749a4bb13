import fc from 'fast-check';
import MarkdownIt from 'markdown-it';
import { describe, expect, it } from 'vitest';
import type { Block, Report } from '../../src/core/report.ts';
import { chartKey } from '../../src/report/chart-key.ts';
import { codeSpan, escapeHtml, escapeInline, escapeLine } from '../../src/report/escape.ts';
import { renderJunit } from '../../src/report/junit.ts';
import { renderMarkdown } from '../../src/report/markdown.ts';
import { renderOpenMetrics } from '../../src/report/openmetrics.ts';
import { expectHarmless, invisible } from './harmless.ts';
import { venomous } from './venom.ts';

const parser = new MarkdownIt({ html: true });
const rows = (html: string) => html.match(/<tr>[\s\S]*?<\/tr>/g) ?? [];

const chart = fc.oneof(
  fc.record({
    kind: fc.constant('confusion' as const),
    title: venomous,
    classes: fc.array(venomous, { minLength: 2, maxLength: 2 }),
    counts: fc.constant<number[][]>([
      [1, 2],
      [3, 4],
    ]),
  }),
  fc.record({
    kind: fc.constant('lines' as const),
    title: venomous,
    x: venomous,
    y: venomous,
    series: fc.array(
      fc.record({
        name: venomous,
        points: fc.constant<[number, number][]>([
          [0, 1],
          [1, 2],
        ]),
      }),
      { minLength: 1, maxLength: 2 },
    ),
  }),
);

const leaf: fc.Arbitrary<Block> = fc.oneof(
  fc.record({ kind: fc.constant('heading' as const), text: venomous }),
  fc.record({ kind: fc.constant('text' as const), text: venomous }),
  fc.record({
    kind: fc.constant('facts' as const),
    facts: fc.array(fc.tuple(venomous, venomous), { maxLength: 3 }),
  }),
  fc.record({
    kind: fc.constant('table' as const),
    head: fc.tuple(venomous, venomous),
    align: fc.constant<('left' | 'right')[]>(['left', 'right']),
    rows: fc.array(fc.tuple(venomous, venomous), { maxLength: 3 }),
  }),
  fc.record({
    kind: fc.constant('gates' as const),
    gates: fc.array(
      fc.record({ name: venomous, status: fc.constantFrom('pass', 'fail', 'skip'), explanation: venomous }),
      { maxLength: 2 },
    ),
  }),
  fc.record({ kind: fc.constant('chart' as const), chart }),
  fc.record({
    kind: fc.constant('code' as const),
    language: fc.oneof(venomous, fc.constantFrom('yaml', 'mermaid')),
    text: venomous,
  }),
);
const block: fc.Arbitrary<Block> = fc.oneof(
  leaf,
  fc.record({
    kind: fc.constant('details' as const),
    summary: venomous,
    blocks: fc.array(leaf, { maxLength: 3 }),
  }),
);
const reports: fc.Arbitrary<Report> = fc.record({
  key: fc.constant('report:x'),
  title: venomous,
  verdict: fc.constantFrom('pass', 'warn', 'fail'),
  summary: venomous,
  blocks: fc.array(block, { maxLength: 4 }),
});

describe('a report of names and texts that somebody chose to do harm', () => {
  it('is markdown in which nothing acts, pings, links or loads, at any length it is cut to', () => {
    fc.assert(
      fc.property(reports, fc.constantFrom(900_000, 2000, 600), (report, limit) => {
        expectHarmless(renderMarkdown(report, new Map(), limit));
      }),
      { numRuns: 800 },
    );
  });

  it('shows pictures that the forge keeps for us, and no others', () => {
    const ours = '/uploads/0123/';
    fc.assert(
      fc.property(chart, venomous, fc.boolean(), (one, text, isTag) => {
        const blocks: Block[] = [
          { kind: 'chart', chart: one },
          { kind: 'text', text },
        ];
        const picture = isTag ? `<img width="330" alt="chart" src="${ours}a.png">` : `![chart](${ours}a.png)`;
        const pictures = new Map([[chartKey(one), picture]]);
        const markdown = renderMarkdown(
          { key: 'x', title: text, verdict: 'pass', summary: text, blocks },
          pictures,
        );
        expect(parser.render(markdown).match(/<img /g)).toHaveLength(1);
        expectHarmless(markdown, [ours]);
      }),
      { numRuns: 200 },
    );
  });

  it('links to what it was told to link to, and to nothing else', () => {
    const ours = 'https://forge.example/acme/';
    fc.assert(
      fc.property(venomous, venomous, venomous, (name, text, tail) => {
        const links = [
          { name, text, url: `${ours}${tail.replaceAll('\0', '')}` },
          { name, text, url: tail },
          { name, text, url: 'javascript:alert(1)' },
        ];
        const markdown = renderMarkdown({
          ...{ key: 'x', title: 't', verdict: 'pass', summary: 's' },
          blocks: [{ kind: 'links', links }],
        });
        const targets = [...parser.render(markdown).matchAll(/<a href="([^"]*)"/g)].map(([, url]) => url!);
        expect(targets.length).toBeGreaterThanOrEqual(1);
        for (const target of targets) expect(target).toMatch(/^https?:/);
        expect(targets.filter((target) => target.startsWith('https://forge.example/'))).not.toEqual([]);
        expect(parser.render(markdown).match(/<li>/g)).toHaveLength(3);
      }),
      { numRuns: 300 },
    );
  });

  it('keeps the columns of its tables, whatever stands in a cell', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(venomous, venomous), { minLength: 1, maxLength: 4 }), (cells) => {
        const table: Block = { kind: 'table', head: ['a', 'b'], align: ['left', 'left'], rows: cells };
        const html = parser.render(
          renderMarkdown({ key: 'x', title: 't', verdict: 'pass', summary: 's', blocks: [table] }),
        );
        expect(rows(html)).toHaveLength(cells.length + 1);
        for (const row of rows(html)) expect(row.match(/<t[hd][ >]/g)).toHaveLength(2);
      }),
      { numRuns: 200 },
    );
  });
});

describe('untrusted text', () => {
  it('is harmless inside a sentence, at its beginning, as code and as HTML, also in a cell', () => {
    fc.assert(
      fc.property(venomous, (text) => {
        expectHarmless(`It says ${escapeInline(text)} there.`);
        expectHarmless(`${escapeLine(text)}, it says`);
        expectHarmless(`${codeSpan(text)} it says`);
        expectHarmless(`| a | b |\n|---|---|\n| ${codeSpan(text)} | ${escapeInline(text)} |`);
        expectHarmless(`<details>\n<summary>${escapeHtml(text)}</summary>\n\n</details>`);
      }),
      { numRuns: 600 },
    );
  });
});

describe('reports for machines', () => {
  it('stay what they are: one test for each gate, one line for each sample, nothing invisible', () => {
    fc.assert(
      fc.property(venomous, venomous, (name, text) => {
        const xml = renderJunit(name, [
          { name, status: 'fail', explanation: text },
          { name: text, status: 'pass', explanation: '' },
        ]);
        expect(xml.match(/<[a-z?/][^>]*>/gi)!.map((tag) => /^<[?/]?[a-z]+/i.exec(tag)![0])).toEqual([
          '<?xml',
          '<testsuites',
          '<testsuite',
          '<testcase',
          '<failure',
          '</testcase',
          '<testcase',
          '</testsuite',
          '</testsuites',
        ]);
        expect(xml).not.toMatch(invisible);
        const metrics = renderOpenMetrics([{ name, labels: { class: text }, value: 1 }]);
        expect(metrics).toMatch(/^cdl_[a-zA-Z0-9_]*\{class="[^\s"{}\\]*"\} 1\n# EOF\n$/);
        expect(metrics).not.toMatch(invisible);
      }),
      { numRuns: 500 },
    );
  });
});
