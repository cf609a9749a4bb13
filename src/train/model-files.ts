import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { canonicalJson } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { LayersModel, Tensor, Tf } from './types.ts';

type Dtype = 'float32' | 'int32' | 'bool';
type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

interface WeightSpec {
  name: string;
  shape: number[];
  dtype: Dtype;
}

/** The two files of a model, in the layers format of TensorFlow.js, which any version of it loads. */
export interface ModelFiles {
  'model.json': Uint8Array;
  'weights.bin': Uint8Array;
}

const className = /^[A-Za-z][A-Za-z0-9]*$/;

/**
 * New names for the layers that were named by counting.
 *
 * tfjs-layers counts layers per process, so the same model built twice is `dense_Dense1`, then `dense_Dense2`. Names of
 * that kind are numbered again from 1 per class, in the order of the topology; names people gave stay.
 */
function canonicalNames(topology: Json): Map<string, string> {
  const names = new Map<string, string>();
  const counts = new Map<string, number>();
  const visit = (value: Json): void => {
    if (value === null || typeof value !== 'object') return;
    if (Array.isArray(value)) {
      value.forEach(visit);
      return;
    }
    const { class_name: kind, config } = value;
    const name = config && typeof config === 'object' && !Array.isArray(config) ? config.name : null;
    if (typeof kind === 'string' && className.test(kind) && typeof name === 'string' && !names.has(name)) {
      const counted =
        kind === 'InputLayer'
          ? /^(input)\d+$/
          : new RegExp(`^([a-z0-9_]+_${kind}|sequential_|model|container)\\d+$`);
      const prefix = counted.exec(name)?.[1];
      if (prefix) {
        const next = (counts.get(prefix) ?? 0) + 1;
        counts.set(prefix, next);
        names.set(name, `${prefix}${next}`);
      }
    }
    Object.values(value).forEach(visit);
  };
  visit(topology);
  for (const [old, fresh] of [...names]) names.set(`${old}_input`, `${fresh}_input`);
  return names;
}

function renamed(value: Json, names: Map<string, string>): Json {
  if (typeof value === 'string') return names.get(value) ?? value;
  if (Array.isArray(value)) return value.map((each) => renamed(each, names));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, renamed(each, names)]));
}

/** The bytes of a tensor as stored, little-endian. */
function tensorBytes(tensor: Tensor): Uint8Array {
  const values = tensor.dataSync();
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** What the weights of a model are called in its files, in the order of `model.weights`. */
export function weightNames(model: LayersModel): string[] {
  return namesIn(model, canonicalNames(model.toJSON(null, false) as unknown as Json));
}

const namesIn = (model: LayersModel, names: Map<string, string>): string[] =>
  model.weights.map((weight) =>
    weight.originalName
      .split('/')
      .map((part) => names.get(part) ?? part)
      .join('/'),
  );

/**
 * A model as bytes: the same topology and weights always give the same bytes (no times, versions or process counters).
 *
 * `weights.bin` holds the tensors of `model.weights` in order, little-endian, without gaps; `model.json` describes them.
 */
export function encodeModel(model: LayersModel): ModelFiles {
  const topology = model.toJSON(null, false) as unknown as Json;
  const names = canonicalNames(topology);
  const tensors = model.weights.map((weight) => weight.read());
  const specs: WeightSpec[] = namesIn(model, names).map((name, index) => ({
    name,
    shape: tensors[index]!.shape,
    dtype: tensors[index]!.dtype as Dtype,
  }));
  const json = {
    format: 'layers-model',
    generatedBy: 'cdl',
    convertedBy: null,
    modelTopology: renamed(topology, names),
    weightsManifest: [{ paths: ['weights.bin'], weights: specs }],
  };
  return {
    'model.json': Buffer.from(canonicalJson(json)),
    'weights.bin': Buffer.concat(tensors.map(tensorBytes)),
  };
}

/**
 * Loads the model in `folder` (`model.json`, `weights.bin`), bit for bit as it was saved.
 *
 * Throws a UserError: artifact-missing when a file is absent, artifact-corrupt when they do not make a model.
 */
export async function loadModel(tf: Tf, folder: string): Promise<LayersModel> {
  const [text, weights] = await Promise.all([
    readPart(folder, 'model.json'),
    readPart(folder, 'weights.bin'),
  ]);
  try {
    const json = JSON.parse(text.toString('utf8')) as {
      modelTopology: object;
      weightsManifest: { weights: WeightSpec[] }[];
    };
    const weightSpecs = json.weightsManifest.flatMap((group) => group.weights);
    const expected = weightSpecs.reduce((sum, spec) => sum + byteLength(spec), 0);
    if (expected !== weights.length)
      throw new Error(`weights.bin has ${weights.length} bytes, not ${expected}`);
    const weightData = new Uint8Array(weights).buffer;
    return await tf.loadLayersModel(
      tf.io.fromMemory({ modelTopology: json.modelTopology, weightSpecs, weightData }),
    );
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new UserError('artifact-corrupt', `${folder} holds no loadable model: ${why}`, undefined, {
      cause,
    });
  }
}

function byteLength(spec: WeightSpec): number {
  return spec.shape.reduce((product, size) => product * size, spec.dtype === 'bool' ? 1 : 4);
}

/** Reads a file of a model or checkpoint. Throws a UserError (artifact-missing) when it is not there. */
export async function readPart(folder: string, file: string): Promise<Buffer> {
  try {
    return await readFile(join(folder, file));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
    throw new UserError('artifact-missing', `${join(folder, file)} does not exist`, undefined, { cause });
  }
}

/**
 * Writes a folder so that it is either absent (or as before) or complete, also after a power cut: the files go to a
 * neighbour that is renamed when they are on disk. Only a replacement of an existing folder has a moment without it.
 */
export async function writeFolder(folder: string, files: Record<string, Uint8Array>): Promise<void> {
  const parent = dirname(folder);
  const fresh = join(parent, `.${basename(folder)}.${process.pid}.new`);
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });
  for (const [name, bytes] of Object.entries(files)) {
    const file = await open(join(fresh, name), 'w');
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
  }
  await rm(folder, { recursive: true, force: true });
  await rename(fresh, folder);
  const entry = await open(parent, 'r');
  await entry.sync().finally(() => entry.close());
}
