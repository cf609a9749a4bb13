import type { Dirent } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { canonicalJson, type Digest, digestBytes } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { encodeModel, readPart, writeFolder } from './model-files.ts';
import type { OptimizerState } from './optimizer.ts';
import type { LayersModel, Tensor, Tf } from './types.ts';

const metrics = z.record(z.string(), z.number());

/** Where a training stands. Randomness needs no entry: it is derived from seed, epoch and step. */
export const progressSchema = z.strictObject({
  /** Epochs that are complete. */
  epoch: z.int().nonnegative(),
  /** Batches done in the epoch that is not. */
  batch: z.int().nonnegative(),
  /** Steps done in all. */
  step: z.int().nonnegative(),
  /** Sums over the items of the epoch that is not complete. */
  running: z.strictObject({ loss: z.number(), correct: z.int(), seen: z.int() }),
  /** Metrics of the last complete epoch. */
  last: metrics,
  /** The epoch whose weights are kept by early stopping, and how many epochs ago that was. */
  best: z.strictObject({ epoch: z.int(), loss: z.number(), metrics, waited: z.int() }).nullable(),
  /** Whether early stopping ended it. */
  stopped: z.boolean(),
});

/** See {@link progressSchema}. */
export type Progress = z.infer<typeof progressSchema>;

/** A training between two steps, besides the model itself. */
export interface TrainingState {
  progress: Progress;
  optimizer: OptimizerState;
  /** The values of `model.weights` in the best epoch; null before the first, or without early stopping. */
  bestWeights: Float32Array[] | null;
}

const fileSchema = z.strictObject({
  version: z.literal(1),
  job: z.string(),
  progress: progressSchema,
  optimizer: z.strictObject({ step: z.int().nonnegative(), slots: z.int().nonnegative() }),
  best: z.boolean(),
  files: z.strictObject({ 'model.json': z.string(), 'weights.bin': z.string(), 'state.bin': z.string() }),
});

/** How many of the newest checkpoints are kept; the one before the newest is for the case that its disk block is bad. */
const kept = 2;

/**
 * Writes `checkpoints/step-<step>` below `output`: a loadable model (`model.json`, `weights.bin`) and what it takes to
 * go on bit by bit (`state.json`, `state.bin`: optimizer slots, then the best weights, float32 little-endian).
 *
 * Atomic; checkpoints older than the two newest are removed after it. `job` is the digest of what was trained on what.
 * Returns the folder.
 */
export async function saveCheckpoint(
  output: string,
  job: Digest,
  model: LayersModel,
  state: TrainingState,
): Promise<string> {
  const files = encodeModel(model);
  const arrays = [...state.optimizer.slots.flat(), ...(state.bestWeights ?? [])];
  const bin = Buffer.concat(
    arrays.map((each) => new Uint8Array(each.buffer, each.byteOffset, each.byteLength)),
  );
  const json: z.infer<typeof fileSchema> = {
    version: 1,
    job,
    progress: state.progress,
    optimizer: { step: state.optimizer.step, slots: state.optimizer.slots[0]?.length ?? 0 },
    best: state.bestWeights !== null,
    files: {
      'model.json': digestBytes(files['model.json']),
      'weights.bin': digestBytes(files['weights.bin']),
      'state.bin': digestBytes(bin),
    },
  };
  const root = join(output, 'checkpoints');
  const folder = join(root, `step-${String(state.progress.step).padStart(9, '0')}`);
  await writeFolder(folder, { ...files, 'state.bin': bin, 'state.json': Buffer.from(canonicalJson(json)) });
  // What a killed process left half written.
  for (const name of await readdir(root)) {
    if (/^\.step-.*\.new$/.test(name)) await rm(join(root, name), { recursive: true, force: true });
  }
  const all = await listCheckpoints(output);
  for (const name of all.slice(0, -kept)) await rm(join(root, name), { recursive: true, force: true });
  return folder;
}

/** The newest complete checkpoint below `output`, to be given as `resume`; null when there is none. */
export async function latestCheckpoint(output: string): Promise<string | null> {
  const newest = (await listCheckpoints(output)).at(-1);
  return newest ? join(output, 'checkpoints', newest) : null;
}

