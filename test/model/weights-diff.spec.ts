import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { onnxParts } from '../../src/model/onnx-tensors.ts';
import type { SavedCheckpoint } from '../../src/model/tensor-files.ts';
import { diffCheckpoints } from '../../src/model/weights-diff.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-tensors-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function saved(name: string, files: Record<string, string | Buffer>): Promise<SavedCheckpoint> {
  const own = join(folder, name);
  await mkdir(own);
  const listed = [];
  for (const [path, content] of Object.entries(files)) {
    await writeFile(join(own, path), content);
    listed.push({ path, digest: digestBytes(content), size: Buffer.byteLength(content) });
  }
  return { folder: own, files: listed };
}

async function differences(one: Record<string, string | Buffer>, other: Record<string, string | Buffer>) {
  const found = await diffCheckpoints(await saved('one', one), await saved('other', other));
  return found.map(({ name, largest, why }) => [name, why ?? largest]);
}

/** A safetensors file of this header. */
function withHeader(text: string, ...data: Buffer[]): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  return Buffer.concat([length, Buffer.from(text), ...data]);
}

/** A safetensors file of these tensors: type, shape, bytes. */
function safetensors(tensors: Record<string, [string, number[], Buffer]>, metadata?: object): Buffer {
  let at = 0;
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {};
  for (const [name, [dtype, shape, bytes]] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.length] };
    at += bytes.length;
  }
  return withHeader(JSON.stringify(header), ...Object.values(tensors).map(([, , bytes]) => bytes));
}

const floats = (...values: number[]) => Buffer.from(new Float32Array(values).buffer);
const words = (...values: number[]) => Buffer.from(new Uint16Array(values).buffer);

