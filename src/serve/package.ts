import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { UserError } from '../core/error.ts';
import { datatypes } from './tensor.ts';
import type { PackageManifest, Signature } from './types.ts';

/** The manifest's file in a package folder. */
export const packageFile = 'signature.json';

const tensorSchema = z.strictObject({
  name: z.string().min(1),
  datatype: z.enum(datatypes),
  shape: z.array(z.union([z.literal(-1), z.int().positive()])).min(1),
  parameters: z
    .strictObject({
      content_type: z.enum(['str', 'base64']),
      item: z.enum(['text', 'image', 'record', 'file']).optional(),
    })
    .optional(),
});

const manifestSchema = z.strictObject({
  v: z.literal(1),
  model: z.string().min(1),
  runtime: z.enum(['tfjs', 'onnx']),
  signature: z.strictObject({
    inputs: z.array(tensorSchema).min(1),
    outputs: z.array(tensorSchema).min(1),
    classes: z.array(z.string()).min(1),
  }),
});

/** Reads and checks a package's manifest. Throws UserError artifact-corrupt, naming the file and what is wrong. */
export async function readPackageManifest(folder: string): Promise<PackageManifest> {
  const path = join(folder, packageFile);
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new UserError('artifact-corrupt', `package manifest ${path}: ${why}`, undefined, { cause });
  }
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) {
    throw new UserError('artifact-corrupt', `package manifest ${path}: ${z.prettifyError(parsed.error)}`);
  }
  return parsed.data;
}

/**
 * The signature of a classifier: raw items in under the name `input`, `probabilities` (FP32 [N, classes]) and `label`
 * (BYTES [N]) out. `shape` is that of one item.
 */
export function classifierSignature(
  datatype: 'UINT8' | 'FP32',
  shape: readonly number[],
  classes: readonly string[],
): Signature {
  return {
    inputs: [{ name: 'input', datatype, shape: [-1, ...shape] }],
    outputs: [
      { name: 'probabilities', datatype: 'FP32', shape: [-1, classes.length] },
      { name: 'label', datatype: 'BYTES', shape: [-1] },
    ],
    classes: [...classes],
  };
}
