import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { type OpenedTf, openTf } from '../../src/train/backend.ts';
import { latestCheckpoint } from '../../src/train/checkpoint.ts';
import { loadModel } from '../../src/train/model-files.ts';
import { evaluateModel, predict } from '../../src/train/predict.ts';
import { createTfjsTrainer } from '../../src/train/tfjs.ts';
import type { TrainEvent, Trainer, TrainJob } from '../../src/train/types.ts';
import { finish, inFolder, lenet, perceptron, scaled, smallJob, stripes } from './fixtures.ts';

let opened: OpenedTf;
let trainer: Trainer;

beforeAll(async () => {
  opened = await openTf({ prefer: 'wasm' });
  trainer = createTfjsTrainer(opened);
});

/** The digest of the finished model below `output`. */
async function modelDigest(output: string): Promise<string> {
  const files = ['model.json', 'weights.bin'].map((name) => readFile(join(output, 'model', name)));
  return digestBytes(Buffer.concat(await Promise.all(files)));
}

function last(events: TrainEvent[]): TrainEvent {
  return events.at(-1)!;
}

describe('training with wasm', () => {
  it('learns, tells step and epoch, and keeps its own promises about what is done', () =>
    inFolder(async (output) => {
      const job = smallJob(output, {
        hyperparameters: { epochs: 8, batchSize: 16, learningRate: 0.01, optimizer: 'adam' },
      });
      const events = await finish(trainer, job);
      expect(events.filter((event) => event.kind === 'epoch').map((event) => event.epoch)).toEqual([
        1, 2, 3, 4, 5, 6, 7, 8,
      ]);
      expect(events.some((event) => event.kind === 'step')).toBe(true);
      const done = last(events);
      expect(done).toMatchObject({ kind: 'done', step: 56, epoch: 8, bestEpoch: 8, stoppedEarly: false });
      if (done.kind !== 'done') throw new Error('unreachable');
      expect(done.metrics.validationAccuracy).toBeGreaterThan(0.8);
      const model = await loadModel(opened.tf, done.model);
      const again = evaluateModel(opened.tf, model, scaled, job.data.validation);
      expect(again.loss).toBe(done.metrics.validationLoss);
      expect(again.accuracy).toBe(done.metrics.validationAccuracy);
      model.dispose();
    }));

  it('gives the same bytes for the same job and other bytes for another seed, though the model sets no seed', () =>
    inFolder(async (folder) => {
      const digests: string[] = [];
      for (const [name, seed] of [
        ['a', 7],
        ['b', 7],
        ['c', 8],
      ] as const) {
        await finish(trainer, smallJob(join(folder, name), { seed }));
        digests.push(await modelDigest(join(folder, name)));
      }
      expect(digests[1]).toBe(digests[0]);
      expect(digests[2]).not.toBe(digests[0]);
    }));

  it('gives every step random numbers of its own, the same ones when run again', () =>
    inFolder(async (output) => {
      const draws = async () => {
        const drawn: number[] = [];
        const job = smallJob(output, {
          preprocess: (tf, raw) => {
            drawn.push(Math.random());
            return scaled(tf, raw);
          },
        });
        const before = opened.tf.memory().numTensors;
        const events = await finish(trainer, job);
        expect(opened.tf.memory().numTensors).toBe(before);
        expect(last(events).step).toBe(21);
        // Per epoch 7 steps and 1 validation batch, which draws from outside; before all, building.
        return drawn.slice(1).filter((_, index) => index % 8 !== 7);
      };
      const first = await draws();
      expect(new Set(first).size).toBe(21);
      expect(await draws()).toEqual(first);
    }));

  it('keeps what is no trainable weight, such as the moving averages of batch normalisation', () =>
    inFolder(async (folder) => {
      const build: TrainJob['build'] = (tf) =>
        tf.sequential({
          layers: [
            tf.layers.flatten({ inputShape: [6, 6, 1] }),
            tf.layers.dense({ units: 8, kernelRegularizer: tf.regularizers.l2({ l2: 0.01 }) }),
            tf.layers.batchNormalization(),
            tf.layers.layerNormalization(),
            tf.layers.dense({ units: 3 }),
          ],
        });
      const stop = new AbortController();
      stop.abort();
      const [whole, parts] = [join(folder, 'whole'), join(folder, 'parts')];
      await finish(trainer, smallJob(whole, { build }));
      // Stopped before the first step, then for good after every epoch.
      expect(await finish(trainer, smallJob(parts, { build }), stop.signal)).toMatchObject([
        { kind: 'stopped', step: 0, epoch: 1 },
      ]);
      for (let epoch = 1; epoch <= 3; epoch++) {
        const job = smallJob(parts, { build, resume: await latestCheckpoint(parts) });
        const abort = new AbortController();
        for await (const event of trainer.train(job, abort.signal)) {
          if (event.kind === 'epoch' && epoch < 3) abort.abort();
        }
      }
      expect(await modelDigest(parts)).toBe(await modelDigest(whole));
      const model = await loadModel(opened.tf, join(whole, 'model'));
      const moving = model.weights.filter((weight) => weight.originalName.includes('moving'));
      expect(
        moving.map((weight) =>
          weight
            .read()
            .dataSync()
            .some((v) => v !== 0 && v !== 1),
        ),
      ).toEqual([true, true]);
      model.dispose();
    }));

  it.each(['adam', 'sgd', 'momentum', 'rmsprop'] as const)(
    'goes on bit by bit from a checkpoint in the middle of an epoch (%s)',
    (optimizer) =>
      inFolder(async (folder) => {
        const hyperparameters = {
          epochs: 4,
          batchSize: 4,
          learningRate: 0.01,
          optimizer,
          earlyStopping: { patience: 3, minDelta: 0 },
        };
        await finish(trainer, smallJob(join(folder, 'whole'), { hyperparameters }));
        const output = join(folder, 'parts');
        let job = smallJob(output, { hyperparameters });
        const stop = new AbortController();
        const events: TrainEvent[] = [];
        for await (const event of trainer.train(job, stop.signal)) {
          events.push(event);
          if (event.kind === 'step' && event.step === 32) stop.abort();
        }
        expect(last(events)).toMatchObject({ kind: 'stopped', step: 32, epoch: 2 });
        const resume = await latestCheckpoint(output);
        expect(resume).toBe(
          last(events).kind === 'stopped' && (last(events) as { checkpoint: string }).checkpoint,
        );
        job = smallJob(output, { hyperparameters, resume });
        expect(last(await finish(trainer, job))).toMatchObject({ kind: 'done', step: 100 });
        expect(await modelDigest(output)).toBe(await modelDigest(join(folder, 'whole')));
      }),
  );
});