describe('two checkpoints of safetensors', () => {
  it('differ in tensors, which are told with their file and largest difference, whatever their type', async () => {
    const of = (w: Buffer, half: number, brain: number, count: bigint) => ({
      'model.safetensors': safetensors({
        w: ['F32', [2, 1], w],
        half: ['F16', [1], words(half)],
        brain: ['BF16', [1], words(brain)],
        count: ['I64', [], Buffer.from(new BigInt64Array([count]).buffer)],
        same: ['F8_E4M3', [2], Buffer.from([1, 2])],
      }),
    });
    // 1 and 1 + 2⁻¹⁰ as half floats; 1 and 2 as bfloat16; numbers that a double cannot tell apart.
    const one = of(floats(1, 2), 0x3c00, 0x3f80, 2n ** 60n);
    const other = of(floats(1, 2.5), 0x3c01, 0x4000, 2n ** 60n + 1n);
    expect(await differences(one, other)).toEqual([
      ['model.safetensors: w', 0.5],
      ['model.safetensors: half', 2 ** -10],
      ['model.safetensors: brain', 1],
      ['model.safetensors: count', 1],
    ]);
  });

  it('are told apart where nothing can be subtracted: shapes, types, names, metadata, other files', async () => {
    const file = (shape: number[], type = 'F32', more = {}) =>
      safetensors({ w: [type, shape, floats(1, 2)], ...more }, { by: type });
    expect(
      await differences(
        { 'a.safetensors': file([2]), 'b.safetensors': file([2]), 'c.pt': 'x', 'd.txt': 'd' },
        { 'a.safetensors': file([1, 2]), 'b.safetensors': file([2], 'I32'), 'c.pt': 'y', 'e.txt': 'e' },
      ),
    ).toEqual([
      ['a.safetensors: w', 'is of the shape 1 × 2'],
      ['b.safetensors: w', 'is I32, was F32'],
      ['b.safetensors', 'differs in more than its tensors'],
      ['c.pt', 'has other bytes'],
      ['d.txt', 'is gone'],
      ['e.txt', 'is new'],
    ]);
  });

  it('are as different as can be where only one holds numbers, and not where both hold none', async () => {
    const file = (...values: number[]) => ({
      'm.safetensors': safetensors({ w: ['F32', [3], floats(...values)] }),
    });
    const [nan, infinite] = [Number.NaN, Number.POSITIVE_INFINITY];
    expect(await differences(file(nan, infinite, 1), file(nan, infinite, 1.25))).toEqual([
      ['m.safetensors: w', 0.25],
    ]);
    await rm(folder, { recursive: true });
    await mkdir(folder);
    expect(await differences(file(1, nan, 1), file(1, 1, 1))).toEqual([
      ['m.safetensors: w', 'holds values that are no finite number on one side'],
    ]);
  });

  const one = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}';
  it.each<[string, (last: number) => Buffer]>([
    ['after them', (last) => withHeader(`{"w":${one}}`, floats(1, last))],
    ['before them', (last) => withHeader(`{"w":${one.replace('0,4', '4,8')}}`, floats(last, 1))],
    [
      'between them',
      (last) => withHeader(`{"v":${one},"w":${one.replace('0,4', '8,12')}}`, floats(1, last, 1)),
    ],
    ['that two of them share', (last) => withHeader(`{"v":${one},"w":${one}}`, floats(1, last))],
    ['counted from the end', (last) => withHeader(`{"w":${one.replace('0,4', '-4,0')}}`, floats(1, last))],
    ['of a name that no object has', (last) => withHeader(`{"__proto__":${one}}`, floats(last))],
    [
      'of metadata of such a name',
      (last) => withHeader(`{"__metadata__":{"__proto__":{"a":"${last}"}},"w":${one}}`, floats(1)),
    ],
    ['of fields that no tensor has', (last) => withHeader(`{"w":{"x":${last},${one.slice(1)}}`, floats(1))],
    [
      'of no text',
      (last) => withHeader(`{"w":${one}}`.replace('w', '\ufffd'), floats(last)).fill(last, 10, 13),
    ],
  ])('have other bytes where these are not of tensors: %s', async (_, of) => {
    const clear = safetensors({ w: ['F32', [1], floats(5)] });
    const found = await differences(
      { 'm.safetensors': of(130), 'n.safetensors': of(130) },
      { 'm.safetensors': of(131), 'n.safetensors': clear },
    );
    expect(found).toEqual([
      ['m.safetensors', 'has other bytes'],
      ['n.safetensors', 'has other bytes'],
    ]);
  });

  it('have other bytes where only their headers are written differently', async () => {
    const of = (space: string) => ({ 'm.safetensors': withHeader(`{"w":${one}}${space}`, floats(1)) });
    expect(await differences(of(''), of(' '))).toEqual([['m.safetensors', 'has other bytes']]);
  });

  it('differ in the type of a tensor whose numbers cannot be read', async () => {
    const of = (type: string, w: number) => ({
      'm.safetensors': safetensors({ w: ['F32', [1], floats(w)], odd: [type, [2], Buffer.from([1, 2])] }),
    });
    expect(await differences(of('F8_E4M3', 1), of('F8_E5M2', 1.5))).toEqual([
      ['m.safetensors: w', 0.5],
      ['m.safetensors', 'differs in more than its tensors'],
    ]);
  });

  it('that are damaged are bytes, whatever the damage', async () => {
    const whole = safetensors({ w: ['F32', [2], floats(1, 2)] });
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), async (at, byte) => {
        const damaged = Buffer.from(whole);
        damaged[at] = byte;
        const found = await differences({ 'm.safetensors': whole }, { 'm.safetensors': damaged });
        expect(found.length > 0).toBe(!damaged.equals(whole));
        await rm(folder, { recursive: true });
        await mkdir(folder);
      }),
      { numRuns: 60 },
    );
    expect(await differences({ 'm.safetensors': whole }, { 'm.safetensors': whole.subarray(0, -1) })).toEqual(
      [['m.safetensors', 'has other bytes']],
    );
  });
});

