import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { rulesSchema } from '../../src/core/project-data-rules.ts';
import { analyzeItems, markingWords } from '../../src/data/analyze.ts';
import { analyzeTensors } from '../../src/data/analyze-tensors.ts';
import type { RawItem } from '../../src/data/raw-item.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { runCdl } from '../cli/run-cdl.ts';
import { openScratch } from '../steps/project.ts';
import { textFiles } from '../steps/text-project.ts';

const rules = rulesSchema.parse({});

function item(text: string, label: number | null = 0, extension = 'txt'): RawItem {
  const bytes = Buffer.from(text);
  return { id: digestBytes(bytes), bytes, extension, label, attributes: {} };
}

async function* many(items: readonly RawItem[]): AsyncGenerator<RawItem> {
  yield* items;
}

describe('an analysis', () => {
  it('finds the words that mark a class out, and not those that all classes have', () => {
    const counts = new Map([
      ['the', Uint32Array.of(500, 480)],
      ['goal', Uint32Array.of(40, 1)],
      ['oven', Uint32Array.of(0, 35)],
      ['rare', Uint32Array.of(1, 0)],
    ]);
    expect(markingWords(counts, 2, 1)).toEqual([['goal'], ['oven']]);
  });

  it('names texts that are nearly the same and labelled differently', async () => {
    const words = (seed: number) =>
      Array.from({ length: 60 }, (_, at) => `word${(at * 7 + seed * 13) % 997}`);
    const one = words(1);
    const items = [
      item(one.join(' '), 0),
      item([...one.slice(0, 59), 'changed'].join(' '), 1),
      item(words(5).join(' '), 1),
    ];
    const blocks = await analyzeItems(many(items), {
      classes: ['a', 'b'],
      kind: 'text',
      rules,
      sensitive: undefined,
    });
    const facts = Object.fromEntries(blocks.flatMap((block) => (block.kind === 'facts' ? block.facts : [])));
    expect(facts).toMatchObject({ 'groups of near copies': '1', 'with different labels': '1' });
    const details = blocks.find(
      (block) => block.kind === 'details' && block.summary.includes('labelled differently'),
    );
    expect(JSON.stringify(details)).toContain(items[0]!.id.slice(7, 19));
  });

  it('says of fields how complete they are, and shows no value of a sensitive one', async () => {
    const value = fc.oneof(
      fc.string({ minLength: 3 }).map((text) => `secret-${text}`),
      fc.integer({ min: 900_001 }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(value, fc.option(fc.integer({ min: 0, max: 9 }))), { minLength: 1, maxLength: 20 }),
        async (rows) => {
          const items = rows.map(([patient, score]) =>
            item(JSON.stringify({ patient, score, kind: 'x' }), 0, 'json'),
          );
          const blocks = await analyzeItems(many(items), {
            classes: ['a'],
            kind: 'record',
            rules,
            sensitive: ['patient'],
          });
          const told = JSON.stringify(blocks);
          for (const [patient] of rows) expect(told).not.toContain(String(patient));
          const table = blocks.find((block) => block.kind === 'table' && block.head[0] === 'field');
          const scores = table?.kind === 'table' ? table.rows.find(([name]) => name === 'score') : undefined;
          expect(scores?.[1]).toBe(String(rows.filter(([, score]) => score === null).length));
        },
      ),
      { numRuns: 30 },
    );
  });

  it('of tensors says how many there are of each class, what their values are, and how many are blank', async () => {
    const dataset = {
      x: Uint8Array.of(0, 50, 100, 250, 7, 7, 7, 7, 0, 0, 0, 100),
      y: Uint8Array.of(1, 0, 1),
      count: 3,
      shape: [2, 2],
      classes: ['a', 'b'],
    };
    const blocks = await analyzeTensors(dataset, undefined);
    const facts = Object.fromEntries(blocks.flatMap((block) => (block.kind === 'facts' ? block.facts : [])));
    expect(facts).toEqual({
      items: '3, each 2 × 2',
      'largest class': 'b, 2 (66.7 %)',
      'smallest class': 'a, 1 (33.3 %)',
      values: '0 … 250',
      'mean ± deviation': '44 ± 71.859',
      'items of one value only': '1',
    });
    const charts = blocks.flatMap((block) => (block.kind === 'chart' ? [block.chart.kind] : []));
    expect(charts).toEqual(['bars', 'sheet']);
    const none = { ...dataset, x: new Uint8Array(0), y: new Uint8Array(0), count: 0 };
    expect(JSON.stringify(await analyzeTensors(none, undefined))).not.toMatch(/NaN|null|Infinity/);
  });

  it('names the rules that items break, and shows a photo as it was held', async () => {
    const { default: sharp } = await import('sharp');
    const wide = { create: { width: 200, height: 100, channels: 3 as const, background: '#a00' } };
    const turned = await sharp(wide).withMetadata({ orientation: 6 }).jpeg().toBuffer();
    const picture = { id: digestBytes(turned), bytes: turned, extension: 'jpg', label: 0, attributes: {} };
    const blocks = await analyzeItems(many([picture]), {
      classes: ['a'],
      kind: 'image',
      rules: rulesSchema.parse({ extensions: ['png'] }),
      sensitive: undefined,
    });
    const table = blocks.find((block) => block.kind === 'table' && block.head[0] === 'rule broken');
    expect(table).toMatchObject({ rows: [['not one of .png', '1']] });
    const sheet = blocks.flatMap((block) =>
      block.kind === 'chart' && block.chart.kind === 'sheet' ? block.chart.rows : [],
    );
    const shown = await sharp(Buffer.from(sheet[0]!.pictures[0]!, 'base64')).metadata();
    expect([shown.width, shown.height]).toEqual([28, 56]);
  });

  it('of a data set is a report that reads well, and the withheld side is refused', async () => {
    const scratch = await openScratch(await textFiles());
    try {
      const made = await runStep(ingest, await scratch.context(), { dataset: 'texts', side: 'train' });
      const analyze = (...more: string[]) =>
        runCdl(['data', 'analyze', ...more, '--json'], { cwd: scratch.root, env: scratch.env });
      const { code, stdout, stderr } = await analyze();
      expect(code, stderr).toBe(0);
      const said = JSON.parse(stdout) as { version: string; report: string };
      expect(said.version).toBe(made.outputs.dataset);
      const markdown = await readFile(said.report, 'utf8');
      for (const [, picture] of markdown.matchAll(/\]\(([^)]+\.png)\)/g)) {
        const bytes = await readFile(join(scratch.root, '.cdl', 'analysis', picture!));
        expect(bytes.subarray(1, 4).toString()).toBe('PNG');
      }
      await expect(markdown).toMatchFileSnapshot(
        join(packageRoot(), 'test', 'golden', 'data', 'analysis.md'),
      );

      const withheld = await runStep(ingest, await scratch.context(), { dataset: 'texts', side: 'test' });
      const refused = await analyze('texts', withheld.outputs.dataset!);
      expect(refused.code).not.toBe(0);
      expect(refused.stdout + refused.stderr).toMatch(/withheld side|not in the work zone/);
    } finally {
      await scratch.remove();
    }
  });
});
