/**
 * The process in which a package's own code runs: it predicts what the parent asks for and writes all probabilities to one
 * file. It is started by `predict.ts` with an empty environment, and has neither labels nor credentials nor a network.
 */
import { existsSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { UserError } from '../core/error.ts';
import { parseIdx } from '../data/idx.ts';
import type { ItemArray } from '../data/npy.ts';
import { openPacked } from '../data/packed.ts';
import type { ModelCode } from '../train/types.ts';
import type { ChildReply, ChildRequest, ChildTask } from './child-protocol.ts';
import { decodesPictures, openEncoder } from './encoder.ts';
import { isOnnx, openOnnx } from './onnx.ts';
import type { Predictor } from './predictor.ts';
import { openTfjs } from './tfjs.ts';

/** Items predicted in one go: a whole number of the batches `predict` makes, few enough to hold their numbers. */
const atOnce = 1024;

// Taken before foreign code is loaded.
const send = process.send?.bind(process);

function reply(message: ChildReply): Promise<void> {
  return new Promise((resolve) => {
    if (send) send(message, undefined, undefined, () => resolve());
    else resolve();
  });
}

/** The items of the task as the model code's `preprocess` takes them. */
interface Source {
  count: number;
  shape: number[];
  read(from: number, to: number): Promise<ItemArray>;
}

async function openSource(task: ChildTask, code: Partial<ModelCode>): Promise<Source> {
  const encoder = await openEncoder(task.package, code);
  if (encoder) {
    const packed = await openPacked(task.items);
    return {
      count: packed.count,
      shape: encoder.shape,
      read: async (from, to) => encoder.encode(await packed.read(from, to)),
    };
  }
  const { dims, data } = parseIdx(await readFile(task.items), 'images.idx');
  const [count, ...shape] = dims;
  const size = shape.reduce((product, dim) => product * dim, 1);
  return { count: count!, shape, read: async (from, to) => data.subarray(from * size, to * size) };
}

/** From here on nobody loads native code: the runtime of ONNX and the decoder of pictures alone are trusted, and are here by now. */
function sealNativeCode(): void {
  Object.defineProperty(process, 'dlopen', {
    value: () => {
      throw new Error('native code is not available to model code');
    },
    writable: false,
    configurable: false,
  });
}

async function openModel(folder: string): Promise<{ predictor: Predictor; code: Partial<ModelCode> }> {
  const path = join(folder, 'code.mjs');
  const load = async () => (await import(pathToFileURL(path).href)) as Partial<ModelCode>;
  const pictures = await decodesPictures(folder);
  if (pictures) await import('sharp');
  if (!isOnnx(folder)) {
    if (pictures) sealNativeCode();
    const code = await load();
    return { predictor: await openTfjs(folder, code), code };
  }
  // Before any foreign code.
  const predictor = await openOnnx(folder);
  sealNativeCode();
  return { predictor, code: existsSync(path) ? await load() : {} };
}

async function main(task: ChildTask): Promise<void> {
  const { predictor, code } = await openModel(task.package);
  const { backend } = predictor;
  const { count, shape, read } = await openSource(task, code);
  const rowsOf = async (from: number, to: number) => predictor.predict(await read(from, to), shape);
  // The first prediction also compiles; it would be measured as the model's latency.
  if (count > 0) await rowsOf(0, 1);
  await reply({ kind: 'ready', backend, count });
  await new Promise<void>((resolve, reject) => {
    const answer = async (message: ChildRequest) => {
      if (message.kind === 'one') {
        const row = [...(await rowsOf(message.index, message.index + 1))];
        await reply({ kind: 'one', index: message.index, row });
        return;
      }
      const file = await open(task.out, 'w');
      for (let from = 0; from < count; from += atOnce) {
        const rows = await rowsOf(from, Math.min(count, from + atOnce));
        await file.write(new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength));
      }
      await file.close();
      resolve();
    };
    process.on('message', (message: ChildRequest) => void answer(message).catch(reject));
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
