import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openTf } from '../../src/train/backend.ts';
import { encodeModel, loadModel, writeFolder } from '../../src/train/model-files.ts';
import type { LayersModel, Tf } from '../../src/train/types.ts';
import { inFolder } from './fixtures.ts';

let tf: Tf;

beforeAll(async () => {
  ({ tf } = await openTf({ prefer: 'wasm' }));
});

const constant = { kernelInitializer: 'ones' } as const;

/** A model with branches, a nested model, normalisation state and a name somebody gave. */
function branched(): LayersModel {
  const input = tf.input({ shape: [4] });
  const nested = tf.sequential({
    layers: [tf.layers.dense({ units: 3, inputShape: [4], ...constant }), tf.layers.layerNormalization()],
  });
  const left = nested.apply(input) as typeof input;
  const right = tf.layers.dense({ units: 3, name: 'mine', ...constant }).apply(input) as typeof input;
  const sum = tf.layers.add().apply([left, right]) as typeof input;
  const normal = tf.layers.batchNormalization().apply(sum) as typeof input;
  return tf.model({
    inputs: input,
    outputs: tf.layers.dense({ units: 2, activation: 'softmax', ...constant }).apply(normal) as typeof input,
  });
}

describe('a model as files', () => {
  it('has the same bytes however many models the process has built before', () => {
    const [first, second] = [encodeModel(branched()), encodeModel(branched())];
    expect(Buffer.from(second['model.json']).toString()).toBe(Buffer.from(first['model.json']).toString());
    expect(second['weights.bin']).toEqual(first['weights.bin']);
    expect(Buffer.from(first['model.json']).toString()).toContain('"mine"');
  });

  it('comes back bit for bit, with the same predictions, and encodes to the same bytes again', () =>
    inFolder(async (folder) => {
      const model = branched();
      const odd = [0.1, -0, 1e-42, Number.MAX_VALUE, -1 / 3];
      model.setWeights(
        model.getWeights().map((weight, index) =>
          tf.tensor(
            Float32Array.from({ length: weight.size }, (_, k) => odd[(k + index) % 3]!),
            weight.shape,
          ),
        ),
      );
      const files = encodeModel(model);
      await writeFolder(join(folder, 'model'), { ...files });
      const loaded = await loadModel(tf, join(folder, 'model'));
      expect(encodeModel(loaded)).toEqual(files);
      const x = tf.tensor2d([[1, -2, 3, 0.5]]);
      const values = [model, loaded].map((each) => (each.predict(x) as typeof x).dataSync());
      expect(values[1]).toEqual(values[0]);
    }));

  it('that lacks a file or bytes, or is none, is a user error', () =>
    inFolder(async (folder) => {
      const place = join(folder, 'model');
      await expect(loadModel(tf, place)).rejects.toMatchObject({ code: 'artifact-missing' });
      await writeFolder(place, { ...encodeModel(branched()) });
      await truncate(join(place, 'weights.bin'), 10);
      await expect(loadModel(tf, place)).rejects.toMatchObject({
        code: 'artifact-corrupt',
        message: expect.stringContaining('weights.bin has 10 bytes'),
      });
      await writeFile(join(place, 'model.json'), '{"half":');
      await expect(loadModel(tf, place)).rejects.toMatchObject({ code: 'artifact-corrupt' });
      await rm(join(place, 'model.json'));
      await expect(loadModel(tf, place)).rejects.toMatchObject({ code: 'artifact-missing' });
    }));

  it('replaces an older folder whole and leaves nothing beside it', () =>
    inFolder(async (folder) => {
      const place = join(folder, 'model');
      await writeFolder(place, { a: Buffer.from('1'), b: Buffer.from('2') });
      await writeFolder(place, { a: Buffer.from('3') });
      expect(await readdir(folder)).toEqual(['model']);
      expect(await readdir(place)).toEqual(['a']);
      expect(await readFile(join(place, 'a'), 'utf8')).toBe('3');
    }));
});
