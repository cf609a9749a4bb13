import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ModelCode, TrainData, TrainEvent, Trainer, TrainJob } from '../../src/train/types.ts';

/** Bytes that a small model can learn: class k is bright in its own stripe, plus noise from a fixed generator. */
export function stripes(count: number, shape: number[], classes: number, seed = 1): TrainData {
  const size = shape.reduce((a, b) => a * b, 1);
  const x = new Uint8Array(count * size);
  const y = new Uint8Array(count);
  let state = seed;
  const noise = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  };
  for (let item = 0; item < count; item++) {
    const label = noise() % classes;
    y[item] = label;
    for (let k = 0; k < size; k++) {
      const inside = Math.floor((k * classes) / size) === label;
      x[item * size + k] = Math.min(255, (noise() >> 1) + (inside ? 90 : 0));
    }
  }
  return { x, y, shape, count, classes: Array.from({ length: classes }, (_, k) => `class ${k}`) };
}

export const scaled: ModelCode['preprocess'] = (tf, raw) => tf.div(tf.cast(raw, 'float32'), 255);

/** A small perceptron with dropout and no seed anywhere. */
export const perceptron: ModelCode = {
  build(tf) {
    const model = tf.sequential();
    model.add(tf.layers.flatten({ inputShape: [6, 6, 1] }));
    model.add(tf.layers.dense({ units: 12, activation: 'relu' }));
    model.add(tf.layers.dropout({ rate: 0.2 }));
    model.add(tf.layers.dense({ units: 3, activation: 'softmax' }));
    return model;
  },
  preprocess: scaled,
};

/** LeNet-5 (LeCun et al. 1998) in its present form: max pooling, relu, softmax. */
export const lenet: ModelCode = {
  build(tf) {
    const model = tf.sequential();
    const conv = { kernelSize: 5, activation: 'relu' } as const;
    model.add(tf.layers.conv2d({ filters: 6, padding: 'same', inputShape: [28, 28, 1], ...conv }));
    model.add(tf.layers.maxPooling2d({ poolSize: 2 }));
    model.add(tf.layers.conv2d({ filters: 16, ...conv }));
    model.add(tf.layers.maxPooling2d({ poolSize: 2 }));
    model.add(tf.layers.flatten());
    model.add(tf.layers.dense({ units: 120, activation: 'relu' }));
    model.add(tf.layers.dense({ units: 84, activation: 'relu' }));
    model.add(tf.layers.dense({ units: 10, activation: 'softmax' }));
    return model;
  },
  preprocess: scaled,
};

/** A job on {@link stripes} for the {@link perceptron}; `change` replaces parts. */
export function smallJob(output: string, change: Partial<TrainJob> = {}): TrainJob {
  return {
    ...perceptron,
    data: { train: stripes(100, [6, 6, 1], 3, 1), validation: stripes(40, [6, 6, 1], 3, 2) },
    hyperparameters: { epochs: 3, batchSize: 16, learningRate: 0.01, optimizer: 'adam' },
    seed: 7,
    resume: null,
    output,
    ...change,
  };
}

/** Runs a job to its end and returns what it told. */
export async function finish(
  trainer: Trainer,
  job: TrainJob,
  signal: AbortSignal = new AbortController().signal,
): Promise<TrainEvent[]> {
  const events: TrainEvent[] = [];
  for await (const event of trainer.train(job, signal)) events.push(event);
  return events;
}

/** Runs `work` with a temporary folder that is removed afterwards. */
export async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-train-'));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