describe('a training that cannot go on', () => {
  const failing: [string, string, Partial<TrainJob>, RegExp][] = [
    [
      'a loss that is not finite',
      'training-failed',
      { preprocess: (tf, raw) => tf.mul(tf.cast(raw, 'float32'), Number.NaN) },
      /loss is NaN in epoch 1, step 1/,
    ],
    [
      'an output that is no class column',
      'code-invalid',
      {
        build: (tf) =>
          tf.sequential({
            layers: [tf.layers.flatten({ inputShape: [6, 6, 1] }), tf.layers.dense({ units: 4 })],
          }),
      },
      /\[N,4\]; it has to be one \[N, 3\]/,
    ],
    [
      'an activation that gives neither probabilities nor logits',
      'code-invalid',
      {
        build: (tf) =>
          tf.sequential({
            layers: [
              tf.layers.flatten({ inputShape: [6, 6, 1] }),
              tf.layers.dense({ units: 3, activation: 'relu' }),
            ],
          }),
      },
      /activation relu/,
    ],
    [
      'a build that throws',
      'code-invalid',
      {
        build: () => {
          throw new Error('no such layer');
        },
      },
      /no such layer/,
    ],
    [
      'a preprocess that gives no tensor',
      'code-invalid',
      { preprocess: (() => undefined) as unknown as TrainJob['preprocess'] },
      /preprocess\(\) did not return a batch/,
    ],
    [
      'a build that is not synchronous',
      'code-invalid',
      { build: (async () => null) as unknown as TrainJob['build'] },
      /did not return a tf.LayersModel/,
    ],
    [
      'a label beyond the classes',
      'data-invalid',
      {
        data: {
          train: { ...stripes(10, [6, 6, 1], 3), y: new Uint8Array(10).fill(3) },
          validation: stripes(10, [6, 6, 1], 3),
        },
      },
      /item 0 has label 3/,
    ],
    [
      'an optimizer nobody knows',
      'config-invalid',
      { hyperparameters: { epochs: 1, batchSize: 1, learningRate: 1, optimizer: 'adma' as 'adam' } },
      /adma/,
    ],
    [
      'a batch size of half an item',
      'config-invalid',
      { hyperparameters: { epochs: 1, batchSize: 0.5, learningRate: 1, optimizer: 'adam' } },
      /batchSize is 0.5/,
    ],
  ];
  it.each(failing)('%s is a user error (%s)', (_, code, change, message) =>
    inFolder(async (output) => {
      const before = opened.tf.memory().numTensors;
      await expect(finish(trainer, smallJob(output, change))).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
      });
      if (code === 'training-failed') expect(opened.tf.memory().numTensors).toBe(before);
    }),
  );
});

