import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { canonicalJson } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { Runtime } from '../core/project-train.ts';
import { type EncodeConfig, encodeSchema } from '../core/project-transform.ts';
import type { ItemArray } from '../data/npy.ts';
import { picturePixels } from '../data/picture.ts';
import type { ModelCode } from '../train/types.ts';

/** The file of a transform, and of a package, that holds what `fit` learned. */
export const stateFile = 'state.json';

const stateSchema = z.strictObject({
  v: z.literal(1),
  /** What encoding gives of an item. */
  type: z.enum(['uint8', 'float32']),
  shape: z.array(z.int().positive()).min(1).max(3),
  /** What `fit` learned; null where `encode` stands for it. */
  state: z.json(),
  /** `models.<model>.encode` of `cdl.yaml`; without it the model code encodes. */
  encode: encodeSchema.optional(),
});

/** See {@link stateFile}: how items are encoded, with type and shape of the numbers of one item. */
export type EncoderState = z.infer<typeof stateSchema>;

/** Whether a package holds code: what ONNX computes of tensors, or of what `encode` of `cdl.yaml` makes, is all in its graph. */
export function holdsCode(
  runtime: Runtime | undefined,
  isRaw: boolean,
  encode: EncodeConfig | undefined,
): boolean {
  return runtime !== 'onnx' || (isRaw && !encode);
}

/** The bytes of {@link stateFile}. */
export function encodeState(state: EncoderState): string {
  return `${canonicalJson(state)}\n`;
}

/** The state as a server will read it: what JSON cannot hold must not work in training alone. Throws UserError code-invalid. */
export function asJson(state: unknown): EncoderState['state'] {
  try {
    return z.json().parse(JSON.parse(canonicalJson(state ?? null)));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new UserError('code-invalid', `what fit() returned has no JSON form: ${why}`, undefined, { cause });
  }
}

/** Turns the bytes of one item into numbers. */
export type ItemEncoder = (bytes: Uint8Array) => ItemArray | Promise<ItemArray>;

/** The model code's `encode` with the state it learned; what it gives is checked. It throws UserError code-invalid. */
export function codeEncoder(
  encode: NonNullable<ModelCode['encode']>,
  state: EncoderState['state'],
): ItemEncoder {
  return (bytes) => {
    let made: unknown;
    try {
      made = encode({ bytes }, state);
    } catch (cause) {
      const why = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
      throw new UserError('code-invalid', `encode() failed: ${why}`, undefined, { cause });
    }
    if ((made instanceof Uint8Array || made instanceof Float32Array) && made.length > 0) return made;
    throw new UserError(
      'code-invalid',
      'encode() must return a Uint8Array or a Float32Array that is not empty',
    );
  };
}

/** The encoder of `models.<model>.encode`. It throws UserError data-invalid for an item that is none of its kind. */
export function configuredEncoder({ pixels, numbers }: EncodeConfig): ItemEncoder {
  if (pixels) {
    return async (bytes) => {
      const made = await picturePixels(bytes, pixels);
      if (made) return made;
      throw new UserError('data-invalid', 'this is no picture that can be decoded (PNG, JPEG, GIF, WebP)');
    };
  }
  return (bytes) => recordNumbers(bytes, numbers!);
}

/** What {@link stateFile} says where nothing is learned: it follows from the configuration alone. */
export function configuredState(encode: EncodeConfig): EncoderState {
  const { pixels, numbers } = encode;
  const made = pixels
    ? { type: 'uint8' as const, shape: [...pixels] }
    : { type: 'float32' as const, shape: [numbers!.length] };
  return { v: 1, ...made, state: null, encode };
}

function recordNumbers(bytes: Uint8Array, fields: readonly string[]): Float32Array {
  let record: unknown;
  try {
    record = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    record = null;
  }
  if (typeof record !== 'object' || record === null || Array.isArray(record)) {
    throw new UserError('data-invalid', 'this is no record: a JSON object with a value a field');
  }
  return Float32Array.from(fields, (field) => {
    const value: unknown = Object.hasOwn(record, field) ? (record as Record<string, unknown>)[field] : null;
    const number = numberOf(value);
    if (number !== null) return number;
    throw new UserError(
      'data-invalid',
      `field "${field}" is ${value === null ? 'missing' : JSON.stringify(value)?.slice(0, 60)}, not a number`,
    );
  });
}

/** A number, a truth value as 0 or 1, or the text of a finite number; null for all else. */
function numberOf(value: unknown): number | null {
  if (typeof value === 'boolean') return value ? 1 : 0;
  const number =
    typeof value === 'string' && /^\s*[-+]?[\d.]/.test(value) ? Number(value) : (value as number);
  return typeof number === 'number' && Number.isFinite(Math.fround(number)) ? number : null;
}

/** How items of a package become numbers: the same in training, evaluation and serving. */
export interface Encoder {
  type: EncoderState['type'];
  /** Of one encoded item. */
  shape: number[];
  /** The numbers of all items, one after the other. Throws UserError code-invalid or data-invalid for an item that is refused. */
  encode(items: readonly Uint8Array[]): Promise<ItemArray>;
}

/** What a package says of its encoder; null when its items are tensors as they come. Throws UserError artifact-corrupt. */
export async function readState(folder: string): Promise<EncoderState | null> {
  const path = join(folder, stateFile);
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new UserError('artifact-corrupt', `${path} is not JSON`, undefined, { cause });
  }
  const parsed = stateSchema.safeParse(value);
  if (!parsed.success) throw new UserError('artifact-corrupt', `${path}: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

/** Whether the items of a package are pictures that `encode` of `cdl.yaml` has decoded, which takes native code. */
export async function decodesPictures(folder: string): Promise<boolean> {
  return (await readState(folder))?.encode?.pixels !== undefined;
}

/** The encoder of a package; null when its items are tensors as they come. Throws UserError artifact-corrupt or code-invalid. */
export async function openEncoder(folder: string, code: Partial<ModelCode>): Promise<Encoder | null> {
  const read = await readState(folder);
  if (!read) return null;
  const { type, shape, state } = read;
  const length = shape.reduce((product, dim) => product * dim, 1);
  if (!read.encode && typeof code.encode !== 'function') {
    throw new UserError('code-invalid', 'the model code does not export the function encode');
  }
  const one = read.encode ? configuredEncoder(read.encode) : codeEncoder(code.encode!, state);
  return {
    type,
    shape,
    async encode(items) {
      const all = new (type === 'uint8' ? Uint8Array : Float32Array)(items.length * length);
      for (const [index, bytes] of items.entries()) {
        const made = await one(bytes);
        if (made.length !== length || made instanceof Uint8Array !== (type === 'uint8')) {
          throw new UserError(
            'code-invalid',
            `encode() gave ${made.length} numbers (${made.constructor.name}) instead of ${length} (${type})`,
          );
        }
        all.set(made, index * length);
      }
      return all;
    },
  };
}
