import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { canonicalJson } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { ItemArray } from '../data/npy.ts';
import type { ModelCode } from '../train/types.ts';

/** The file of a transform, and of a package, that holds what `fit` learned. */
export const stateFile = 'state.json';

const stateSchema = z.strictObject({
  v: z.literal(1),
  /** What `encode` gives of an item. */
  type: z.enum(['uint8', 'float32']),
  length: z.int().positive(),
  state: z.json(),
});

/** See {@link stateFile}: the learned state, with type and number of the numbers that `encode` makes of one item. */
export type EncoderState = z.infer<typeof stateSchema>;

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

/** What `encode` makes of one item, checked. Throws UserError code-invalid. */
export function encodeOne(
  encode: NonNullable<ModelCode['encode']>,
  bytes: Uint8Array,
  state: EncoderState['state'],
): ItemArray {
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
}

/** The `encode` of a model's code with the state it was trained with: the same in training, evaluation and serving. */
export interface Encoder {
  type: EncoderState['type'];
  /** Of one encoded item. */
  shape: [number];
  /** The numbers of all items, one after the other. Throws UserError code-invalid for an item that is refused. */
  encode(items: readonly Uint8Array[]): ItemArray;
}

/** The encoder of a package; null when its items are tensors as they come. Throws UserError artifact-corrupt or code-invalid. */
export async function openEncoder(folder: string, code: Partial<ModelCode>): Promise<Encoder | null> {
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
  const { type, length, state } = parsed.data;
  const { encode } = code;
  if (typeof encode !== 'function') {
    throw new UserError('code-invalid', 'the model code does not export the function encode');
  }
  return {
    type,
    shape: [length],
    encode(items) {
      const all = new (type === 'uint8' ? Uint8Array : Float32Array)(items.length * length);
      for (const [index, bytes] of items.entries()) {
        const one = encodeOne(encode, bytes, state);
        if (one.length !== length || one instanceof Uint8Array !== (type === 'uint8')) {
          throw new UserError(
            'code-invalid',
            `encode() gave ${one.length} numbers (${one.constructor.name}) instead of ${length} (${type})`,
          );
        }
        all.set(one, index * length);
      }
      return all;
    },
  };
}
