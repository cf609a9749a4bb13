import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import MarkdownIt from 'markdown-it';
import { describe, expect, test } from 'vitest';
import type { Block, Chart, Report } from '../../src/core/report.ts';
import { chartKey, chartsOf } from '../../src/report/chart-key.ts';
import { renderMarkdown } from '../../src/report/markdown.ts';
import { renderTerminal } from '../../src/report/terminal.ts';
import { displayWidth } from '../../src/report/text.ts';
import { sample } from './sample.ts';

const golden = (name: string) => fileURLToPath(new URL(`../golden/report/${name}`, import.meta.url));
const markdown = new MarkdownIt({ html: true, linkify: true });

const hostile = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc
    .array(
      fc.constantFrom(
        '/close',
        '/merge',
        '\n/approve',
        '\r/approve',
        '\u2028/close',
        '```',
        '~~~',
        '<script>',
        '</details>',
        '<img src=x onerror=alert(1)>',
        '@all',
        '#12',
        '!3',
        '~bug',
        '%1',
        '&4',
        '$5',
        'group/p@abc',
        '[x](javascript:1)',
        '![p](/u)',
        'https://evil.example',
        '\n\n',
        '\n',
        '|',
        '`',
        '\\',
        '*',
        '_',
        '---',
        '===',
        '    ',
        '1. ',
        '- ',
        '> ',
        '<!--',
        '-->',
        ':::',
        '[[_TOC_]]',
        '\u202e',
        '\u001b[2J',
        '&lt;',
        '&#64;all',
        '[^1]: x',
        'a',
        ' ',
      ),
      { maxLength: 12 },
    )
    .map((parts) => parts.join('')),
);

const block: fc.Arbitrary<Block> = fc.letrec<{ block: Block }>((tie) => ({
  block: fc.oneof(
    { maxDepth: 2 },
    hostile.map((text): Block => ({ kind: 'text', text })),
    hostile.map((text): Block => ({ kind: 'heading', text })),
    fc.array(fc.tuple(hostile, hostile), { maxLength: 3 }).map((facts): Block => ({ kind: 'facts', facts })),
    fc
      .array(fc.array(hostile, { minLength: 2, maxLength: 2 }), { maxLength: 3 })
      .chain((rows) =>
        hostile.map((head): Block => ({ kind: 'table', head: [head, 'b'], align: ['left', 'right'], rows })),
      ),
    fc.tuple(hostile, hostile).map(
      ([name, explanation]): Block => ({
        kind: 'gates',
        gates: [{ name, status: 'fail', explanation }],
      }),
    ),
    fc.tuple(hostile, hostile).map(([language, text]): Block => ({ kind: 'code', language, text })),
    fc.tuple(hostile, hostile).map(([command, why]): Block => ({ kind: 'command', command, why })),
    fc.tuple(hostile, hostile).map(
      ([title, name]): Block => ({
        kind: 'chart',
        chart: { kind: 'bars', title, x: name, y: name, bars: [{ name, value: 1 }] },
      }),
    ),
    fc.tuple(hostile, fc.array(tie('block'), { maxLength: 3 })).map(
      ([summary, blocks]): Block => ({
        kind: 'details',
        summary,
        blocks,
      }),
    ),
  ),
})).block;

const report = fc
  .tuple(hostile, hostile, fc.array(block, { maxLength: 5 }))
  .map(([title, summary, blocks]): Report => ({ key: 'k', title, verdict: 'pass', summary, blocks }));

/** All tokens of a rendered document, nested ones too. */
function tokensOf(text: string) {
  return markdown.parse(text, {}).flatMap((token) => [token, ...(token.children ?? [])]);
}

