import { createHash } from 'node:crypto';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { rulesSchema } from '../../src/core/project-data-rules.ts';
import { compareProfiles, stabilityIndex } from '../../src/data/drift.ts';
import { lookBlocks, profileRaw } from '../../src/data/look.ts';
import {
  countSize,
  emptyProfile,
  examplesPerClass,
  keepExamples,
  mergeProfiles,
  type Profile,
} from '../../src/data/profile.ts';
import type { RawItem } from '../../src/data/raw-item.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { validate } from '../../src/steps/validate.ts';
import { openScratch, type Scratch, tinyConfig } from '../steps/project.ts';
import { textFiles } from '../steps/text-project.ts';

const classes = ['a', 'b', 'c'];

function profileOf(items: readonly { size: number; label: number | null; reason: string | null }[]): Profile {
  const profile = emptyProfile(classes.length);
  const examples: Profile['examples'] = [];
  for (const { size, label, reason } of items) {
    profile.count++;
    if (label === null) profile.unlabelled++;
    else profile.perClass[label]! += 1;
    countSize(profile.bytes, size);
    if (reason) {
      profile.invalid++;
      profile.reasons[reason] = (profile.reasons[reason] ?? 0) + 1;
    }
    const id = createHash('sha256').update(`${size}/${label}/${reason}`).digest('hex');
    examples.push({ id, label, text: String(size), png: null });
  }
  return mergeProfiles(emptyProfile(classes.length), { ...profile, examples: keepExamples(examples) });
}

describe('what is counted of the items', () => {
  const item = fc.record({
    size: fc.nat(100_000),
    label: fc.option(fc.nat(2)),
    reason: fc.option(fc.constantFrom('short', 'long')),
  });

  it('is the same from one shard or seven, in any order of the shards', () => {
    fc.assert(
      fc.property(
        fc.array(item, { maxLength: 60 }),
        fc.integer({ min: 1, max: 7 }),
        fc.nat(),
        (items, n, turn) => {
          const shards = Array.from({ length: n }, (_, shard) =>
            profileOf(items.filter((_, index) => index % n === shard)),
          );
          const turned = [...shards.slice(turn % n), ...shards.slice(0, turn % n)];
          const merged = turned.reduce(mergeProfiles, emptyProfile(classes.length));
          expect(merged).toEqual(profileOf(items));
          for (const label of [0, 1, 2, null]) {
            const kept = merged.examples.filter((one) => one.label === label).length;
            expect(kept).toBeLessThanOrEqual(examplesPerClass);
          }
        },
      ),
    );
  });

  it('is shown as sizes and shortened texts, each class by its name', () => {
    const blocks = lookBlocks(
      profileOf([
        { size: 3, label: 0, reason: null },
        { size: 900, label: null, reason: null },
      ]),
      classes,
    );
    expect(JSON.stringify(blocks)).toContain('512 – 1,023');
    expect(JSON.stringify(blocks)).toContain('["without label","900"]');
  });
});

describe('drift between versions', () => {
  const many = (counts: number[], size = 100) =>
    profileOf(counts.flatMap((n, label) => Array.from({ length: n }, () => ({ size, label, reason: null }))));

  it('is nothing between equal versions, and grows with the difference', () => {
    expect(stabilityIndex([10, 20], [10, 20])).toBe(0);
    expect(stabilityIndex([100, 100], [90, 110])).toBeLessThan(0.02);
    // By hand: shares 0.5/0.5 and 0.9/0.1, (0.4)·ln(1.8) + (−0.4)·ln(0.2), nearly.
    expect(stabilityIndex([500_000, 500_000], [900_000, 100_000])).toBeCloseTo(0.8789, 3);
  });

  it('of classes or of sizes is noted when it is more than chance', () => {
    expect(compareProfiles(many([50, 50, 50]), many([55, 50, 48]), classes).notes).toEqual([]);
    expect(compareProfiles(many([50, 50, 50]), many([150, 50, 5]), classes).notes).toEqual([
      expect.stringContaining('mix of classes'),
    ]);
    expect(compareProfiles(many([50, 50, 50]), many([50, 50, 50], 9000), classes).notes).toEqual([
      expect.stringContaining('sizes have shifted'),
    ]);
  });
});

