import { beforeAll, describe, expect, it } from 'vitest';
import { openTf } from '../../src/train/backend.ts';
import { crossEntropy, oneHot } from '../../src/train/loss.ts';
import { seededRandom, withRandom } from '../../src/train/random.ts';
import type { Tensor, Tf } from '../../src/train/types.ts';

type Layer = ReturnType<Tf['layers']['dense']>;
type Stack = (layers: Tf['layers']) => object[];

let tf: Tf;

beforeAll(async () => {
  await openTf({ prefer: 'cpu' });
  ({ tf } = await openTf({ prefer: 'wasm' }));
});

const words: Stack = (l) => [l.embedding({ inputDim: 20, outputDim: 4, inputLength: 6 })];
const image: Stack = (l) => [l.reshape({ targetShape: [6, 6, 2], inputShape: [72] })];

/** What stands between the input and a dense softmax of three classes. */
const stacks: Record<string, Stack> = {
  'embedding and lstm': (l) => [...words(l), l.lstm({ units: 5 })],
  'bidirectional gru': (l) => [
    ...words(l),
    l.bidirectional({ layer: l.gru({ units: 3 }) as never, mergeMode: 'concat' }),
  ],
  'simple rnn with masking': (l) => [
    l.embedding({ inputDim: 20, outputDim: 4, inputLength: 6, maskZero: true }),
    l.simpleRNN({ units: 5 }),
  ],
  'conv1d and global max pooling': (l) => [
    ...words(l),
    l.conv1d({ filters: 3, kernelSize: 3, padding: 'same' }),
    l.globalMaxPooling1d({}),
  ],
  'pooling over time': (l) => [
    ...words(l),
    l.averagePooling1d({ poolSize: 2 }),
    l.maxPooling1d({ poolSize: 2 }),
    l.flatten(),
  ],
  'strided convolutions': (l) => [
    ...image(l),
    l.conv2d({ filters: 4, kernelSize: 3, strides: 2, padding: 'same', activation: 'relu' }),
    l.conv2d({ filters: 3, kernelSize: 2 }),
    l.flatten(),
  ],
  'max pooling of tanh': (l) => [
    ...image(l),
    l.conv2d({ filters: 3, kernelSize: 3, activation: 'tanh', padding: 'same' }),
    l.maxPooling2d({ poolSize: 3, strides: 2, padding: 'same' }),
    l.flatten(),
  ],
  'depthwise convolution': (l) => [
    ...image(l),
    l.depthwiseConv2d({ kernelSize: 3, depthMultiplier: 2 }),
    l.flatten(),
  ],
  'separable convolution': (l) => [
    ...image(l),
    l.separableConv2d({ filters: 3, kernelSize: 3 }),
    l.flatten(),
  ],
  'transposed convolution': (l) => [
    ...image(l),
    l.conv2dTranspose({ filters: 3, kernelSize: 3, strides: 2 }),
    l.globalAveragePooling2d({}),
  ],
  'batch normalisation of images': (l) => [
    ...image(l),
    l.conv2d({ filters: 3, kernelSize: 3 }),
    l.batchNormalization(),
    l.leakyReLU(),
    l.averagePooling2d({ poolSize: 2 }),
    l.flatten(),
  ],
  'layer normalisation': (l) => [
    l.dense({ units: 6, inputShape: [8] }),
    l.layerNormalization(),
    l.dense({ units: 4, activation: 'gelu' }),
    l.layerNormalization({ center: false, scale: false }),
  ],
  activations: (l) => [
    l.dense({ units: 5, inputShape: [8], activation: 'elu' }),
    ...(['selu', 'swish', 'tanh', 'softplus', 'mish', 'hardSigmoid', 'relu6'] as const).map((activation) =>
      l.dense({ units: 5, activation }),
    ),
    l.prelu(),
  ],
  noise: (l) => [
    l.dense({ units: 6, inputShape: [8] }),
    l.dropout({ rate: 0.3 }),
    l.gaussianNoise({ stddev: 0.1 }),
    l.gaussianDropout({ rate: 0.1 }),
    l.alphaDropout({ rate: 0.1 }),
  ],
  'shape changes': (l) => [
    ...image(l),
    l.upSampling2d({ size: [2, 2] }),
    l.zeroPadding2d(),
    l.cropping2D({
      cropping: [
        [2, 2],
        [3, 3],
      ],
    }),
    l.permute({ dims: [3, 1, 2] }),
    l.flatten(),
  ],
  'convolution in 3-D': (l) => [
    l.reshape({ targetShape: [4, 4, 4, 1], inputShape: [64] }),
    l.conv3d({ filters: 2, kernelSize: 2, strides: 2, padding: 'same' }),
    l.conv3d({ filters: 3, kernelSize: 2, padding: 'same' }),
    l.maxPooling3d({ poolSize: 2, strides: 1 }),
    l.flatten(),
  ],
};

/** Loss and the gradient of every weight for one seeded batch. */
async function gradients(backend: 'wasm' | 'cpu', stack: Stack): Promise<Float32Array[]> {
  await tf.setBackend(backend);
  return withRandom(seededRandom('layers'), 'gradients', () => {
    const layers = [...stack(tf.layers), tf.layers.dense({ units: 3, activation: 'softmax' })];
    const model = tf.sequential({ layers: layers as Layer[] });
    const shape = model.inputs[0]!.shape.slice(1) as number[];
    const size = 4 * shape.reduce((a, b) => a * b, 1);
    const isWords = layers[0]!.constructor.name === 'Embedding';
    const values = Float32Array.from({ length: size }, () =>
      isWords ? Math.floor(Math.random() * 20) : Math.random() * 2 - 1,
    );
    const x = tf.tensor(values, [4, ...shape]);
    const { value, grads } = tf.variableGrads(() => {
      const outputs = model.apply(x, { training: true }) as Tensor;
      return crossEntropy(tf, 'probabilities', outputs, oneHot(tf, [0, 1, 2, 0], 3)) as ReturnType<
        Tf['scalar']
      >;
    });
    const order = model.trainableWeights.map(
      (weight) => grads[(weight.read() as ReturnType<Tf['variable']>).name]!,
    );
    const result = [value, ...order].map((tensor) => Float32Array.from(tensor.dataSync()));
    tf.dispose([value, x, grads]);
    model.dispose();
    return result;
  });
}

describe('every kind of layer has on wasm the gradient it has in plain JavaScript', () => {
  it.each(Object.entries(stacks))('%s', async (_, stack) => {
    const [wasm, cpu] = [await gradients('wasm', stack), await gradients('cpu', stack)];
    expect(wasm.length).toBe(cpu.length);
    expect(wasm.length).toBeGreaterThan(1);
    wasm.forEach((values, index) => {
      const expected = cpu[index]!;
      const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0.01);
      for (let k = 0; k < expected.length; k++) {
        // float32 through several layers: 1e-4 of the largest gradient of the weight.
        expect(Math.abs(values[k]! - expected[k]!) / scale).toBeLessThan(1e-4);
      }
    });
  });
});
