import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { UserError } from '../core/error.ts';

const specSchema = z.object({ name: z.string(), shape: z.array(z.int().nonnegative()), dtype: z.string() });
const modelSchema = z.object({ weightsManifest: z.array(z.object({ weights: z.array(specSchema) })) });

/** How one tensor differs between two checkpoints. */
export interface TensorDifference {
  name: string;
  shape: number[];
  /** Largest absolute difference of a value; infinity where the shapes differ or one side has no such tensor. */
  largest: number;
  /** Root mean square of the differences. */
  rms: number;
}

/**
 * Every tensor whose bytes differ between two saved models (`model.json`, `weights.bin`), in the order of the first. Throws
 * UserError artifact-corrupt for a folder that holds no such model.
 */
export async function diffWeights(first: string, second: string): Promise<TensorDifference[]> {
  const [a, b] = await Promise.all([readTensors(first), readTensors(second)]);
  const differences: TensorDifference[] = [];
  for (const name of new Set([...a.keys(), ...b.keys()])) {
    const [one, other] = [a.get(name), b.get(name)];
    if (!one || !other || one.shape.join() !== other.shape.join()) {
      differences.push({
        name,
        shape: (one ?? other)!.shape,
        largest: Number.POSITIVE_INFINITY,
        rms: Number.POSITIVE_INFINITY,
      });
      continue;
    }
    if (one.bytes.equals(other.bytes)) continue;
    let [largest, squares] = [0, 0];
    const count = one.bytes.length / 4;
    for (let at = 0; at < count; at++) {
      const difference = Math.abs(one.bytes.readFloatLE(at * 4) - other.bytes.readFloatLE(at * 4));
      // A NaN on either side is as different as can be.
      if (!(difference <= largest))
        largest = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
      squares += difference ** 2;
    }
    differences.push({ name, shape: one.shape, largest, rms: Math.sqrt(squares / count) });
  }
  return differences;
}

async function readTensors(folder: string): Promise<Map<string, { shape: number[]; bytes: Buffer }>> {
  const [text, weights] = await Promise.all([
    readFile(join(folder, 'model.json'), 'utf8'),
    readFile(join(folder, 'weights.bin')),
  ]);
  const parsed = modelSchema.safeParse(JSON.parse(text));
  if (!parsed.success) throw new UserError('artifact-corrupt', `${folder}/model.json describes no weights`);
  const tensors = new Map<string, { shape: number[]; bytes: Buffer }>();
  let at = 0;
  for (const { name, shape, dtype } of parsed.data.weightsManifest.flatMap((group) => group.weights)) {
    const size = shape.reduce((product, one) => product * one, dtype === 'bool' ? 1 : 4);
    tensors.set(name, { shape, bytes: weights.subarray(at, at + size) });
    at += size;
  }
  if (at !== weights.length) {
    throw new UserError('artifact-corrupt', `${folder}/weights.bin has ${weights.length} bytes, not ${at}`);
  }
  return tensors;
}