describe('the report of validate', () => {
  let scratch: Scratch;
  beforeAll(async () => {
    scratch = await openScratch();
  });
  afterAll(() => scratch.remove());

  it('shows pictures of each class, and what changed since the version before', async () => {
    const ctx = await scratch.context();
    await runStep(ingest, ctx, { dataset: '', side: 'train' });
    const first = await runStep(validate, ctx, { dataset: '', side: 'train' });
    const charts = first.report.blocks.flatMap((block) => (block.kind === 'chart' ? [block.chart] : []));
    const sheet = charts.find((chart) => chart.kind === 'sheet');
    expect(sheet?.rows.map((row) => [row.name, row.pictures.length])).toEqual([
      ['left', examplesPerClass],
      ['right', examplesPerClass],
    ]);
    expect(JSON.stringify(first.report.blocks)).not.toContain('against the version before');

    await scratch.write({ 'cdl.yaml': tinyConfig().replace('halves-1', 'halves-2') });
    const next = await scratch.context();
    await runStep(ingest, next, { dataset: '', side: 'train' });
    const second = await runStep(validate, next, { dataset: '', side: 'train' });
    expect(JSON.stringify(second.report.blocks)).toContain('against the version before');
  });

  it('has no pictures of a data set that is sensitive', async () => {
    await scratch.write({
      'cdl.yaml': tinyConfig().replace('    split:', '    sensitive: true\n    split:'),
    });
    const ctx = await scratch.context();
    await runStep(ingest, ctx, { dataset: '', side: 'train' });
    const { report } = await runStep(validate, ctx, { dataset: '', side: 'train' });
    expect(JSON.stringify(report)).not.toContain('"sheet"');
  });
});

describe('validate by several jobs', () => {
  it('says the same whatever their number and order, and waits for one that was killed', async () => {
    const files = await textFiles();
    const config = (files['cdl.yaml'] as string).replace(
      'rules: {',
      'rules: { characters: { min: 60 }, max_invalid: 0.9,',
    );
    const scratch = await openScratch({ ...files, 'cdl.yaml': config });
    try {
      const ctx = await scratch.context();
      const given = { dataset: '', side: 'train' as const };
      await runStep(ingest, ctx, given);
      const by = async (index: number, total: number) => {
        const one = { ...ctx, node: { index, total } };
        return validate.run(
          one,
          given,
          await mkdtemp(join(scratch.root, '.cdl', 'run-')),
          await validate.inputs(one, given),
        );
      };
      const alone = await by(0, 1);
      expect(alone.report.summary).toMatch(/[1-9]\d* of \d+ items break a rule/);
      for (const order of [
        [2, 0, 1],
        [4, 3, 0, 1, 2, 3],
      ]) {
        const total = Math.max(...order) + 1;
        const done = [];
        for (const index of order) done.push(await by(index, total));
        // As soon as every share is there, and again when one runs once more.
        const whole = (at: number) => new Set(order.slice(0, at + 1)).size === total;
        expect(done.map(({ partial }) => partial ?? false)).toEqual(order.map((_, at) => !whole(at)));
        expect(done.at(-1)).toEqual(alone);
      }
    } finally {
      await scratch.remove();
    }
  });
});

describe('raw items', () => {
  const text = (words: string, label: number): RawItem => {
    const bytes = Buffer.from(words);
    return { id: digestBytes(bytes), bytes, extension: 'txt', label, attributes: {} };
  };
  async function* items() {
    yield text('one two three', 0);
    yield text('x', 1);
  }

  it('are counted with the rules they break; examples are shortened, and none of a sensitive data set', async () => {
    const rules = rulesSchema.parse({ characters: { min: 3 } });
    const open = await profileRaw(items(), classes, rules, undefined, true);
    expect(open).toMatchObject({
      count: 2,
      perClass: [1, 1, 0],
      invalid: 1,
      reasons: { 'fewer than 3 characters': 1 },
    });
    expect(open.examples.map((one) => one.text).sort()).toEqual(['one two three', 'x']);
    const closed = await profileRaw(items(), classes, rules, true, true);
    expect(JSON.stringify(closed)).not.toContain('one two');
  });
});
