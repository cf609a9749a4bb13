import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fitReport, longestReport } from '../../bot/fit.ts';
import { type Block, type Report, renderMarkdown } from '../../src/index.ts';

const line = '/approve 3f9a2c41b7d6';
const long = fc
  .tuple(fc.constantFrom('x', '`', '<', '\n', '|', '@', '*', 'é'), fc.integer({ min: 0, max: 9_000 }))
  .map(([char, count]) => char.repeat(count));
const rows = fc
  .tuple(long, fc.integer({ min: 0, max: 400 }))
  .map(([text, count]) => Array.from({ length: count }, () => [text.slice(0, 60), 'b']));
const leaf: fc.Arbitrary<Block> = fc.oneof(
  long.map((text): Block => ({ kind: 'text', text })),
  long.map((text): Block => ({ kind: 'heading', text })),
  long.map((text): Block => ({ kind: 'code', language: 'yaml', text })),
  rows.map((all): Block => ({ kind: 'table', head: ['a', 'b'], align: ['left', 'left'], rows: all })),
  rows.map((all): Block => ({ kind: 'facts', facts: all.map(([a, b]) => [a!, b!]) })),
  long.map((text): Block => ({ kind: 'gates', gates: [{ name: text, status: 'pass', explanation: text }] })),
);
const block = fc.oneof(
  leaf,
  fc
    .tuple(long, fc.array(leaf, { maxLength: 3 }))
    .map(([summary, blocks]): Block => ({ kind: 'details', summary, blocks })),
);

describe('a report', () => {
  it('fits into a comment, whatever is in it, and keeps the line to copy', () => {
    fc.assert(
      fc.property(long, long, fc.array(block, { maxLength: 12 }), (title, summary, blocks) => {
        const report: Report = {
          key: 'report',
          title,
          verdict: 'pass',
          summary,
          blocks: [...blocks, { kind: 'command', command: line, why: 'Approve' }],
        };
        const text = renderMarkdown(fitReport(report, longestReport.github));
        expect(text.length).toBeLessThanOrEqual(longestReport.github);
        expect(text).toContain(line);
      }),
      { numRuns: 12 },
    );
  });

  it('that fits is left as it is', () => {
    const report: Report = {
      key: 'a',
      title: 'a',
      verdict: 'pass',
      summary: 'b',
      blocks: [{ kind: 'text', text: 'c' }],
    };
    expect(fitReport(report, longestReport.github)).toBe(report);
  });
});
