/**
 * The process in which a package's own code runs: it predicts what the parent asks for and writes all probabilities to one
 * file. It is started by `predict.ts` with an empty environment, and has neither labels nor credentials nor a network.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { UserError } from '../core/error.ts';
import { parseIdx } from '../data/idx.ts';
import { openTf } from '../train/backend.ts';
import { loadModel } from '../train/model-files.ts';
import { predict } from '../train/predict.ts';
import type { ModelCode } from '../train/types.ts';
import type { ChildReply, ChildRequest, ChildTask } from './child-protocol.ts';

// Taken before foreign code is loaded.
const send = process.send?.bind(process);

function reply(message: ChildReply): Promise<void> {
  return new Promise((resolve) => {
    if (send) send(message, undefined, undefined, () => resolve());
    else resolve();
  });
}

async function main(task: ChildTask): Promise<void> {
  const { tf, backend } = await openTf();
  const images = parseIdx(await readFile(task.images), 'images.idx');
  const [count, ...shape] = images.dims;
  const model = await loadModel(tf, task.package);
  const code = (await import(pathToFileURL(join(task.package, 'code.mjs')).href)) as Partial<ModelCode>;
  const { preprocess } = code;
  if (typeof preprocess !== 'function') {
    throw new UserError('code-invalid', 'the model code does not export the function preprocess');
  }
  const size = shape.reduce((product, dim) => product * dim, 1);
  const one = (index: number) =>
    predict(tf, model, preprocess, { x: images.data.subarray(index * size, (index + 1) * size), shape });
  // The first prediction also compiles; it would be measured as the model's latency.
  if (count! > 0) one(0);
  await reply({ kind: 'ready', backend, count: count! });
  await new Promise<void>((resolve, reject) => {
    process.on('message', (message: ChildRequest) => {
      try {
        if (message.kind === 'one') {
          void reply({ kind: 'one', index: message.index, row: [...one(message.index)] });
          return;
        }
        const rows = predict(tf, model, preprocess, { x: images.data, shape });
        writeFile(task.out, new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength)).then(
          resolve,
          reject,
        );
      } catch (error) {
        reject(error);
      }
    });
  });
  await reply({ kind: 'done' });
}

try {
  await main(JSON.parse(process.argv[2] ?? 'null') as ChildTask);
  process.exit(0);
} catch (error) {
  const code = error instanceof UserError ? error.code : 'code-invalid';
  const message =
    error instanceof Error
      ? `${error.name === 'UserError' ? '' : `${error.name}: `}${error.message}`
      : String(error);
  await reply({ kind: 'error', code, message: message.slice(0, 4000) });
  process.exit(1);
}
