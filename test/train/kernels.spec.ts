import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { openTf } from '../../src/train/backend.ts';
import { layerNormalize } from '../../src/train/kernels/layer-normalization.ts';
import { createOptimizer, optimizerNames, type ResumableOptimizer } from '../../src/train/optimizer.ts';
import { seededRandom } from '../../src/train/random.ts';
import type { Tensor, Tf } from '../../src/train/types.ts';

let tf: Tf;

beforeAll(async () => {
  await openTf({ prefer: 'cpu' });
  ({ tf } = await openTf({ prefer: 'wasm' }));
});

/** Signed numbers of a fixed generator, in −1 … 1, without ties. */
function signed(seed: number, shape: number[]): Float32Array {
  const random = seededRandom('kernels', seed);
  return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1);
}

/** Computes on one backend; the arrays are made into tensors there. */
async function on(backend: 'wasm' | 'cpu', compute: () => Tensor[]): Promise<Float32Array[]> {
  await tf.setBackend(backend);
  const results = tf.tidy(compute);
  const values = results.map((tensor) => Float32Array.from(tensor.dataSync()));
  tf.dispose(results);
  return values;
}

/**
 * Expects the same numbers from wasm and plain JavaScript.
 *
 * Both sum in float32 but in another order: with up to n terms of size 1 the error grows as √n · 2⁻²⁴; 2e-5 of the
 * largest magnitude leaves a factor of about ten for the sums of up to some thousand terms made here.
 */
async function expectSame(compute: () => Tensor[]): Promise<void> {
  const [wasm, cpu] = [await on('wasm', compute), await on('cpu', compute)];
  expect(wasm.map((values) => values.length)).toEqual(cpu.map((values) => values.length));
  wasm.forEach((values, index) => {
    const expected = cpu[index]!;
    const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
    let worst = 0;
    for (let k = 0; k < values.length; k++) worst = Math.max(worst, Math.abs(values[k]! - expected[k]!));
    expect(worst / scale).toBeLessThan(2e-5);
  });
}

const stride = fc.integer({ min: 1, max: 3 });
const window = fc.integer({ min: 1, max: 3 });
const image = fc.record({
  seed: fc.nat(1e6),
  batch: fc.integer({ min: 1, max: 3 }),
  height: fc.integer({ min: 3, max: 9 }),
  width: fc.integer({ min: 3, max: 9 }),
  channels: fc.integer({ min: 1, max: 4 }),
  filter: fc.tuple(window, window),
  strides: fc.tuple(stride, stride),
  pad: fc.constantFrom('same' as const, 'valid' as const),
});
const runs = { numRuns: 25 };

