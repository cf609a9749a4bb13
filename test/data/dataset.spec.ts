import { constants } from 'node:buffer';
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import * as tar from 'tar';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import type { DatasetConfig, SourceConfig } from '../../src/core/project.ts';
import { defaultLimits } from '../../src/core/project-read.ts';
import { buildDataset, openDataset, splitValidation } from '../../src/data/dataset.ts';
import { idxHeader, parseIdx } from '../../src/data/idx.ts';
import type { Items } from '../../src/data/items.ts';
import { readItems } from '../../src/data/read.ts';
import { createSplitter, sideOf } from '../../src/data/split.ts';
import { validateDataset } from '../../src/data/validate.ts';
import { createZone, openStore, type Zone } from '../../src/store/index.ts';

let folder: string;
let zone: Zone;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-dataset-'));
  zone = createZone('work', await openStore(`file:${folder}/store`, null));
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const read = { format: 'json-rows', files: 'package/{class}.json' } as const;
const pin = 'c'.repeat(64);
const source: SourceConfig = { npm: 'tiny@1.0.0', sha256: pin, read };
const config: DatasetConfig = {
  item: 'tensor',
  shape: [2, 2],
  classes: ['cat', 'dog'],
  sources: [source],
  split: { key: 'k', test: 0.3, validation: 0.2 },
  rules: { min_items: 1, min_per_class: 1, max_invalid: 0.5 },
};

/** Items from rows of [label, four bytes]; where a row came from travels with it. */
function itemsOf(rows: readonly { label: number; bytes: readonly number[]; from: string }[]): Items {
  return {
    size: 4,
    count: rows.length,
    x: Uint8Array.from(rows.flatMap((row) => row.bytes)),
    y: Uint8Array.from(rows, (row) => row.label),
    position: (index) => rows[index]!.from,
    quarantined: [],
  };
}

const rowArbitrary = fc.record({
  label: fc.integer({ min: 0, max: 1 }),
  // Few values, so that copies and conflicts are common.
  bytes: fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 4, maxLength: 4 }),
});
const rowsArbitrary = fc
  .array(rowArbitrary, { maxLength: 40 })
  .map((rows) => rows.map((row, index) => ({ ...row, from: `row ${index}` })));

describe('the split', () => {
  test('keeps exact copies together and never moves an item when others come', () => {
    fc.assert(
      fc.property(
        fc.string(),
        fc.array(fc.uint8Array({ maxLength: 8 })),
        fc.array(fc.uint8Array({ maxLength: 8 })),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (key, before, more, share) => {
          const splitter = createSplitter(key);
          const sides = before.map((bytes) => sideOf(splitter(bytes), share));
          const grown = createSplitter(key);
          for (const bytes of more) grown(bytes);
          expect(before.map((bytes) => sideOf(grown(Uint8Array.from(bytes)), share))).toEqual(sides);
        },
      ),
    );
  });

  test('withholds about the share that was asked for, and another part under another key', () => {
    const items = Array.from({ length: 4000 }, (_, i) => Uint8Array.of(i & 255, i >> 8));
    const a = items.map((bytes) => sideOf(createSplitter('a')(bytes), 0.25));
    const b = items.map((bytes) => sideOf(createSplitter('b')(bytes), 0.25));
    expect(a.filter((side) => side === 'test').length).toBeGreaterThan(900);
    expect(a.filter((side) => side === 'test').length).toBeLessThan(1100);
    expect(a).not.toEqual(b);
  });

  test('is the first 64 bits of HMAC-SHA256 (RFC 4231, test case 2)', () => {
    const fraction = createSplitter('Jefe')(Buffer.from('what do ya want for nothing?'));
    expect(fraction).toBeCloseTo(Number(0x5bdcc146bf60754en) / 2 ** 64, 15);
  });
});