describe('two ONNX models', () => {
  const varint = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...varint(n >>> 7)]);
  const num = (field: number, n: number) => Buffer.from([...varint(field << 3), ...varint(n)]);
  const len = (field: number, ...parts: (string | Buffer)[]) => {
    const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
    return Buffer.concat([Buffer.from([...varint((field << 3) | 2), ...varint(body.length)]), body]);
  };
  /** A model with an initializer as raw data, one as typed numbers, and a constant within a branch. */
  const model = (given: { w?: number; steps?: number; constant?: number; op?: string; note?: string }) => {
    const { w = 1, steps = 5, constant = 2, op = 'Add', note = '' } = given;
    const held = len(5, len(1, 'value'), len(5, num(2, 1), len(4, floats(constant))));
    const branch = len(5, len(1, 'then_branch'), len(6, len(1, len(2, 'c'), len(4, 'Constant'), held)));
    const graph = [
      len(5, num(1, 1), num(1, 2), num(2, 1), len(8, 'w'), len(9, floats(w, 2))),
      len(5, num(1, 2), num(2, 6), len(8, 'steps'), len(5, Buffer.from([...varint(steps), ...varint(300)]))),
      len(1, len(2, 'y'), len(4, 'If'), branch, len(6, note)),
      len(1, len(2, 'z'), len(4, op)),
    ];
    return Buffer.concat([num(1, 8), len(2, `made by ${note}`), len(7, ...graph), len(14, len(1, note))]);
  };

  it('differ in initializers, raw or typed, and in constants of branches; not in what only documents them', async () => {
    const found = await differences(
      { 'model.onnx': model({ note: 'somebody' }) },
      { 'model.onnx': model({ w: 1.5, steps: 6, constant: 2.125, note: 'somebody else' }) },
    );
    expect(found).toEqual([
      ['model.onnx: w', 0.5],
      ['model.onnx: steps', 1],
      ['model.onnx: c', 0.125],
    ]);
  });

  it('do not differ in what only documents them', async () => {
    expect(
      await differences({ 'model.onnx': model({ note: 'a' }) }, { 'model.onnx': model({ note: 'b' }) }),
    ).toEqual([]);
  });

  const initializer = (...fields: Buffer[]) => len(7, len(5, num(1, 1), len(8, 'w'), ...fields));
  const alone = (field: number, value: number) =>
    Buffer.concat([Buffer.from([(field << 3) | 5]), floats(value)]);
  it.each<[string, (value: number) => Buffer[]]>([
    ['raw data and whole numbers', (value) => [num(2, 1), len(9, floats(value)), num(5, 1)]],
    ['raw data twice', (value) => [num(2, 1), len(9, floats(value)), len(9, Buffer.alloc(0))]],
    ['two kinds of whole numbers', (value) => [num(2, 6), num(5, value), len(7, Buffer.alloc(0))]],
    ['whole numbers for floats', (value) => [num(2, 1), num(5, value)]],
    ['floats for whole numbers', (value) => [num(2, 6), len(4, floats(value))]],
    ['raw data that is no such field', (value) => [num(2, 1), alone(9, value)]],
    ['a field that no tensor has', (value) => [num(2, 1), len(9, floats(1)), num(99, value)]],
    ['numbers in another file', (value) => [num(2, 1), len(13, `${value}`)]],
    ['another number of them', (value) => [num(2, 6), len(5, Buffer.from([value, 1]))]],
  ])('differ in the bytes of a tensor that is not clear: %s', async (_, fields) => {
    const [one, other] = [initializer(...fields(1)), initializer(...fields(2))];
    expect(onnxParts(one).tensors.size).toBe(0);
    expect(await differences({ 'm.onnx': one }, { 'm.onnx': other })).toEqual([
      ['m.onnx', 'differs in more than its tensors'],
    ]);
  });

  it('are read to the last number, packed or each in a field of its own, however many', () => {
    const numbers = Buffer.alloc(300_000, 1);
    const wide = len(7, len(5, num(1, 300_000), num(2, 6), len(8, 'w'), len(5, numbers)));
    const w = onnxParts(wide).tensors.get('w')!;
    expect(w.bytes.equals(Buffer.from(new Int32Array(300_000).fill(1).buffer))).toBe(true);
    const apart = len(7, len(5, num(1, 2), num(2, 1), len(8, 'w'), alone(4, 1.5), alone(4, 2)));
    expect(onnxParts(apart).tensors.get('w')!.bytes.equals(floats(1.5, 2))).toBe(true);
    const bytes = len(7, len(5, num(1, 3), num(2, 3), len(8, 'w'), num(5, 1), num(5, 2), num(5, 255)));
    expect([...onnxParts(bytes).tensors.get('w')!.bytes]).toEqual([1, 2, 255]);
  });

  it('tell tensors of one name apart, however many, also from one that has such a name', () => {
    const named = (name: string) => len(5, num(1, 1), num(2, 2), len(8, name), len(9, Buffer.from([7])));
    const few = onnxParts(len(7, named('w (2)'), named('w'), named('w'), named('w (2)'), named('w')));
    expect([...few.tensors.keys()]).toEqual(['w (2)', 'w', 'w (3)', 'w (2) (2)', 'w (4)']);
    const many = onnxParts(len(7, ...Array.from({ length: 50_000 }, () => named('w'))));
    expect([...many.tensors.keys()].at(-1)).toBe('w (50000)');
  });

  it('are bytes where they have more parts than any model: fields, tensors, dimensions', () => {
    expect(() => onnxParts(Buffer.alloc(2_100_000, num(1, 8)))).toThrow('too many fields');
    const tensor = len(5, num(1, 1), num(2, 2), len(9, Buffer.from([7])));
    expect(() => onnxParts(len(7, Buffer.alloc(100_001 * tensor.length, tensor)))).toThrow(
      'too many tensors',
    );
    const deep = (dimensions: number) =>
      onnxParts(len(7, len(5, len(1, Buffer.alloc(dimensions, 1)), num(2, 2), len(9, Buffer.from([7])))));
    expect([deep(64).tensors.size, deep(65).tensors.size, deep(300_000).tensors.size]).toEqual([1, 0, 0]);
  });

  it('differ in more than that where they compute something else', async () => {
    expect(await differences({ 'model.onnx': model({}) }, { 'model.onnx': model({ op: 'Sub' }) })).toEqual([
      ['model.onnx', 'differs in more than its tensors'],
    ]);
  });

  it('are bytes when they are damaged, and never an endless reading', () => {
    const whole = model({});
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length), (at, byte, end) => {
        const damaged = Buffer.from(whole.subarray(0, end));
        if (at < end) damaged[at] = byte;
        try {
          onnxParts(damaged);
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
      { numRuns: 500 },
    );
    let deep = len(6, Buffer.alloc(0));
    for (let level = 0; level < 200; level++) deep = len(6, len(1, len(5, deep)));
    expect(() => onnxParts(len(7, len(1, len(5, deep))))).toThrow(RangeError);
  });
});

