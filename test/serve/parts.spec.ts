import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openBatcher } from '../../src/serve/batcher.ts';
import { mergeExpositions } from '../../src/serve/exposition.ts';
import { readPath } from '../../src/serve/gateway-path.ts';
import { classifierSignature } from '../../src/serve/package.ts';
import { openScoringLog, type ScoringRecord } from '../../src/serve/scoring.ts';
import { smokeProblem } from '../../src/serve/smoke.ts';
import { dataJson, nestedJson, readData } from '../../src/serve/tensor.ts';
import type { Datatype } from '../../src/serve/types.ts';
import { pickWeighted } from '../../src/serve/weighted.ts';

describe('weighted picking', () => {
  test('gives each choice exactly its share of a round, from whatever point on', () => {
    const weights = fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(weights, fc.nat(50), (all, skip) => {
        const total = all.reduce((a, b) => a + b, 0);
        const credits = new Map<number, number>();
        const indexes = all.map((_, index) => index);
        const pick = () => pickWeighted(indexes, (index) => all[index]!, credits);
        if (total === 0) return pick() === null;
        for (let i = 0; i < skip; i++) pick();
        const counts = all.map(() => 0);
        for (let i = 0; i < total; i++) counts[pick()!]!++;
        expect(counts).toEqual(all);
      }),
    );
  });
});

describe('tensor data', () => {
  test('is the same read flat or nested, and written as it was read', () => {
    const shape = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(
        shape,
        fc.constantFrom<Datatype>('UINT8', 'INT32', 'INT64', 'FP64', 'BYTES', 'BOOL'),
        (sizes, datatype) => {
          const count = sizes.reduce((a, b) => a * b, 1);
          const flat = Array.from({ length: count }, (_, index) =>
            datatype === 'BYTES' ? `s${index}` : datatype === 'BOOL' ? index % 2 === 0 : index,
          );
          const data = readData(flat, datatype, sizes, 'x');
          const tensor = { name: 'x', datatype, shape: sizes, data };
          expect(dataJson(tensor)).toEqual(flat);
          expect(readData(nestedJson(tensor), datatype, sizes, 'x')).toEqual(data);
        },
      ),
    );
  });
});

describe('the batcher', () => {
  test('gives every request its own rows, however they are joined and cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 30 })),
        fc.integer({ min: 1, max: 16 }),
        async (sizes, maxRows) => {
          const batcher = openBatcher({
            itemSize: 2,
            width: 1,
            maxRows,
            allocate: (length) => new Float32Array(length),
            compute(items) {
              expect(items.length / 2).toBeLessThanOrEqual(maxRows);
              return Float32Array.from(
                { length: items.length / 2 },
                (_, row) => items[row * 2]! + items[row * 2 + 1]!,
              );
            },
          });
          const answers = await Promise.all(
            sizes.map((size, job) =>
              batcher.run(Float32Array.from({ length: size * 2 }, (_, i) => job * 100 + i)),
            ),
          );
          for (const [job, rows] of answers.entries()) {
            expect([...rows]).toEqual(Array.from({ length: sizes[job]! }, (_, i) => job * 200 + i * 4 + 1));
          }
        },
      ),
    );
  });

  test('fails the requests of a failed computation and goes on with the next', async () => {
    let calls = 0;
    const batcher = openBatcher({
      itemSize: 1,
      width: 1,
      maxRows: 1,
      allocate: (length) => new Float32Array(length),
      compute(items) {
        if (++calls === 1) throw new Error('once');
        return items as Float32Array;
      },
    });
    const [first, second] = [batcher.run(Float32Array.of(1, 2)), batcher.run(Float32Array.of(3))];
    await expect(first).rejects.toThrow('once');
    expect([...(await second)]).toEqual([3]);
    batcher.close();
    await expect(batcher.run(Float32Array.of(1))).rejects.toThrow('closed');
  });
});

describe('paths of the gateway', () => {
  test.each([
    [
      '/v2/models/m/infer',
      { kind: 'model', environment: 'production', model: 'm', version: null, path: '/v2/models/m/infer' },
    ],
    [
      '/staging/v2/models/m/versions/3/infer?x=1',
      {
        kind: 'model',
        environment: 'staging',
        model: 'm',
        version: '3',
        path: '/v2/models/m/versions/3/infer?x=1',
      },
    ],
    [
      '/api/v1.0/predictions',
      { kind: 'model', environment: 'production', model: null, version: null, path: '/api/v1.0/predictions' },
    ],
    [
      '/seldon/staging/m/api/v1.0/feedback',
      { kind: 'model', environment: 'staging', model: 'm', version: null, path: '/api/v1.0/feedback' },
    ],
    ['/staging/v2/health/ready', { kind: 'own', what: 'ready', environment: 'staging' }],
    ['/metrics', { kind: 'own', what: 'metrics', environment: 'production' }],
    ['/routes/m/production', { kind: 'unknown' }],
    ['/', { kind: 'unknown' }],
  ])('%s', (path, expected) => {
    expect(readPath(path)).toEqual(expected);
  });
});