describe('a dataset', () => {
  test('has the same digest in whatever order its items came, and no item on both sides', async () => {
    await fc.assert(
      fc.asyncProperty(rowsArbitrary, fc.infiniteStream(fc.nat()), async (rows, noise) => {
        const ranked = rows.map((row) => ({ row, rank: noise.next().value ?? 0 }));
        const shuffled = ranked.sort((a, b) => a.rank - b.rank).map(({ row }) => row);
        const seen: string[] = [];
        for (const side of ['train', 'test'] as const) {
          const one = await buildDataset('d', config, source, itemsOf(rows), side, zone);
          const other = await buildDataset('d', config, source, itemsOf(shuffled), side, zone);
          expect(other.digest).toBe(one.digest);
          const target = await mkdtemp(join(folder, 'open-'));
          await zone.saveArtifact(one.digest, target);
          const data = await openDataset(target);
          for (let i = 0; i < data.count; i++) seen.push(data.x.subarray(i * 4, i * 4 + 4).join());
          const set = Object.values(one.meta.quarantined).reduce((sum, count) => sum + count, 0);
          const all = rows.filter(
            (row) => sideOf(createSplitter('k')(Uint8Array.from(row.bytes)), 0.3) === side,
          );
          expect(data.count + one.meta.duplicates + set).toBe(all.length);
        }
        expect(new Set(seen).size).toBe(seen.length);
      }),
      { numRuns: 25 },
    );
  });

  test('keeps one of several copies, and sets all aside when their labels differ', async () => {
    const bytes = (n: number) => [n, n, n, n];
    const rows = [
      { label: 0, bytes: bytes(1), from: 'a' },
      { label: 0, bytes: bytes(1), from: 'b' },
      { label: 0, bytes: bytes(2), from: 'c' },
      { label: 1, bytes: bytes(2), from: 'd' },
    ];
    const all: DatasetConfig = { ...config, split: { ...config.split, test: 1e-12 } };
    const { digest, meta } = await buildDataset('d', all, source, itemsOf(rows), 'train', zone);
    expect(meta).toMatchObject({
      count: 1,
      perClass: [1, 0],
      duplicates: 1,
      quarantined: { 'conflicting-labels': 2 },
    });
    const target = join(folder, 'conflict');
    await zone.saveArtifact(digest, target);
    const lines = (await readFile(join(target, 'quarantine.jsonl'), 'utf8')).trim().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { class: 0, position: 'c', reason: 'conflicting-labels', item: digestBytes(Buffer.from(bytes(2))) },
      { class: 1, position: 'd', reason: 'conflicting-labels', item: digestBytes(Buffer.from(bytes(2))) },
    ]);
  });

  test('is the same whichever mirror of the same bytes answered', async () => {
    const mirror: SourceConfig = { https: ['https://mirror.example/tiny.tgz'], sha256: pin, read };
    const both = { ...config, sources: [source, mirror] };
    const items = itemsOf([{ label: 0, bytes: [1, 2, 3, 4], from: 'a' }]);
    const one = await buildDataset('d', both, source, items, 'train', zone);
    const other = await buildDataset('d', both, mirror, items, 'train', zone);
    expect(other.digest).toBe(one.digest);
    expect(one.meta.source.names).toEqual(['https://mirror.example/tiny.tgz', 'tiny@1.0.0']);
  });

  test('parts off a validation set by content', () => {
    const x = Uint8Array.from({ length: 400 * 4 }, (_, i) => (i * 31) % 251);
    const dataset = { x, y: new Uint8Array(400), count: 400, shape: [2, 2], classes: ['a', 'b'] };
    const { train, validation } = splitValidation(dataset, 0.25, 'k');
    expect(train.count + validation.count).toBe(400);
    expect(validation.count).toBeGreaterThan(50);
    expect(splitValidation(dataset, 0.25, 'k').validation.x).toEqual(validation.x);
  });

  test('with files that do not fit each other is refused', async () => {
    const target = await mkdtemp(join(folder, 'bad-'));
    await writeFile(join(target, 'images.idx'), Buffer.concat([idxHeader([1, 2, 2]), Buffer.alloc(4)]));
    await writeFile(join(target, 'labels.idx'), Buffer.concat([idxHeader([2]), Buffer.alloc(2)]));
    await writeFile(join(target, 'classes.json'), '["a","b"]');
    await expect(openDataset(target)).rejects.toMatchObject({ code: 'artifact-corrupt' });
    await writeFile(join(target, 'labels.idx'), Buffer.concat([idxHeader([1]), Buffer.of(2)]));
    await expect(openDataset(target)).rejects.toMatchObject({ code: 'artifact-corrupt' });
    await expect(openDataset(join(folder, 'nothing'))).rejects.toMatchObject({ code: 'artifact-missing' });
  });
});

