import { isUtf8 } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Artifact } from '../core/artifact.ts';
import { canonicalJson, digestBytes } from '../core/digest.ts';
import { onnxParts } from './onnx-tensors.ts';
import { type StoredTensor, tensorBytes } from './tensor-values.ts';

/** What a file of a checkpoint holds: tensors by name, and something that is equal when all else in it is. */
export interface TensorFile {
  tensors: ReadonlyMap<string, StoredTensor>;
  rest: string;
  /** Equal when what only documents it is; empty where nothing in the file is only that. */
  notes: string;
}

/** Files beyond this are compared as a whole: two of them would not fit into memory. */
const mostBytes = 2 ** 30;

const shape = z.array(z.int().nonnegative());
const safetensorsSchema = z.record(
  z.string(),
  z.strictObject({ dtype: z.string(), shape, data_offsets: z.tuple([z.int(), z.int()]) }),
);

/** A `.safetensors` file (huggingface.co/docs/safetensors, "Format"), of which each byte belongs to one tensor; null for any other. */
function safetensorsFile(bytes: Buffer): TensorFile | null {
  if (bytes.length < 8) return null;
  const length = bytes.readBigUInt64LE(0);
  if (length > BigInt(bytes.length - 8)) return null;
  const start = 8 + Number(length);
  const header = bytes.subarray(8, start);
  if (!isUtf8(header)) return null;
  const { __metadata__: metadata = null, ...described } = JSON.parse(header.toString(), (key, value) => {
    // Such a key is lost where objects are copied.
    if (key === '__proto__') throw new SyntaxError('no name of a tensor');
    return value;
  });
  const parsed = safetensorsSchema.safeParse(described);
  if (!parsed.success) return null;
  const tensors = new Map<string, StoredTensor>();
  const others: (string | number[])[][] = [];
  const data = bytes.subarray(start);
  const entries = Object.entries(parsed.data).sort(
    ([, { data_offsets: a }], [, { data_offsets: b }]) => a[0] - b[0] || a[1] - b[1],
  );
  let at = 0;
  for (const [name, { dtype, shape: dims, data_offsets: offsets }] of entries) {
    const [from, to] = offsets;
    if (from !== at || to < from || to > data.length) return null;
    at = to;
    const own = data.subarray(from, to);
    if (tensorBytes(dtype, dims) === own.length) tensors.set(name, { type: dtype, shape: dims, bytes: own });
    else others.push([name, dtype, dims, digestBytes(own)]);
  }
  return at === data.length ? { tensors, rest: canonicalJson([metadata, others.sort()]), notes: '' } : null;
}

const specSchema = z.object({ name: z.string(), shape, dtype: z.enum(['float32', 'int32', 'bool']) });
const layersSchema = z.object({
  modelTopology: z.json().default(null),
  weightsManifest: z.array(z.object({ weights: z.array(specSchema) })),
});
const layersTypes = { float32: 'F32', int32: 'I32', bool: 'BOOL' } as const;

/** A layers model of TensorFlow.js in its two files, as `encodeModel` writes it; null for what is none. */
function layersFile(json: Buffer, weights: Buffer): TensorFile | null {
  const parsed = layersSchema.safeParse(JSON.parse(json.toString()));
  if (!parsed.success) return null;
  const tensors = new Map<string, StoredTensor>();
  let at = 0;
  for (const spec of parsed.data.weightsManifest.flatMap((group) => group.weights)) {
    const type = layersTypes[spec.dtype];
    const bytes = weights.subarray(at, at + tensorBytes(type, spec.shape)!);
    if (bytes.length !== tensorBytes(type, spec.shape) || tensors.has(spec.name)) return null;
    tensors.set(spec.name, { type, shape: spec.shape, bytes });
    at += bytes.length;
  }
  const rest = canonicalJson(parsed.data.modelTopology);
  return at === weights.length ? { tensors, rest, notes: '' } : null;
}

/** A checkpoint saved in a folder, with the files of its manifest. */
export interface SavedCheckpoint {
  folder: string;
  files: Artifact['files'];
}

/** Files of a checkpoint that are one thing, by the path it is known under. */
export function unitsOf(files: Artifact['files']): Map<string, Artifact['files']> {
  const units = new Map(files.map((file) => [file.path, [file]]));
  const [json, weights] = ['model.json', 'weights.bin'].map((path) => units.get(path));
  if (json && weights && units.delete('weights.bin')) units.set('model.json', [...json, ...weights]);
  return units;
}

/**
 * Takes a unit of a checkpoint apart, as far as it is safetensors, ONNX, or a layers model of TensorFlow.js. Null for any other
 * file: nothing is unpickled, and what is not well-formed is only bytes.
 */
export async function readTensorFile(folder: string, unit: Artifact['files']): Promise<TensorFile | null> {
  if (unit.some(({ size }) => size > mostBytes)) return null;
  const [{ path }] = unit as [Artifact['files'][number]];
  const read =
    unit.length === 2
      ? layersFile
      : path.endsWith('.safetensors')
        ? safetensorsFile
        : path.endsWith('.onnx')
          ? onnxParts
          : null;
  if (!read) return null;
  const bytes = await Promise.all(unit.map((file) => readFile(join(folder, file.path))));
  try {
    return read(bytes[0]!, bytes[1]!);
  } catch {
    return null;
  }
}