describe('joined metrics', () => {
  test('have each family once and every sample labelled', () => {
    const text = '# HELP a b\n# TYPE a counter\na{x="1"} 2\na 3\n';
    expect(
      mergeExpositions([
        { labels: { instance: 'one' }, text },
        { labels: { instance: 't"o' }, text },
      ]),
    ).toBe(
      '# HELP a b\n# TYPE a counter\na{x="1",instance="one"} 2\na{instance="one"} 3\na{x="1",instance="t\\"o"} 2\na{instance="t\\"o"} 3\n',
    );
  });
});

describe('a smoke answer', () => {
  const signature = classifierSignature('UINT8', [2], ['a', 'b']);
  const good = [
    { name: 'probabilities', datatype: 'FP32', shape: [1, 2], data: [0.25, 0.75] },
    { name: 'label', datatype: 'BYTES', shape: [1], data: ['b'] },
  ];
  const wrong = (index: number, more: object) =>
    good.map((one, i) => (i === index ? { ...one, ...more } : one));
  test.each([
    [good, null],
    [[good[0]], /"label" is missing/],
    [wrong(0, { datatype: 'FP64' }), /is FP64/],
    [wrong(0, { shape: [1, 3] }), /shape/],
    [wrong(0, { shape: [2, 2] }), /shape/],
    [wrong(0, { data: [1] }), /length/],
    [wrong(0, { data: [null, 1] }), /no probabilities/],
    [wrong(0, { data: [0.2, 0.2] }), /add up to 0.4/],
    [wrong(1, { data: ['z'] }), /no class/],
  ])('%j', (outputs, problem) => {
    const found = smokeProblem(signature, 1, { outputs });
    if (problem === null) expect(found).toBeNull();
    else expect(found).toMatch(problem);
  });
});

describe('the scoring log', () => {
  let root: string;
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'cdl-scores-'));
  });
  afterAll(() => rm(root, { recursive: true, force: true }));
  const record = (id: number): ScoringRecord => ({
    kind: 'feedback',
    id: String(id),
    time: '',
    model: 'm',
    version: '1',
    package: 'sha256:0',
    request: null,
    reward: id,
    truth: null,
  });

  test('rotates, keeps the newest files and loses nothing of them', async () => {
    const file = join(root, 'a.jsonl');
    const log = openScoringLog(file, { maxBytes: 500, keep: 3 });
    for (let id = 0; id < 60; id++) {
      log.write(record(id));
      if (id % 3 === 2) await log.flush();
    }
    expect(log.counts()).toEqual({ written: 60, dropped: 0 });
    const names = (await readdir(root)).filter((name) => name.startsWith('a.'));
    expect(names).toHaveLength(4);
    const rotated = names
      .filter((name) => name !== 'a.jsonl')
      .sort((x, y) => Number(x.split('.')[1]) - Number(y.split('.')[1]));
    const texts = await Promise.all(
      [...rotated, 'a.jsonl'].map((name) => readFile(join(root, name), 'utf8')),
    );
    const ids = texts
      .join('')
      .trim()
      .split('\n')
      .map((line) => Number((JSON.parse(line) as { id: string }).id));
    expect(ids).toEqual(Array.from({ length: ids.length }, (_, index) => 60 - ids.length + index));
  });

  test('drops and counts what does not fit its queue, and what the disk refuses', async () => {
    const log = openScoringLog(join(root, 'b.jsonl'), { maxQueuedBytes: 300 });
    for (let id = 0; id < 10; id++) log.write(record(id));
    await log.flush();
    const { written, dropped } = log.counts();
    expect(written).toBeGreaterThan(0);
    expect(written + dropped).toBe(10);
    await writeFile(join(root, 'file'), '');
    const broken = openScoringLog(join(root, 'file', 'c.jsonl'));
    broken.write(record(1));
    await broken.flush();
    expect(broken.counts()).toEqual({ written: 0, dropped: 1 });
  });
});