describe('checkpoints', () => {
  it('of another job, or with damaged bytes, are refused by name', () =>
    inFolder(async (output) => {
      await finish(trainer, smallJob(output));
      const resume = (await latestCheckpoint(output))!;
      await expect(finish(trainer, smallJob(output, { resume, seed: 8 }))).rejects.toMatchObject({
        code: 'input-missing',
      });
      await expect(
        finish(
          trainer,
          smallJob(output, {
            resume,
            build: (tf, hp, shape) => {
              const model = perceptron.build(tf, hp, shape) as ReturnType<typeof tf.sequential>;
              model.add(tf.layers.dense({ units: 3, activation: 'softmax' }));
              return model;
            },
          }),
        ),
      ).rejects.toMatchObject({ code: 'code-invalid' });
      const file = join(resume, 'weights.bin');
      const bytes = await readFile(file);
      bytes[5]! ^= 1;
      await writeFile(file, bytes);
      await expect(finish(trainer, smallJob(output, { resume }))).rejects.toMatchObject({
        code: 'artifact-corrupt',
        message: expect.stringContaining('weights.bin'),
      });
    }));

  it('of a finished job finish it again with the same bytes, and only the newest two are kept', () =>
    inFolder(async (output) => {
      await finish(trainer, smallJob(output));
      const first = await modelDigest(output);
      const resume = (await latestCheckpoint(output))!;
      expect(resume.endsWith('step-000000021')).toBe(true);
      await stat(join(output, 'checkpoints', 'step-000000014'));
      await expect(stat(join(output, 'checkpoints', 'step-000000007'))).rejects.toThrow('ENOENT');
      expect(last(await finish(trainer, smallJob(output, { resume })))).toMatchObject({
        kind: 'done',
        step: 21,
      });
      expect(await modelDigest(output)).toBe(first);
    }));
});

describe('early stopping', () => {
  it('ends after patience epochs without gain and keeps the weights of the best epoch', () =>
    inFolder(async (output) => {
      const train = stripes(60, [6, 6, 1], 3, 1);
      // Labels that have nothing to do with the items: the better the training, the worse the validation.
      const validation = { ...stripes(60, [6, 6, 1], 3, 5), y: stripes(60, [6, 6, 1], 3, 9).y };
      const job = smallJob(output, {
        data: { train, validation },
        hyperparameters: {
          epochs: 50,
          batchSize: 8,
          learningRate: 0.02,
          optimizer: 'adam',
          earlyStopping: { patience: 2, minDelta: 0 },
        },
      });
      const events = await finish(trainer, job);
      const done = last(events);
      if (done.kind !== 'done') throw new Error('it did not end');
      expect(done).toMatchObject({ stoppedEarly: true, epoch: done.bestEpoch! + 2 });
      const losses = events.flatMap((event) =>
        event.kind === 'epoch' ? [event.metrics.validationLoss!] : [],
      );
      expect(done.metrics.validationLoss).toBe(Math.min(...losses));
      const model = await loadModel(opened.tf, done.model);
      expect(evaluateModel(opened.tf, model, scaled, validation).loss).toBe(Math.min(...losses));
    }));
});

describe('a model with convolutions', () => {
  it('trains with wasm: LeNet-5 learns stripes', () =>
    inFolder(async (output) => {
      const job: TrainJob = {
        ...lenet,
        data: { train: stripes(200, [28, 28, 1], 10, 1), validation: stripes(50, [28, 28, 1], 10, 2) },
        hyperparameters: { epochs: 7, batchSize: 20, learningRate: 0.003, optimizer: 'adam' },
        seed: 1,
        resume: null,
        output,
      };
      const done = last(await finish(trainer, job));
      if (done.kind !== 'done') throw new Error('it did not end');
      expect(done.metrics.validationAccuracy).toBeGreaterThan(0.9);
    }));

  it('gives probabilities from logits just as from softmax', async () => {
    const { tf } = opened;
    const data = stripes(9, [6, 6, 1], 3);
    const head = (activation: 'softmax' | 'linear') =>
      tf.sequential({
        layers: [
          tf.layers.flatten({ inputShape: [6, 6, 1] }),
          tf.layers.dense({
            units: 3,
            activation,
            kernelInitializer: tf.initializers.glorotUniform({ seed: 3 }),
          }),
        ],
      });
    const soft = predict(tf, head('softmax'), scaled, data, 4);
    const logits = predict(tf, head('linear'), scaled, data, 9);
    expect(soft.length).toBe(27);
    soft.forEach((p, k) => {
      expect(p).toBeCloseTo(logits[k]!, 6);
    });
  });
});
