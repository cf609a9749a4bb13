// One seed of the searches that bench/model.ts compares, as a process of its own: `node model-search.js DATA CODE SEED`.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type TuneConfig, tuneSchema } from '../src/core/project-tune.ts';
import { openDataset } from '../src/data/dataset.ts';
import { hyperparametersOf } from '../src/steps/hyperparameters.ts';
import { decide, rungs, type TrialState } from '../src/train/asha.ts';
import { openTf } from '../src/train/backend.ts';
import { createTfjsTrainer } from '../src/train/tfjs.ts';
import { pointOf, settingsOf } from '../src/train/tuning.ts';
import type { ModelCode, TrainData, TrainEvent } from '../src/train/types.ts';

/** What a search came to: after each epoch the samples trained so far, and the best validation accuracy. */
export type Searched = [samples: number, best: number][];

/** Of the fashion example, so small that five seeds take minutes. */
const [items, validationItems] = [5000, 4000];
/** Configurations that either search may try. */
const most = 24;

/** The part of the data that both searches train on; the items are in the order of their hashes. */
async function subset(folder: string): Promise<{ train: TrainData; validation: TrainData }> {
  const all = await openDataset(folder);
  const size = all.shape.reduce((a, b) => a * b, 1);
  const part = (from: number, count: number): TrainData => ({
    x: all.x.slice(from * size, (from + count) * size) as Uint8Array,
    y: Uint8Array.from(all.y.slice(from, from + count)),
    shape: all.shape,
    classes: all.classes,
    count,
  });
  return { train: part(0, items), validation: part(items, validationItems) };
}

async function main(data: string, code: string, seed: number, target: number): Promise<void> {
  const trainer = createTfjsTrainer(await openTf({ prefer: 'wasm' }));
  const model = (await import(pathToFileURL(code).href)) as ModelCode;
  const parts = await subset(data);
  const tune = tuneSchema.parse({
    space: {
      hidden: { int: [32, 256], log: true },
      learning_rate: { log: [0.0003, 0.03] },
      batch_size: { choice: [64, 128, 256, 512] },
      optimizer: { choice: ['adam', 'momentum', 'rmsprop'] },
    },
    metric: 'validation_accuracy',
    max_epochs: 27,
    trials: most,
    seed,
  });
  const scratch = await mkdtemp(join(tmpdir(), 'cdl-bench-search-'));
  // Both searches try the same configurations in the same order, so each is trained once, as far as either wants it.
  const trainings = new Map<number, { events: AsyncIterator<TrainEvent>; accuracies: number[] }>();
  const accuracyAt = async (id: number, epoch: number): Promise<number> => {
    const known = trainings.get(id) ?? { events: begin(id), accuracies: [] };
    trainings.set(id, known);
    while (known.accuracies.length < epoch) {
      const { value, done } = await known.events.next();
      if (done) throw new Error('the training ended early');
      if (value.kind === 'epoch') known.accuracies.push(value.metrics.validationAccuracy!);
    }
    return known.accuracies[epoch - 1]!;
  };
  const begin = (id: number) =>
    trainer
      .train(
        {
          ...model,
          data: parts,
          hyperparameters: hyperparametersOf({
            architecture: 'mlp',
            ...pointOf(tune, id, []),
            epochs: tune.max_epochs,
          }),
          seed: 7,
          resume: null,
          output: join(scratch, String(id)),
        },
        new AbortController().signal,
      )
      [Symbol.asyncIterator]();
  try {
    const random = await search(async (train) => {
      for (let id = 0; id < most; id++) {
        for (let epoch = 1; epoch <= tune.max_epochs; epoch++) if (await train(id, epoch)) return;
      }
    });
    const asha = await search((train) => halving(tune, train));
    process.stdout.write(`${JSON.stringify({ asha, random })}\n`);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }

  /** Has a search train; `train` says of one more epoch whether it met the target. */
  async function search(
    go: (train: (id: number, epoch: number) => Promise<boolean>) => Promise<void>,
  ): Promise<Searched> {
    let samples = 0;
    let best = 0;
    const curve: [number, number][] = [];
    await go(async (id, epoch) => {
      samples += items;
      best = Math.max(best, await accuracyAt(id, epoch));
      curve.push([samples, best]);
      return best >= target;
    });
    return curve;
  }

  /** Asynchronous successive halving by one worker, as `cdl tune` decides. */
  async function halving(
    config: TuneConfig,
    train: (id: number, epoch: number) => Promise<boolean>,
  ): Promise<void> {
    const settings = settingsOf(config);
    const levels = rungs(settings);
    const trials: (TrialState & { losses: number[] })[] = [];
    for (;;) {
      const next = decide(trials, settings);
      if (next.kind === 'new' && trials.length === most) return;
      if (next.kind === 'new') trials.push({ id: trials.length, losses: [], state: 'waiting' });
      const trial = next.kind === 'new' ? trials.at(-1)! : trials[next.trial]!;
      const rung = trial.losses.length;
      for (let epoch = (levels[rung - 1] ?? 0) + 1; epoch <= levels[rung]!; epoch++) {
        if (await train(trial.id, epoch)) return;
      }
      trial.losses.push(1 - (await accuracyAt(trial.id, levels[rung]!)));
    }
  }
}

const [data, code, seed, target] = process.argv.slice(2);
await main(data!, code!, Number(seed), Number(target));
process.exit();
