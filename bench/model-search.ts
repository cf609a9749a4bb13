// Trains configurations of the search that bench/model.ts replays, as a process of its own: `node model-search.js DATA CODE POOL FIRST STRIDE`.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { TuneConfig } from '../src/core/project-tune.ts';
import { openDataset } from '../src/data/dataset.ts';
import { hyperparametersOf } from '../src/steps/hyperparameters.ts';
import { openTf } from '../src/train/backend.ts';
import { createTfjsTrainer } from '../src/train/tfjs.ts';
import { pointOf } from '../src/train/tuning.ts';
import type { ModelCode, TrainData } from '../src/train/types.ts';
import { pools, searchItems, validationItems } from './model-pool.ts';

/** The part of the data that the configurations train on; the items are in the order of their hashes. */
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
  return { train: part(0, searchItems), validation: part(searchItems, validationItems) };
}

/** Prints, a line each, the validation accuracies after every epoch of every `stride`-th configuration of a pool from `first` on. */
async function main(
  data: string,
  code: string,
  searched: TuneConfig,
  first: number,
  stride: number,
): Promise<void> {
  const trainer = createTfjsTrainer(await openTf({ prefer: 'wasm' }));
  const model = (await import(pathToFileURL(code).href)) as ModelCode;
  const parts = await subset(data);
  const scratch = await mkdtemp(join(tmpdir(), 'cdl-bench-search-'));
  try {
    for (let id = first; id < searched.trials; id += stride) {
      const accuracies: number[] = [];
      const training = {
        ...model,
        data: parts,
        hyperparameters: hyperparametersOf({
          architecture: 'mlp',
          ...pointOf(searched, id, []),
          epochs: searched.max_epochs,
        }),
        seed: 7,
        resume: null,
        output: join(scratch, String(id)),
      };
      for await (const event of trainer.train(training, new AbortController().signal)) {
        if (event.kind === 'epoch') accuracies.push(event.metrics.validationAccuracy!);
      }
      process.stdout.write(`${JSON.stringify({ id, accuracies })}\n`);
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

const [data, code, name, first, stride] = process.argv.slice(2);
await main(data!, code!, pools[name as keyof typeof pools], Number(first), Number(stride));
process.exit();
