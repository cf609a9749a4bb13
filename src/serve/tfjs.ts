import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { type Encoder, holdsCode, openEncoder, readState, stateFile } from '../model/encoder.ts';
import { openOnnx } from '../model/onnx.ts';
import { openTfjs } from '../model/tfjs.ts';
import type { ModelCode } from '../train/types.ts';
import { type Batcher, openBatcher } from './batcher.ts';
import { readPackageManifest } from './package.ts';
import { badRequest } from './request-error.ts';
import { elements } from './tensor.ts';
import type { Servable, Tensor, TensorSpec } from './types.ts';

/** Rows computed in one go: enough to fill the vector units, few enough to keep answering meanwhile. */
const maxRows = 64;

/**
 * Opens a package. With the runtime `onnx` it is `model.onnx`, which takes the items as they are, or as `encode` (of its code, or of
 * `cdl.yaml`) makes them of raw ones; with the runtime `tfjs`: `model.json`, `weights.bin`, and `code.mjs` whose `preprocess` is the one of
 * training, as is its `encode` for items that come as strings. Raw items go in, `probabilities` FP32 [N, classes] and `label` BYTES [N] come out.
 *
 * The model has answered once before this returns, so that the first request is not the slow one. Throws a UserError:
 * artifact-corrupt or artifact-missing for the files, code-invalid for code that does not load or answer.
 */
export async function openServable(
  folder: string,
  identity: { package: Digest; version: string },
): Promise<Servable> {
  const manifest = await readPackageManifest(folder);
  const { signature } = manifest;
  const input = signature.inputs[0]!;
  const isRaw = input.datatype === 'BYTES';
  const encode = (await readState(folder))?.encode;
  const code = holdsCode(manifest.runtime, isRaw, encode) ? await loadCode(folder) : {};
  const encoder = await openEncoder(folder, code);
  if (signature.inputs.length !== 1 || isRaw !== (encoder !== null)) {
    throw new UserError(
      'artifact-corrupt',
      `package ${folder}: a package has one input, of numbers, or of BYTES with a ${stateFile}`,
    );
  }
  const classes = signature.classes;
  const shape = encoder ? encoder.shape : input.shape.slice(1);
  const itemSize = elements(shape);
  const isByte = encoder ? encoder.type === 'uint8' : input.datatype === 'UINT8' || input.datatype === 'BOOL';
  const allocate = (length: number) => (isByte ? new Uint8Array(length) : new Float32Array(length));

  const predictor = manifest.runtime === 'onnx' ? await openOnnx(folder) : await openTfjs(folder, code);
  const batcher = openBatcher({
    itemSize,
    width: classes.length,
    maxRows,
    allocate,
    compute: (x) => predictor.predict(x, shape),
  });

  const rowsOf = (tensor: Tensor): Uint8Array | Float32Array => {
    if (tensor.datatype === input.datatype) {
      if (tensor.data instanceof Uint8Array || tensor.data instanceof Float32Array) return tensor.data;
    }
    if (Array.isArray(tensor.data)) throw badRequest(`input "${input.name}" takes numbers, not BYTES`);
    // Another number type is welcome as long as nothing is lost: raw items stay raw.
    const out = allocate(tensor.data.length);
    for (let index = 0; index < out.length; index++) {
      const value = tensor.data[index]!;
      out[index] = value;
      if (isByte && out[index] !== value) {
        throw badRequest(
          `input "${input.name}" element ${index} is ${value}; this model takes raw items of ${input.datatype}`,
        );
      }
    }
    return out;
  };

  const infer = async (inputs: Tensor[]): Promise<Tensor[]> => {
    const [tensor] = inputs;
    if (!tensor) throw badRequest(`input "${input.name}" is missing`);
    const probabilities =
      encoder && Array.isArray(tensor.data)
        ? await encoded(tensor.data, encoder, input, batcher, classes.length)
        : await batcher.run(rowsOf(tensor));
    const count = probabilities.length / classes.length;
    return [
      { name: 'probabilities', datatype: 'FP32', shape: [count, classes.length], data: probabilities },
      { name: 'label', datatype: 'BYTES', shape: [count], data: labelsOf(probabilities, classes) },
    ];
  };

  try {
    // Not through encode: nobody knows an item that any model would take.
    await batcher.run(allocate(itemSize));
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new UserError('code-invalid', `package ${folder} does not answer: ${why}`, undefined, { cause });
  }
  return {
    info: { model: manifest.model, version: identity.version, package: identity.package, signature },
    runtime: manifest.runtime,
    infer,
    dispose() {
      batcher.close();
      predictor.dispose();
    },
  };
}

/** Longest time that encoding keeps other requests and health checks waiting, in milliseconds. */
const longestTurn = 8;

/**
 * Encodes strings and has them answered, a batch at a time: neither the event loop nor the memory is taken by one large
 * request. Throws RequestError 400 for an item that the model's own code refuses.
 */
async function encoded(
  items: readonly string[],
  encoder: Encoder,
  input: TensorSpec,
  batcher: Batcher,
  width: number,
): Promise<Float32Array> {
  const rows = new Float32Array(items.length * width);
  const size = elements(encoder.shape);
  for (let from = 0; from < items.length; from += maxRows) {
    const to = Math.min(items.length, from + maxRows);
    const batch = new (encoder.type === 'uint8' ? Uint8Array : Float32Array)((to - from) * size);
    let since = performance.now();
    for (let index = from; index < to; index++) {
      try {
        batch.set(await encoder.encode([bytesOf(items[index]!, input)]), (index - from) * size);
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        throw badRequest(`input "${input.name}" element ${index}: ${error.message}`);
      }
      if (performance.now() - since > longestTurn) {
        await setImmediate();
        since = performance.now();
      }
    }
    rows.set(await batcher.run(batch), from * width);
  }
  return rows;
}

/** The bytes of a raw item as they would lie in a data set. */
function bytesOf(text: string, { parameters }: TensorSpec): Uint8Array {
  return Buffer.from(text, parameters?.content_type === 'base64' ? 'base64' : 'utf8');
}

async function loadCode(folder: string): Promise<Partial<ModelCode>> {
  const path = join(folder, 'code.mjs');
  try {
    return (await import(/* @vite-ignore */ pathToFileURL(path).href)) as Partial<ModelCode>;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new UserError('code-invalid', `${path} does not load: ${why}`, undefined, { cause });
  }
}

/** The name of the likeliest class of each row; the first of equals. */
function labelsOf(rows: Float32Array, classes: readonly string[]): string[] {
  const labels: string[] = [];
  for (let start = 0; start < rows.length; start += classes.length) {
    let best = 0;
    for (let index = 1; index < classes.length; index++) {
      if (rows[start + index]! > rows[start + best]!) best = index;
    }
    labels.push(classes[best]!);
  }
  return labels;
}
