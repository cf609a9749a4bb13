import { createInterface } from 'node:readline';
import { openTf } from '../../src/train/backend.ts';
import { latestCheckpoint } from '../../src/train/checkpoint.ts';
import { createTfjsTrainer } from '../../src/train/tfjs.ts';
import { smallJob } from './fixtures.ts';

// Trains in a process of its own that can be killed: a line per event out, and after each epoch a line in to go on.
const output = process.argv[2]!;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const trainer = createTfjsTrainer(await openTf({ prefer: 'wasm' }));
const job = smallJob(output, {
  hyperparameters: {
    epochs: 6,
    batchSize: 8,
    learningRate: 0.01,
    optimizer: 'adam',
    earlyStopping: { patience: 9, minDelta: 0 },
  },
  resume: await latestCheckpoint(output),
});
for await (const event of trainer.train(job, new AbortController().signal)) {
  process.stdout.write(`${JSON.stringify(event)}\n`);
  if (event.kind === 'epoch') await lines.next();
}
process.exit(0);