describe('the readers', () => {
  test('read rows of an npm archive and set malformed ones aside with the reason', async () => {
    const from = await mkdtemp(join(folder, 'pack-'));
    await writeFile(
      join(from, '0.json'),
      JSON.stringify({ data: [[1, 2, 3, 4], [], [1, 2, 3, 256], [9, 9, 9, 9]] }),
    );
    await writeFile(
      join(from, '1.json'),
      JSON.stringify({ data: [[1, 2, 3, 4.5], null, [5, 6, 7, 8], [1, 2, 3, '4']] }),
    );
    const path = join(from, 'tiny.tgz');
    await tar.create({ file: path, gzip: true, cwd: from, prefix: 'package' }, ['1.json', '0.json']);
    const items = await readItems(config, { source, files: [{ name: 'tiny@1.0.0', path, sha256: pin }] });
    expect([...items.x]).toEqual([1, 2, 3, 4, 9, 9, 9, 9, 5, 6, 7, 8]);
    expect([...items.y]).toEqual([0, 0, 1]);
    expect([0, 1, 2].map(items.position)).toEqual([
      'package/0.json[0]',
      'package/0.json[3]',
      'package/1.json[2]',
    ]);
    expect(items.quarantined).toEqual([
      { reason: 'wrong-length', position: 'package/0.json[1]', class: 0 },
      { reason: 'not-a-byte', position: 'package/0.json[2]', class: 0 },
      { reason: 'not-a-byte', position: 'package/1.json[0]', class: 1 },
      { reason: 'wrong-length', position: 'package/1.json[1]', class: 1 },
      { reason: 'not-a-byte', position: 'package/1.json[3]', class: 1 },
    ]);
  });

  test('say what is missing in an archive, what is no archive and what is no JSON', async () => {
    const from = await mkdtemp(join(folder, 'pack-'));
    await writeFile(join(from, '0.json'), '{"data": [[1,');
    const path = join(from, 'tiny.tgz');
    await tar.create({ file: path, gzip: true, cwd: from, prefix: 'package' }, ['0.json']);
    const files = [{ name: 'tiny@1.0.0', path, sha256: pin }];
    await expect(readItems(config, { source, files })).rejects.toMatchObject({ code: 'data-invalid' });
    await writeFile(join(from, '0.json'), '{"data": []}');
    await tar.create({ file: path, gzip: true, cwd: from, prefix: 'package' }, ['0.json']);
    await expect(readItems(config, { source, files })).rejects.toMatchObject({
      code: 'file-missing',
      message: 'the source tiny@1.0.0 has no package/1.json',
    });
    await writeFile(path, gzipSync('this is no archive'.repeat(100)));
    await expect(readItems(config, { source, files })).rejects.toMatchObject({
      code: expect.stringMatching(/file-missing|data-invalid/),
    });
  });

  test('read IDX pairs, gzipped or not, and set labels beyond the classes aside', async () => {
    const from = await mkdtemp(join(folder, 'idx-'));
    const images = Buffer.concat([idxHeader([3, 2, 2]), Buffer.from([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3])]);
    const labels = Buffer.concat([idxHeader([3]), Buffer.from([0, 7, 1])]);
    await writeFile(join(from, 'i.gz'), gzipSync(images));
    await writeFile(join(from, 'l'), labels);
    const idx: SourceConfig = {
      https: ['https://a.example/x/i.gz', 'https://a.example/x/l'],
      sha256: [pin, pin],
      read: { format: 'idx', images: ['i.gz'], labels: ['l'] },
    };
    const files = [
      { name: 'https://a.example/x/i.gz', path: join(from, 'i.gz'), sha256: pin },
      { name: 'https://a.example/x/l', path: join(from, 'l'), sha256: pin },
    ];
    const items = await readItems(config, { source: idx, files });
    expect([...items.x]).toEqual([1, 1, 1, 1, 3, 3, 3, 3]);
    expect([...items.y]).toEqual([0, 1]);
    expect(items.quarantined).toEqual([{ reason: 'unknown-class', position: 'i.gz[1]', class: null }]);
    await writeFile(join(from, 'l'), Buffer.concat([idxHeader([2]), Buffer.from([0, 1])]));
    await expect(readItems(config, { source: idx, files })).rejects.toMatchObject({ code: 'data-invalid' });
  });

  test('refuse an IDX file of more bytes than a buffer can hold before they read it', async () => {
    const from = await mkdtemp(join(folder, 'large-'));
    // A file with a hole in it: nothing of it lies on the disk.
    await writeFile(join(from, 'i'), idxHeader([1, 2, 2]));
    await truncate(join(from, 'i'), constants.MAX_LENGTH + 1);
    await writeFile(join(from, 'l'), Buffer.concat([idxHeader([1]), Buffer.from([1])]));
    const source: SourceConfig = {
      file: ['i', 'l'],
      sha256: [pin, pin],
      read: { format: 'idx', images: ['i'], labels: ['l'] },
    };
    const files = ['i', 'l'].map((name) => ({ name, path: join(from, name), sha256: pin }));
    await expect(readItems(config, { source, files })).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringMatching(/^i has more than \d+ bytes, and tensors are held in memory$/),
      hint: expect.stringMatching(/item: file/),
    });
    await truncate(join(from, 'i'), 16 + 5);
    await expect(readItems(config, { source, files })).rejects.toThrow(/4 bytes announced, 5 there/);
  });

  test('take no more of a packed file or an archive than limits: allow, and nothing that leads out of it', async () => {
    const from = await mkdtemp(join(folder, 'bomb-'));
    const rows = `{"data": [[1, 2, 3, 4]]${' '.repeat(20 << 20)}}`;
    const limits = { ...defaultLimits, ratio: 2000, unpacked: 1 << 20 };
    const read = { format: 'json-rows', files: '{class}.json' } as const;
    const plain: SourceConfig = { file: ['0.json', '1.json'], sha256: [pin, pin], read };
    const packed = { name: '0.json', path: join(from, '0.json'), sha256: pin };
    await writeFile(packed.path, gzipSync(rows));
    const files = [packed, { ...packed, name: '1.json' }];
    await expect(readItems(config, { source: plain, files })).rejects.toThrow(
      /more than 200 times.*limits.ratio/,
    );
    const roomy = { ...defaultLimits, ratio: 1e6 };
    expect((await readItems(config, { source: { ...plain, limits: roomy }, files })).count).toBe(2);
    await expect(readItems(config, { source: { ...plain, limits }, files })).rejects.toThrow(
      /limits.unpacked/,
    );

    const archive = { name: 'rows.tgz', path: join(from, 'rows.tgz'), sha256: pin };
    await writeFile(join(from, '1.json'), rows);
    await tar.create({ file: archive.path, gzip: true, cwd: from }, ['1.json', '0.json']);
    const source: SourceConfig = { ...plain, file: ['rows.tgz'], sha256: pin };
    await expect(
      readItems(config, { source: { ...source, limits }, files: [archive] }),
    ).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringContaining('limits.unpacked'),
    });
    await tar.create({ file: archive.path, gzip: true, cwd: from, prefix: '../x', preservePaths: true }, [
      '0.json',
    ]);
    await expect(readItems(config, { source, files: [archive] })).rejects.toThrow(/leads out of it/);
  });

  test('parse what the IDX header writes, and refuse every other length or type', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 4 }),
        fc.integer({ min: -3, max: 3 }),
        (dims, off) => {
          const size = dims.reduce((a, b) => a * b, 1);
          fc.pre(size + off >= 0);
          const bytes = Buffer.concat([idxHeader(dims), Buffer.alloc(size + off, 7)]);
          if (off === 0) expect(parseIdx(bytes, 'f').dims).toEqual(dims);
          else expect(() => parseIdx(bytes, 'f')).toThrow(/bytes announced/);
        },
      ),
    );
    expect(() => parseIdx(Buffer.from([0, 0, 13, 1, 0, 0, 0, 0]), 'f')).toThrow(/type 0x0d/);
    expect(() => parseIdx(Buffer.from('{"a"'), 'f')).toThrow(/magic/);
  });
});