describe('kernels of ours agree with plain JavaScript on signed inputs', () => {
  it('convolution: gradients for filter and input, any shape, stride and padding', () =>
    fc.assert(
      fc.asyncProperty(image, fc.integer({ min: 1, max: 5 }), (spec, filters) => {
        const shape: [number, number, number, number] = [spec.batch, spec.height, spec.width, spec.channels];
        const filterShape: [number, number, number, number] = [...spec.filter, spec.channels, filters];
        return expectSame(() => {
          const x = tf.tensor4d(signed(spec.seed, shape), shape);
          const w = tf.tensor4d(signed(spec.seed + 1, filterShape), filterShape);
          const convolve = (a: Tensor, b: Tensor) =>
            tf.conv2d(a as typeof x, b as typeof w, spec.strides, spec.pad);
          const dyShape = convolve(x, w).shape;
          const dy = tf.tensor(signed(spec.seed + 2, dyShape), dyShape);
          return tf.grads(convolve)([x, w], dy);
        });
      }),
      runs,
    ));

  // Square filters: with others, the shape TensorFlow.js computes for numeric padding is wrong on every backend.
  // A padding of 3 is wider than the filter.
  it.each([0, 1, 3])('convolution with an explicit padding of %i', (pad) =>
    expectSame(() => {
      const x = tf.tensor4d(signed(1, [2, 5, 6, 3]), [2, 5, 6, 3]);
      const w = tf.tensor4d(signed(2, [3, 3, 3, 4]), [3, 3, 3, 4]);
      const convolve = (a: Tensor, b: Tensor) =>
        tf.conv2d(a as typeof x, b as typeof w, 1, pad, 'NHWC', 1, 'floor');
      const dyShape = convolve(x, w).shape;
      return tf.grads(convolve)([x, w], tf.tensor(signed(3, dyShape), dyShape));
    }),
  );

  it('depthwise convolution: gradients for filter and input', () =>
    fc.assert(
      fc.asyncProperty(image, fc.integer({ min: 1, max: 3 }), (spec, multiplier) => {
        const shape: [number, number, number, number] = [spec.batch, spec.height, spec.width, spec.channels];
        const filterShape: [number, number, number, number] = [...spec.filter, spec.channels, multiplier];
        // Rectangular strides are not defined for depthwise convolutions in TensorFlow.
        const step = spec.strides[0];
        return expectSame(() => {
          const x = tf.tensor4d(signed(spec.seed, shape), shape);
          const w = tf.tensor4d(signed(spec.seed + 1, filterShape), filterShape);
          const convolve = (a: Tensor, b: Tensor) =>
            tf.depthwiseConv2d(a as typeof x, b as typeof w, step, spec.pad);
          const dyShape = convolve(x, w).shape;
          return tf.grads(convolve)([x, w], tf.tensor(signed(spec.seed + 2, dyShape), dyShape));
        });
      }),
      runs,
    ));

  it('max pooling: gradient, also where every number of a window is negative', () =>
    fc.assert(
      fc.asyncProperty(image, fc.constantFrom(0, -2), (spec, shift) => {
        const shape: [number, number, number, number] = [spec.batch, spec.height, spec.width, spec.channels];
        return expectSame(() => {
          const x = tf.tensor4d(
            signed(spec.seed, shape).map((value) => value + shift),
            shape,
          );
          const pool = (a: Tensor) => tf.maxPool(a as typeof x, spec.filter, spec.strides, spec.pad);
          const dyShape = pool(x).shape;
          return [tf.grad(pool)(x, tf.tensor(signed(spec.seed + 1, dyShape), dyShape))];
        });
      }),
      runs,
    ));

  it('convolution and max pooling in 3-D: values and gradients, strided and of several items', () =>
    fc.assert(
      fc.asyncProperty(image, fc.constantFrom(0, -2), (spec, shift) => {
        const shape: [number, number, number, number, number] = [spec.batch, 4, 3, 5, spec.channels];
        const filterShape: typeof shape = [2, ...spec.filter, spec.channels, 2];
        return expectSame(() => {
          const x = tf.tensor5d(
            signed(spec.seed, shape).map((value) => value + shift),
            shape,
          );
          const w = tf.tensor5d(signed(spec.seed + 1, filterShape), filterShape);
          const convolve = (a: Tensor, b: Tensor) =>
            tf.conv3d(a as typeof x, b as typeof w, [1, ...spec.strides], spec.pad);
          const pool = (a: Tensor) => tf.maxPool3d(a as typeof x, 2, [1, ...spec.strides], spec.pad);
          const [convolved, pooled] = [convolve(x, w), pool(x)];
          const dy = (like: Tensor) => tf.tensor(signed(spec.seed + 2, like.shape), like.shape);
          return [
            convolved,
            pooled,
            ...tf.grads(convolve)([x, w], dy(convolved)),
            tf.grad(pool)(x, dy(pooled)),
          ];
        });
      }),
      runs,
    ));

  it('matrix product with every pair of transpose flags and a batch', () =>
    fc.assert(
      fc.asyncProperty(
        fc.nat(1e6),
        fc.tuple(...Array.from({ length: 3 }, () => fc.integer({ min: 1, max: 9 }))),
        fc.tuple(fc.boolean(), fc.boolean()),
        fc.integer({ min: 1, max: 3 }),
        (seed, [m, k, n], [transposeA, transposeB], batch) =>
          expectSame(() => {
            const aShape = transposeA ? [batch, k!, m!] : [batch, m!, k!];
            const bShape = transposeB ? [batch, n!, k!] : [batch, k!, n!];
            const a = tf.tensor(signed(seed, aShape), aShape);
            const b = tf.tensor(signed(seed + 1, bShape), bShape);
            return [
              tf.matMul(a, b, transposeA, transposeB),
              ...tf.grads((p: Tensor, q: Tensor) => tf.matMul(p, q, transposeA, transposeB))([a, b]),
            ];
          }),
      ),
      runs,
    ));

  it('embedding: gradient of a look-up with repeated and missing words', () =>
    fc.assert(
      fc.asyncProperty(
        fc.nat(1e6),
        fc.array(fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 3, maxLength: 3 }), {
          minLength: 1,
          maxLength: 6,
        }),
        (seed, words) =>
          expectSame(() => {
            const table = tf.tensor2d(signed(seed, [6, 4]), [6, 4]);
            const ids = tf.tensor1d(words.flat(), 'int32');
            const dy = tf.tensor(signed(seed + 1, [ids.size, 4]), [ids.size, 4]);
            return [tf.grad((t: Tensor) => tf.gather(t, ids))(table, dy)];
          }),
      ),
      runs,
    ));

  it('segment sums drop ids that name no segment', async () => {
    const [sums] = await on('wasm', () => [
      tf.unsortedSegmentSum(tf.tensor2d([1, 2, 3, 4, 5, 6], [3, 2]), tf.tensor1d([1, -1, 7], 'int32'), 2),
    ]);
    expect([...sums!]).toEqual([0, 0, 1, 2]);
  });

  it('leave nothing behind in memory', async () => {
    await tf.setBackend('wasm');
    const work = () =>
      tf.tidy(() => {
        const x = tf.tensor4d(signed(1, [2, 6, 6, 2]), [2, 6, 6, 2]);
        const w = tf.tensor4d(signed(2, [3, 3, 2, 4]), [3, 3, 2, 4]);
        const loss = (a: Tensor, b: Tensor) =>
          tf.sum(
            tf.matMul(
              tf.reshape(
                tf.maxPool(tf.conv2d(a as typeof x, b as typeof w, 2, 'same'), 2, 1, 'same'),
                [2, -1],
              ),
              tf.ones([4, 36]),
              false,
              true,
            ),
          );
        tf.grads(loss)([x, w]);
      });
    work();
    const before = [tf.memory().numTensors, tf.memory().numDataBuffers, tf.backend().numDataIds()];
    work();
    expect([tf.memory().numTensors, tf.memory().numDataBuffers, tf.backend().numDataIds()]).toEqual(before);
  });
});

