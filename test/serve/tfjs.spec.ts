import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openServable } from '../../src/serve/tfjs.ts';
import type { Servable, Tensor } from '../../src/serve/types.ts';
import { type TinyPackage, writeTinyPackage } from './tiny-package.ts';

let root: string;
let tiny: TinyPackage;
let servable: Servable;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'cdl-servable-'));
  tiny = await writeTinyPackage(join(root, 'tiny'), { bias: 0.5 });
  servable = await openServable(tiny.folder, { package: tiny.digest, version: '3' });
});

afterAll(async () => {
  servable.dispose();
  await rm(root, { recursive: true, force: true });
});

function items(count: number, datatype: 'UINT8' | 'FP32' | 'FP64' = 'UINT8'): Tensor {
  const bytes = Uint8Array.from({ length: count * 4 }, (_, index) => (index * 37) % 256);
  const data =
    datatype === 'UINT8' ? bytes : datatype === 'FP32' ? Float32Array.from(bytes) : Float64Array.from(bytes);
  return { name: 'input', datatype, shape: [count, 2, 2], data };
}

/** What the layer computes, in plain arithmetic. */
function expected(tensor: Tensor, bias: number): number[][] {
  const data = tensor.data as Uint8Array;
  const kernel = Array.from({ length: 12 }, (_, index) => Math.sin(index + 1));
  return Array.from({ length: tensor.shape[0]! }, (_, row) => {
    const logits = [bias, 0, -bias].map((start, unit) =>
      [0, 1, 2, 3].reduce((sum, i) => sum + (data[row * 4 + i]! / 255) * kernel[i * 3 + unit]!, start),
    );
    const powers = logits.map(Math.exp);
    const total = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / total);
  });
}

describe('a tfjs package', () => {
  test('answers probabilities and labels for raw items', async () => {
    const input = items(5);
    const [probabilities, label] = await servable.infer([input]);
    expect(probabilities).toMatchObject({ name: 'probabilities', datatype: 'FP32', shape: [5, 3] });
    expect(label).toMatchObject({ name: 'label', datatype: 'BYTES', shape: [5] });
    for (const [row, values] of expected(input, 0.5).entries()) {
      for (const [unit, value] of values.entries()) {
        expect((probabilities!.data as Float32Array)[row * 3 + unit]).toBeCloseTo(value, 5);
      }
      expect((label!.data as string[])[row]).toBe('abc'[values.indexOf(Math.max(...values))]);
    }
  });

  test('turns logits into probabilities', async () => {
    const other = await writeTinyPackage(join(root, 'logits'), { bias: 0.5, logits: true });
    const logits = await openServable(other.folder, { package: other.digest, version: '1' });
    const [a] = await logits.infer([items(4)]);
    const [b] = await servable.infer([items(4)]);
    for (const [index, value] of (a!.data as Float32Array).entries()) {
      expect(value).toBeCloseTo((b!.data as Float32Array)[index]!, 6);
    }
    logits.dispose();
  });

  test('takes raw items in any number type that holds them, and refuses scaled ones', async () => {
    const [bytes] = await servable.infer([items(3)]);
    for (const datatype of ['FP32', 'FP64'] as const) {
      const [floats] = await servable.infer([items(3, datatype)]);
      expect(floats!.data).toEqual(bytes!.data);
    }
    const scaled = { ...items(1, 'FP32'), data: Float32Array.of(0.5, 0, 0, 0) };
    await expect(servable.infer([scaled])).rejects.toThrow('takes raw items of UINT8');
  });

  test('keeps requests apart that are computed together, and hears the event loop during a large one', async () => {
    let turns = 0;
    let isDone = false;
    const count = (): void => {
      turns++;
      if (!isDone) setImmediate(count);
    };
    setImmediate(count);
    const large = servable.infer([items(1000)]);
    const small = Array.from({ length: 40 }, (_, index) => servable.infer([items(index + 1)]));
    const answers = await Promise.all(small);
    await large;
    isDone = true;
    expect(turns).toBeGreaterThan(10);
    for (const [index, [probabilities]] of answers.entries()) {
      const values = expected(items(index + 1), 0.5).flat();
      expect(probabilities!.data.length).toBe(values.length);
      for (const [at, value] of values.entries()) {
        expect((probabilities!.data as Float32Array)[at]).toBeCloseTo(value, 5);
      }
    }
  });

  test('that does not load or does not answer says what is wrong', async () => {
    const crash = await writeTinyPackage(join(root, 'crash'), { fault: 'crash' });
    const open = (folder: string) => openServable(folder, { package: tiny.digest, version: '1' });
    await expect(open(crash.folder)).rejects.toMatchObject({
      code: 'code-invalid',
      message: expect.stringContaining('this package does not start'),
    });
    await expect(open(join(root, 'nowhere'))).rejects.toMatchObject({ code: 'artifact-corrupt' });
    const cut = await writeTinyPackage(join(root, 'cut'));
    await writeFile(join(cut.folder, 'weights.bin'), 'short');
    await expect(open(cut.folder)).rejects.toMatchObject({ code: 'artifact-corrupt' });
  });
});