describe('two layers models', () => {
  const model = (names: string[], more = {}) =>
    JSON.stringify({
      modelTopology: {},
      weightsManifest: [{ weights: names.map((name) => ({ name, shape: [1], dtype: 'float32' })) }],
      ...more,
    });
  it('differ in their weights, or in other bytes where a name is there twice or nothing else tells them apart', async () => {
    const found = [];
    for (const [names, weights, more] of [
      [['v', 'w'], [2, 1], {}],
      [['w', 'w'], [2, 2], {}],
      [['v', 'w'], [1, 1], { generatedBy: 'x' }],
    ] as const) {
      found.push(
        await differences(
          { 'model.json': model([...names]), 'weights.bin': floats(1, 1) },
          { 'model.json': model([...names], more), 'weights.bin': floats(...weights) },
        ),
      );
      await rm(folder, { recursive: true });
      await mkdir(folder);
    }
    const bytes = [['model.json', 'has other bytes']];
    expect(found).toEqual([[['v', 1]], bytes, bytes]);
  });
});

const python = process.env.CDL_TORCH;
describe.skipIf(!python)(
  `what PyTorch writes${python ? '' : ' (skipped: CDL_TORCH names no python with torch)'}`,
  () => {
    it('is taken apart to the last weight', async () => {
      const script = `
import sys, numpy, torch, onnx
from onnx import numpy_helper
for name, add in (("one", 0.0), ("other", 0.001)):
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)).eval()
    with torch.no_grad(): model[2].weight[1, 1] += add
    path = f"{sys.argv[1]}/{name}.onnx"
    torch.onnx.export(model, (torch.zeros(2, 3),), path, dynamo=False)
    for one in onnx.load(path).graph.initializer: print(name, one.name, numpy_helper.to_array(one).tobytes().hex())`;
      const { stdout, stderr } = spawnSync(python!, ['-W', 'ignore', '-c', script, folder]);
      const lines = stdout
        .toString()
        .trim()
        .split('\n')
        .map((line) => line.split(' '));
      expect(lines.length, stderr.toString()).toBeGreaterThan(4);
      for (const name of ['one', 'other']) {
        const { tensors } = onnxParts(await readFile(join(folder, `${name}.onnx`)));
        const theirs = lines.filter((line) => line[0] === name);
        expect(tensors.size).toBe(theirs.length);
        for (const [, tensor, bytes] of theirs)
          expect(tensors.get(tensor!)!.bytes.toString('hex')).toBe(bytes);
      }
      const files = await readdir(folder);
      expect(files).toHaveLength(2);
      const [one, other] = await Promise.all(
        ['one', 'other'].map((name) => readFile(join(folder, `${name}.onnx`))),
      );
      const [only, ...more] = await differences({ 'model.onnx': one! }, { 'model.onnx': other! });
      expect([only, more]).toEqual([['model.onnx: 2.weight', expect.closeTo(0.001, 6)], []]);
    });
  },
);