describe('layer normalisation in closed form', () => {
  it('has the value and the gradients of the definition', () =>
    fc.assert(
      fc.asyncProperty(
        fc.nat(1e6),
        fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 2 }),
        fc.integer({ min: 2, max: 8 }),
        async (seed, others, width) => {
          const shape = [...others, width];
          const inputs = () => [
            tf.tensor(signed(seed, shape), shape),
            tf.tensor(signed(seed + 1, [width]), [width]),
            tf.tensor(signed(seed + 2, [width]), [width]),
          ];
          const definition = (x: Tensor, gamma: Tensor, beta: Tensor) => {
            const { mean, variance } = tf.moments(x, -1, true);
            return tf.add(tf.mul(tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, 1e-3))), gamma), beta);
          };
          const both = (f: typeof definition) => () => {
            const given = inputs() as [Tensor, Tensor, Tensor];
            return [f(...given), ...tf.grads(f)(given, tf.tensor(signed(seed + 3, shape), shape))];
          };
          const ours = await on(
            'wasm',
            both((x, gamma, beta) => layerNormalize(tf, x, gamma, beta, 1e-3)),
          );
          const expected = await on('cpu', both(definition));
          ours.forEach((values, index) => {
            values.forEach((value, k) => {
              // A row with nearly equal numbers divides by √ε at least, which multiplies rounding by about 30.
              expect(Math.abs(value - expected[index]![k]!)).toBeLessThan(5e-4);
            });
          });
        },
      ),
      runs,
    ));

  it('is what tf.layers.layerNormalization makes, saved under its usual name', async () => {
    await tf.setBackend('wasm');
    const layer = tf.layers.layerNormalization({ inputShape: [4] });
    const model = tf.sequential({ layers: [layer] });
    const out = model.predict(tf.tensor2d([1, 2, 3, 4], [1, 4])) as Tensor;
    expect([...out.dataSync()].map((value) => Math.round(value * 100) / 100)).toEqual([
      -1.34, -0.45, 0.45, 1.34,
    ]);
    expect(layer.getClassName()).toBe('LayerNormalization');
    expect(layer.getConfig()).toMatchObject({ axis: [1], epsilon: 1e-3, center: true, scale: true });
    model.dispose();
  });
});

describe('optimizers', () => {
  const stock = {
    adam: () => tf.train.adam(0.1),
    sgd: () => tf.train.sgd(0.1),
    momentum: () => tf.train.momentum(0.1, 0.9),
    rmsprop: () => tf.train.rmsprop(0.1, 0.9, 0, 1e-7),
  };
  const places = ['memory', 'tensors'] as const;
  it.each(optimizerNames.flatMap((name) => places.map((place) => [name, place] as const)))(
    '%s (%s) follows the one of TensorFlow.js, and never writes a weight in place',
    async (name, place) => {
      for (const backend of ['wasm', 'cpu'] as const) {
        await tf.setBackend(backend);
        const path = (optimizer: { applyGradients(gradients: Record<string, Tensor>): void }) => {
          const w = tf.variable(tf.tensor1d(signed(5, [6])));
          const target = tf.tensor1d(signed(6, [6]));
          for (let step = 0; step < 5; step++) {
            const before = w.dataId;
            const { grads } = tf.variableGrads(() => tf.sum(tf.square(tf.sub(w, target))), [w]);
            optimizer.applyGradients(grads);
            expect(w.dataId).not.toBe(before);
          }
          return w.dataSync();
        };
        const ours = path(createOptimizer(tf, name, 0.1, place));
        const theirs = path(stock[name]() as Pick<ResumableOptimizer, 'applyGradients'>);
        ours.forEach((value, k) => {
          expect(Math.abs(value - theirs[k]!)).toBeLessThan(2e-5);
        });
      }
    },
  );
});
