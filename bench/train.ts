import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '../src/core/error.ts';
import { type BackendName, backendNames, openTf } from '../src/train/backend.ts';
import { seededRandom } from '../src/train/random.ts';
import { createTfjsTrainer } from '../src/train/tfjs.ts';
import type { LayersModel, ModelCode, Tf, TrainData } from '../src/train/types.ts';
import type { Row } from './row.ts';

const batchSize = 64;
const epochs = 3;

const perceptron: ModelCode = {
  build: (tf) =>
    tf.sequential({
      layers: [
        tf.layers.flatten({ inputShape: [28, 28, 1] }),
        tf.layers.dense({ units: 128, activation: 'relu' }),
        tf.layers.dense({ units: 10, activation: 'softmax' }),
      ],
    }),
  preprocess: (tf, raw) => tf.div(tf.cast(raw, 'float32'), 255),
};

const lenet: ModelCode = {
  build: (tf) =>
    tf.sequential({
      layers: [
        tf.layers.conv2d({
          filters: 6,
          kernelSize: 5,
          padding: 'same',
          activation: 'relu',
          inputShape: [28, 28, 1],
        }),
        tf.layers.maxPooling2d({ poolSize: 2 }),
        tf.layers.conv2d({ filters: 16, kernelSize: 5, activation: 'relu' }),
        tf.layers.maxPooling2d({ poolSize: 2 }),
        tf.layers.flatten(),
        tf.layers.dense({ units: 120, activation: 'relu' }),
        tf.layers.dense({ units: 84, activation: 'relu' }),
        tf.layers.dense({ units: 10, activation: 'softmax' }),
      ],
    }),
  preprocess: perceptron.preprocess,
};

/** Random bytes with labels that depend on them: 28×28, 10 classes. */
function synthetic(count: number): TrainData {
  const random = seededRandom('bench', 'train');
  const y = Uint8Array.from({ length: count }, () => Math.floor(random() * 10));
  const x = new Uint8Array(count * 784);
  for (let k = 0; k < x.length; k++) {
    const bright = Math.floor((k % 784) / 78.5) === y[Math.floor(k / 784)];
    x[k] = Math.floor(random() * 128) + (bright ? 100 : 0);
  }
  return { x, y, shape: [28, 28, 1], count, classes: Array.from({ length: 10 }, (_, k) => String(k)) };
}

/** Samples a second of the built-in trainer, best epoch, without validation and checkpoint. */
async function ours(code: ModelCode, data: TrainData, backend: BackendName = 'wasm'): Promise<number> {
  const trainer = createTfjsTrainer(await openTf({ prefer: backend }));
  const output = await mkdtemp(join(tmpdir(), 'cdl-bench-train-'));
  try {
    const few = first(data, 10);
    const job = {
      ...code,
      data: { train: data, validation: few },
      hyperparameters: { epochs, batchSize, learningRate: 0.001, optimizer: 'adam' as const },
      seed: 1,
      resume: null,
      output,
    };
    let best = 0;
    for await (const event of trainer.train(job, new AbortController().signal)) {
      if (event.kind === 'epoch') best = Math.max(best, event.samplesPerSecond);
    }
    return best;
  } finally {
    await rm(output, { recursive: true, force: true });
  }
}

/** Samples a second of `model.fit` with everything as shipped, best epoch; null when it throws. */
async function stock(backend: 'wasm' | 'cpu', code: ModelCode, data: TrainData): Promise<number | null> {
  const { tf } = await openTf({ prefer: backend, stockKernels: true });
  const model: LayersModel = code.build(
    tf,
    { epochs, batchSize, learningRate: 0.001, optimizer: 'adam' },
    data,
  );
  const [x, y] = tf.tidy(() => [
    code.preprocess(tf, tf.tensor(data.x, [data.count, ...data.shape], 'int32')),
    tf.oneHot(tf.tensor1d(data.y, 'int32'), 10),
  ]) as [ReturnType<Tf['tensor']>, ReturnType<Tf['tensor']>];
  let best = 0;
  let since = 0;
  try {
    model.compile({
      optimizer: tf.train.adam(0.001),
      loss: 'categoricalCrossentropy',
      metrics: ['accuracy'],
    });
    await model.fit(x, y, {
      batchSize,
      epochs,
      verbose: 0,
      yieldEvery: 'never',
      callbacks: {
        onEpochBegin: async () => {
          since = performance.now();
        },
        onEpochEnd: async () => {
          best = Math.max(best, data.count / ((performance.now() - since) / 1000));
        },
      },
    });
    return best;
  } catch (error) {
    if (!(error instanceof Error && error.message.includes('not registered for backend'))) throw error;
    return null;
  } finally {
    tf.dispose([x, y]);
    model.dispose();
  }
}

const cases = [
  { name: 'MLP 784-128-10', code: perceptron, count: 12_800, plain: 1280 },
  { name: 'LeNet-5', code: lenet, count: 3200, plain: 64 },
];
const first = (data: TrainData, count: number): TrainData => ({
  ...data,
  x: data.x.subarray(0, 784 * count),
  y: data.y.subarray(0, count),
  count,
});

/** Samples a second of the built-in trainer on every backend that is here (plain JavaScript on few items). */
export async function backendRates(): Promise<{ network: string; backend: string; rate: number }[]> {
  const rates: { network: string; backend: string; rate: number }[] = [];
  for (const { name, code, count, plain } of cases) {
    const data = synthetic(count);
    for (const backend of backendNames) {
      const few = backend === 'cpu' ? first(data, plain) : data;
      const rate = await ours(code, few, backend).catch((error: unknown) => {
        if (error instanceof UserError && error.code === 'not-available') return null;
        throw error;
      });
      const shown =
        backend === 'wasm' ? 'wasm with our kernels' : backend === 'cpu' ? 'plain JavaScript' : backend;
      if (rate !== null) rates.push({ network: name, backend: shown, rate });
    }
  }
  await openTf({ prefer: 'wasm' });
  return rates;
}

/**
 * Training throughput: the built-in trainer with our wasm kernels beside `model.fit` on the wasm backend as shipped and
 * on plain JavaScript, for a perceptron 784-128-10 and LeNet-5, batch 64, Adam, synthetic bytes; best of three epochs.
 */
export async function benchTrain(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const { name, code, count, plain } of cases) {
    const data = synthetic(count);
    const value = await ours(code, data);
    const few = first(data, plain);
    const others = {
      'wasm as shipped': await stock('wasm', code, data),
      'plain JavaScript': await stock('cpu', code, few),
    };
    for (const [other, baseline] of Object.entries(others)) {
      rows.push({
        name: `train ${name}: cdl on wasm, against ${other}${baseline === null ? ' (throws)' : ''}`,
        value: Math.round(value),
        unit: 'samples/s',
        baseline: baseline === null ? null : Math.round(baseline),
        ratio: baseline === null ? null : value / baseline,
      });
    }
  }
  await openTf({ prefer: 'wasm' });
  return rows;
}
