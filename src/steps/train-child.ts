import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { describeError, UserError } from '../core/error.ts';
import { openDataset, splitValidation } from '../data/dataset.ts';
import { openTf } from '../train/backend.ts';
import { createTfjsTrainer } from '../train/tfjs.ts';
import type { ModelCode, TrainData } from '../train/types.ts';
import type { ChildJob, ChildMessage } from './train-job.ts';

/** The training process: it has the data, the bundled code and nothing else of the job that started it. */
async function main(path: string): Promise<void> {
  const out = createWriteStream('', { fd: 3 });
  const tell = (message: ChildMessage) => out.write(`${JSON.stringify(message)}\n`);
  const stop = new AbortController();
  process.on('SIGTERM', () => stop.abort());
  try {
    const job = JSON.parse(await readFile(path, 'utf8')) as ChildJob;
    const dataset = await openDataset(job.data);
    const { train, validation } = splitValidation(dataset, job.validation.share, job.validation.key);
    const opened = await openTf();
    const code = (await import(pathToFileURL(job.code).href)) as Partial<ModelCode>;
    const { build, preprocess } = code;
    if (typeof build !== 'function' || typeof preprocess !== 'function') {
      throw new UserError('code-invalid', 'the entry module must export the functions build and preprocess');
    }
    tell({
      kind: 'start',
      backend: opened.backend,
      train: train.count,
      validation: validation.count,
      versions: { node: process.version, tfjs: String(opened.tf.version_core) },
    });
    const events = createTfjsTrainer(opened).train(
      {
        data: { train: train as TrainData, validation: validation as TrainData },
        build,
        preprocess,
        hyperparameters: job.hyperparameters,
        seed: job.seed,
        pretrained: job.pretrained,
        resume: job.resume,
        output: job.output,
      },
      stop.signal,
    );
    for await (const event of events) tell({ kind: 'event', event });
  } catch (error) {
    const { code, message, hint } = describeError(error);
    tell({ kind: 'error', code, message, hint: hint ?? '' });
    process.exitCode = 1;
  }
  await new Promise<void>((done) => out.end(done));
}

await main(process.argv[2]!);
process.exit();