async function listCheckpoints(output: string): Promise<string[]> {
  let entries: Dirent[];
  try {
    entries = await readdir(join(output, 'checkpoints'), { withFileTypes: true });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw cause;
  }
  return entries
    .filter((entry) => entry.isDirectory() && /^step-\d{9,}$/.test(entry.name))
    .map((entry) => entry.name)
    .sort();
}

/**
 * Puts the weights of the checkpoint in `folder` into `model` and returns the rest of its state.
 *
 * `sizes` are the element counts of the trainable variables, `slotCount` is the optimizer's. Throws a UserError:
 * artifact-missing, artifact-corrupt when a digest or length is wrong, input-missing when it is of another job
 * (other data, seed or hyperparameters, epochs excepted), code-invalid when the model has another shape.
 */
export async function loadCheckpoint(
  tf: Tf,
  folder: string,
  job: Digest,
  model: LayersModel,
  sizes: number[],
  slotCount: number,
): Promise<TrainingState> {
  const corrupt = (text: string): never => {
    throw new UserError('artifact-corrupt', `checkpoint ${folder}: ${text}`);
  };
  const json =
    parseState((await readPart(folder, 'state.json')).toString('utf8')) ?? corrupt('state.json is invalid');
  const parts: Record<string, Buffer> = {};
  for (const [name, digest] of Object.entries(json.files)) {
    const bytes = await readPart(folder, name);
    if (digestBytes(bytes) !== digest) corrupt(`${name} does not have the content state.json names`);
    parts[name] = bytes;
  }
  if (json.job !== job) {
    throw new UserError(
      'input-missing',
      `checkpoint ${folder} belongs to a training with other data, seed or hyperparameters`,
      'begin without a checkpoint, or give the one of this training',
    );
  }
  if (!encodeModel(model)['model.json'].every((byte, at) => parts['model.json']![at] === byte)) {
    throw new UserError(
      'code-invalid',
      `checkpoint ${folder} is of a model with another topology than build() makes`,
    );
  }
  writeWeights(tf, model, parts['weights.bin']!);
  const read = floatReader(parts['state.bin']!);
  const slots = sizes.map((size) => Array.from({ length: json.optimizer.slots }, () => read(size)));
  const best = json.best ? model.weights.map((weight) => read(elements(weight.shape))) : null;
  if (json.optimizer.slots !== slotCount) corrupt('its optimizer has another memory');
  return { progress: json.progress, optimizer: { step: json.optimizer.step, slots }, bestWeights: best };
}

function parseState(text: string): z.infer<typeof fileSchema> | null {
  try {
    return fileSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

function floatReader(bytes: Uint8Array): (size: number) => Float32Array {
  const floats = new Float32Array(new Uint8Array(bytes).buffer);
  let at = 0;
  return (size) => {
    at += size;
    return floats.slice(at - size, at);
  };
}

function elements(shape: readonly (number | null)[]): number {
  return shape.reduce<number>((product, size) => product * (size ?? 1), 1);
}

/** The numbers of all weights of a model, copied; int32 and bool weights are carried as floats. */
export function readWeights(model: LayersModel): Float32Array[] {
  return model.weights.map((weight) => Float32Array.from(weight.read().dataSync()));
}

/** Puts numbers read by {@link readWeights}, or the bytes of a `weights.bin`, into a model of the same shape. */
export function writeWeights(tf: Tf, model: LayersModel, values: Float32Array[] | Uint8Array): void {
  tf.tidy(() => {
    let at = 0;
    const tensors = model.weights.map((weight, index): Tensor => {
      const current = weight.read();
      const { shape, dtype, size } = current;
      if (Array.isArray(values)) return tf.tensor(values[index]!, shape, dtype as 'float32');
      const length = dtype === 'bool' ? size : size * 4;
      const { buffer } = new Uint8Array(values.subarray(at, at + length));
      at += length;
      const typed =
        dtype === 'bool'
          ? new Uint8Array(buffer)
          : dtype === 'int32'
            ? new Int32Array(buffer)
            : new Float32Array(buffer);
      return tf.tensor(typed, shape, dtype as 'float32');
    });
    model.setWeights(tensors);
  });
}