describe('validation', () => {
  const meta = {
    v: 1 as const,
    side: 'train' as const,
    count: 90,
    classes: ['cat', 'dog'],
    shape: [2, 2],
    perClass: [60, 30],
    duplicates: 5,
    quarantined: { 'wrong-length': 5 },
    source: { names: ['tiny@1.0.0'], sha256: [pin] },
    split: { key: 'k', test: 0.1, validation: 0.1 },
  };

  test.each([
    ['min_items', { min_items: 91 }, 'fail'],
    ['min_items', { min_items: 90 }, 'pass'],
    ['min_per_class', { min_per_class: 31 }, 'fail'],
    ['max_invalid', { max_invalid: 0.04 }, 'fail'],
    ['max_invalid', { max_invalid: 0.05 }, 'pass'],
    ['max_imbalance', { max_imbalance: 1.9 }, 'fail'],
    ['max_imbalance', { max_imbalance: 2 }, 'pass'],
    ['duplicates.max_exact', { duplicates: { max_exact: 0.05 } }, 'fail'],
    ['duplicates.max_exact', { duplicates: { max_exact: 0.06 } }, 'pass'],
    ['duplicates.max_near', { duplicates: { max_near: 0.1 } }, 'fail'],
    ['duplicates.max_near', { duplicates: { max_near: 0.2 } }, 'pass'],
  ] as const)('judges %s %o as %s', (_, rule, verdict) => {
    const rules = { min_items: 1, min_per_class: 1, max_invalid: 0.5, ...rule };
    const result = validateDataset({ ...meta, alike: 18 }, rules);
    expect(result.verdict).toBe(verdict);
    expect(result.findings.filter((one) => one.status === 'fail').length).toBe(verdict === 'fail' ? 1 : 0);
  });

  test('asks the test side for its share only, and fails a class without items', () => {
    const rules = { min_items: 900, min_per_class: 1, max_invalid: 0.5 };
    expect(validateDataset({ ...meta, side: 'test' }, rules).verdict).toBe('pass');
    // What chance makes of one to one: 60 to 30 by a whisker, 600 to 300 hardly.
    const balance = (max_imbalance: number) => ({ ...rules, min_items: 1, max_imbalance });
    const few = { ...meta, side: 'test' as const };
    expect(validateDataset(few, balance(1)).verdict).toBe('pass');
    expect(validateDataset({ ...few, perClass: [600, 300] }, balance(1)).verdict).toBe('fail');
    expect(validateDataset({ ...few, perClass: [600, 300] }, balance(1.5)).verdict).toBe('pass');
    expect(validateDataset({ ...meta, perClass: [90, 0] }, { ...rules, min_items: 1 }).summary).toContain(
      '0 of dog',
    );
  });

  test('shows the classes as a chart and the reasons as a table', () => {
    const { blocks } = validateDataset(meta, { min_items: 1, min_per_class: 1, max_invalid: 0.5 });
    expect(blocks).toContainEqual(
      expect.objectContaining({
        kind: 'chart',
        chart: expect.objectContaining({
          bars: [
            { name: 'cat', value: 60 },
            { name: 'dog', value: 30 },
          ],
        }),
      }),
    );
    expect(blocks).toContainEqual(expect.objectContaining({ kind: 'table', rows: [['wrong-length', '5']] }));
  });
});
