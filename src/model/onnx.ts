import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { InferenceSession } from 'onnxruntime-node';
import { UserError } from '../core/error.ts';
import type { ItemArray } from '../data/npy.ts';
import { softmaxRows } from '../train/loss.ts';
import type { Predictor } from './predictor.ts';

/** The model's file in a package of the runtime `onnx`. */
export const onnxFile = 'model.onnx';

/** Whether a package is run by ONNX Runtime: then it needs native code, and `preprocess` of its code is not asked. */
export const isOnnx = (folder: string): boolean => existsSync(join(folder, onnxFile));

/** Items computed in one go. */
const atOnce = 256;

/** ONNX Runtime, an optional peer of ours: several hundred megabytes that only those who serve ONNX want. */
async function loadRuntime(): Promise<typeof import('onnxruntime-node')> {
  try {
    return await import('onnxruntime-node');
  } catch (cause) {
    throw new UserError(
      'not-available',
      'this model is ONNX, and onnxruntime-node is not installed here or does not load',
      'npm install onnxruntime-node (its install script is not needed for the CPU)',
      { cause },
    );
  }
}

/**
 * Opens `model.onnx` of a package: one input `[N, …shape]` (float32 or uint8), and one output of float32 `[N, classes]` that is
 * called `probabilities`, or `logits`, which a softmax follows here. All weights are in the file: it is given as bytes, so that
 * it can name no other. One thread, so that the same items give the same numbers. Throws UserError not-available without the
 * runtime, artifact-missing, artifact-corrupt for what is no model, code-invalid for one of another shape.
 */
export async function openOnnx(folder: string): Promise<Predictor> {
  const path = join(folder, onnxFile);
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new UserError('artifact-missing', `${path}: ${cause.code}`, undefined, { cause });
  });
  const { InferenceSession, Tensor } = await loadRuntime();
  const session = await InferenceSession.create(new Uint8Array(bytes), {
    executionProviders: ['cpu'],
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    logSeverityLevel: 4,
  }).catch((cause: unknown) => {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new UserError('artifact-corrupt', `${path} is not a model: ${why}`, undefined, { cause });
  });
  const { input, type, output, isLogits } = describe(session);

  const some = async (x: ItemArray, shape: readonly number[], count: number): Promise<Float32Array> => {
    const dims = [count, ...shape];
    const tensor =
      type === 'uint8'
        ? new Tensor('uint8', asBytes(x), dims)
        : new Tensor('float32', x instanceof Float32Array ? x : Float32Array.from(x), dims);
    const made = (await session.run({ [input]: tensor }, [output]))[output]!;
    const { data, dims: shapeOut } = made;
    if (!(data instanceof Float32Array) || shapeOut.length !== 2 || shapeOut[0] !== count) {
      throw bad(`answers ${made.type} [${shapeOut}] for ${count} items, not float32 [${count}, classes]`);
    }
    return data;
  };

  return {
    backend: 'onnxruntime',
    async predict(x, shape) {
      const size = shape.reduce((product, dim) => product * dim, 1);
      const count = x.length / size;
      const parts: Float32Array[] = [];
      for (let from = 0; from < count; from += atOnce) {
        const to = Math.min(count, from + atOnce);
        parts.push(
          await some(x.subarray(from * size, to * size), shape, to - from).catch((cause: unknown) => {
            if (cause instanceof UserError) throw cause;
            throw bad(`failed: ${cause instanceof Error ? cause.message : String(cause)}`);
          }),
        );
      }
      const rows = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
      let at = 0;
      for (const part of parts) {
        rows.set(part, at);
        at += part.length;
      }
      return isLogits ? softmaxRows(rows, rows.length / count) : rows;
    },
    dispose: () => void session.release().catch(() => undefined),
  };
}

/**
 * Tries `model.onnx` of a package with two items of nothing but zeros: whether it takes items of this shape and answers each with a
 * number for every class. False where ONNX Runtime is not installed, so that nothing was tried. Throws UserError artifact-corrupt
 * for what is no model, code-invalid for one that fits other items or other classes.
 */
export async function tryOnnx(
  folder: string,
  items: { type: 'uint8' | 'float32'; shape: readonly number[]; classes: number },
): Promise<boolean> {
  const { type, shape, classes } = items;
  const opened = await openOnnx(folder).catch((error: unknown) => {
    if (error instanceof UserError && error.code === 'not-available') return null;
    throw error;
  });
  if (!opened) return false;
  try {
    const size = 2 * shape.reduce((product, dim) => product * dim, 1);
    const x = type === 'uint8' ? new Uint8Array(size) : new Float32Array(size);
    const columns = (await opened.predict(x, [...shape])).length / 2;
    if (columns !== classes)
      throw bad(`answers with ${columns} numbers an item, and there are ${classes} classes`);
    return true;
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const hint = `the items are ${type} [N${shape.map((dim) => `, ${dim}`).join('')}], the answers must be [N, ${classes}]: export the model with these, N left open`;
    throw new UserError(error.code, error.message, hint, { cause: error });
  } finally {
    opened.dispose();
  }
}

const bad = (what: string) => new UserError('code-invalid', `${onnxFile} ${what}`);

function asBytes(x: ItemArray): Uint8Array {
  if (x instanceof Uint8Array) return x;
  throw bad('takes uint8, and the items are float32');
}

function describe(session: InferenceSession) {
  const [only, ...more] = session.inputMetadata;
  if (!only?.isTensor || more.length > 0) throw bad('must have one input, a tensor');
  if (only.type !== 'float32' && only.type !== 'uint8') {
    throw bad(`takes ${only.type}; its input must be float32 or uint8`);
  }
  const output = session.outputNames.find((name) => name === 'probabilities' || name === 'logits');
  if (output === undefined) {
    throw bad(
      `has the outputs ${session.outputNames.join(', ')}; one must be called "probabilities" or "logits"`,
    );
  }
  return { input: only.name, type: only.type, output, isLogits: output === 'logits' };
}
