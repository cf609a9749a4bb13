import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { openTf } from '../../src/train/backend.ts';
import { createTfjsTrainer } from '../../src/train/tfjs.ts';
import type { ModelCode, TrainData } from '../../src/train/types.ts';
import { finish, inFolder, lenet, scaled } from './fixtures.ts';

const shared = process.env.CDL_SHARED ?? fileURLToPath(new URL('../../../shared', import.meta.url));
const folder = join(shared, 'data', 'fashion-mnist');
const present = existsSync(folder);
if (!present) console.warn(`SKIPPED test/train/fashion.spec.ts: no Fashion-MNIST in ${folder}`);

/** The first `count` images of an IDX pair (yann.lecun.com/exdb/mnist: magic, dimensions, bytes, all big-endian). */
async function images(part: 'train' | 't10k', count: number): Promise<TrainData> {
  const read = async (name: string) => gunzipSync(await readFile(join(folder, `${part}-${name}-ubyte.gz`)));
  const [pixels, labels] = [await read('images-idx3'), await read('labels-idx1')];
  expect([pixels.readUInt32BE(0), labels.readUInt32BE(0)]).toEqual([2051, 2049]);
  return {
    x: new Uint8Array(pixels.subarray(16, 16 + count * 784)),
    y: new Uint8Array(labels.subarray(8, 8 + count)),
    shape: [28, 28, 1],
    count,
    classes: Array.from({ length: 10 }, (_, label) => `label ${label}`),
  };
}

const mlp: ModelCode = {
  build: (tf) =>
    tf.sequential({
      layers: [
        tf.layers.flatten({ inputShape: [28, 28, 1] }),
        tf.layers.dense({ units: 128, activation: 'relu' }),
        tf.layers.dense({ units: 10 }),
      ],
    }),
  preprocess: scaled,
};

describe.skipIf(!present)('on 2 000 real images of Fashion-MNIST', () => {
  // A linear classifier gets about 0.77 from so few images, chance 0.1.
  it.each([
    ['a perceptron with logits', mlp, 8, 0.78],
    ['LeNet-5 with softmax', lenet, 4, 0.68],
  ] as const)('%s classifies unseen images', (_, code, epochs, expected) =>
    inFolder(async (output) => {
      const trainer = createTfjsTrainer(await openTf({ prefer: 'wasm' }));
      const events = await finish(trainer, {
        ...code,
        data: { train: await images('train', 2000), validation: await images('t10k', 1000) },
        hyperparameters: { epochs, batchSize: 32, learningRate: 0.001, optimizer: 'adam' },
        seed: 42,
        resume: null,
        output,
      });
      expect(events.at(-1)).toMatchObject({ kind: 'done' });
      const done = events.at(-1)!;
      expect(done.kind === 'done' && done.metrics.validationAccuracy).toBeGreaterThan(expected);
    }),
  );
});