describe('a report as markdown', () => {
  test('reads as the golden file says', async () => {
    await expect(renderMarkdown(sample)).toMatchFileSnapshot(golden('sample.md'));
  });

  test('shows the uploaded picture of a chart instead of its table', () => {
    const charts = chartsOf(sample.blocks);
    expect(charts.size).toBe(3);
    const [key] = charts.keys();
    const text = renderMarkdown(sample, new Map([[key!, '![confusion](/uploads/1/c.png)']]));
    expect(text).toContain('\n\n![Confusion](/uploads/1/c.png)\n');
    expect(text).not.toContain('truth ↓ predicted');
    expect(text).toContain('| loss by epoch ');
    const tag = '<img width="330" alt="confusion" src="https://github.example/c.png">';
    expect(renderMarkdown(sample, new Map([[key!, tag]]))).toContain(
      `\n\n${tag.replace('confusion', 'Confusion')}\n`,
    );
  });

  test('tells who cannot see a picture its title, whatever characters that has', () => {
    const chart: Chart = { kind: 'bars', title: 'a "b" <c> & @d', x: 'x', y: 'y', bars: [] };
    const tag = '<img width="330" alt="chart" src="https://github.example/c.png">';
    const report = { ...sample, blocks: [{ kind: 'chart' as const, chart }] };
    expect(renderMarkdown(report, new Map([[chartKey(chart), tag]]))).toContain(
      '<img width="330" alt="a &quot;b&quot; &lt;c&gt; &amp; @&#8203;d" src="https://github.example/c.png">',
    );
  });

  test('gives two charts of the same data the same key, and others another', () => {
    const chart = { kind: 'bars', title: 't', x: 'x', y: 'y', bars: [{ name: 'a', value: 1 }] } as const;
    expect(chartKey({ ...chart, bars: [...chart.bars] })).toBe(
      chartKey({ ...chart, bars: [{ value: 1, name: 'a' }] }),
    );
    expect(chartKey({ ...chart, bars: [{ name: 'a', value: 2 }] })).not.toBe(
      chartKey({ ...chart, bars: [...chart.bars] }),
    );
  });

  test('never holds a line that begins like a quick action', () => {
    fc.assert(
      fc.property(report, (value) => {
        const text = renderMarkdown(value);
        expect(text).not.toMatch(/(^|[\n\r\u2028\u2029\u0085])\//);
      }),
      { numRuns: 500 },
    );
  });

  test('never passes a tag, link, picture, mention or reference of its input on', () => {
    fc.assert(
      fc.property(report, (value) => {
        for (const token of tokensOf(renderMarkdown(value))) {
          if (token.type === 'html_block' || token.type === 'html_inline') {
            expect(token.content.trim()).toMatch(/^(<details>\n<summary>[^<>]*<\/summary>|<\/details>)$/);
            expect(token.content).not.toMatch(/@\w/);
          }
          expect(['link_open', 'image']).not.toContain(token.type);
          if (token.type === 'text') {
            expect(token.content).not.toMatch(/@[\p{L}\p{N}]|[#!~%&$^][\p{L}\p{N}]|:\/\/|\[\[/u);
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  test('keeps its own structure: every details that opens closes, every fence too', () => {
    fc.assert(
      fc.property(report, (value) => {
        const html = tokensOf(renderMarkdown(value)).filter((token) => token.type === 'html_block');
        const opened = html.filter((token) => token.content.startsWith('<details>')).length;
        const count = (blocks: readonly Block[]): number =>
          blocks.reduce((sum, one) => sum + (one.kind === 'details' ? 1 + count(one.blocks) : 0), 0);
        expect(opened).toBe(count(value.blocks));
        expect(html.length).toBe(2 * opened);
      }),
      { numRuns: 300 },
    );
  });

  test('fits the limit by shortening tables, code and details, and says so', () => {
    const rows = Array.from({ length: 5000 }, (_, i) => [`row ${i}`, 'x'.repeat(50)]);
    const big: Report = {
      ...sample,
      blocks: [
        { kind: 'table', head: ['a', 'b'], align: ['left', 'left'], rows },
        { kind: 'code', language: 'text', text: 'y'.repeat(500_000) },
        { kind: 'text', text: 'the end' },
      ],
    };
    for (const limit of [900_000, 100_000, 20_000, 5000, 1200]) {
      const text = renderMarkdown(big, new Map(), limit);
      expect(text.length).toBeLessThanOrEqual(limit);
      expect(text).toMatch(/^## ❌ Failed: fashion/);
      if (limit >= 5000) expect(text).toContain('the end');
      if (limit < 900_000) expect(text).toContain('shortened');
    }
    expect(renderMarkdown(big, new Map(), 20_000)).toContain('more rows');
  });
});

describe('a report in a terminal', () => {
  test('reads as the golden file says', async () => {
    await expect(renderTerminal(sample)).toMatchFileSnapshot(golden('sample.txt'));
  });

  test('stays within the columns, tables and charts included', () => {
    const { blocks, ...rest } = sample;
    const shown = { ...rest, blocks: blocks.filter((one) => one.kind !== 'command') };
    for (const columns of [40, 60, 80, 120]) {
      for (const line of renderTerminal(shown, { columns }).split('\n')) {
        expect(displayWidth(line)).toBeLessThanOrEqual(columns);
      }
    }
  });

  test('never sends a control character of its input to the terminal', () => {
    fc.assert(
      fc.property(report, (value) => {
        // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
        expect(renderTerminal(value)).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
      }),
    );
  });

  test('colours only when asked', () => {
    expect(renderTerminal(sample, { color: true })).toContain('\u001b[31m');
    expect(renderTerminal(sample)).not.toContain('\u001b');
  });
});
