import { readFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { z } from 'zod';
import { type Digest, digestBytes } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { isInsidePath } from '../core/path.ts';
import { weightNames } from './model-files.ts';
import type { LayersModel, Tensor, Tf } from './types.ts';

const manifestSchema = z.object({
  weightsManifest: z
    .array(
      z.object({
        paths: z.array(z.string().refine(isInsidePath, 'not a path below the model')),
        weights: z.array(
          z.looseObject({
            name: z.string(),
            shape: z.array(z.int().nonnegative()),
            dtype: z.enum(['float32', 'int32', 'bool']),
          }),
        ),
      }),
    )
    .min(1),
});

/** What a model began with: the digest of all of it, and how many of its weights came from there. */
export interface Beginning {
  digest: Digest;
  taken: number;
  fresh: string[];
}

/**
 * Puts the weights of a layers model in `folder` (`model.json` and the files it names) into those of `model` that have the
 * same name, as Keras does by name; the others stay as `build()` made them.
 *
 * Throws a UserError: input-missing without a model.json, artifact-corrupt for one that cannot be read, code-invalid where
 * a weight has another shape, or none has the name of one in `model`.
 */
export async function beginFrom(tf: Tf, model: LayersModel, folder: string): Promise<Beginning> {
  const { text, specs, bytes } = await readWeightFiles(folder);
  const stored = tf.io.decodeWeights(bytes, specs as Parameters<typeof tf.io.decodeWeights>[1]);
  try {
    const names = weightNames(model);
    const current = model.weights.map((weight) => weight.read());
    const wrong = names.flatMap((name, at) => {
      const found = Object.hasOwn(stored, name) ? stored[name] : undefined;
      const has = current[at]!;
      return found && !tf.util.arraysEqual(found.shape, has.shape)
        ? [`${name} is [${found.shape.join(', ')}] there and [${has.shape.join(', ')}] in build()`]
        : [];
    });
    if (wrong.length > 0) {
      throw new UserError(
        'code-invalid',
        `what the training starts from has weights of another shape: ${wrong.slice(0, 5).join('; ')}`,
        'build the same layers, or give a layer that is to begin afresh another name (name: in its configuration)',
      );
    }
    const fresh = names.filter((name) => !Object.hasOwn(stored, name));
    if (fresh.length === names.length) {
      throw new UserError(
        'code-invalid',
        `what the training starts from has no weight of build(): it has ${Object.keys(stored).slice(0, 5).join(', ')}, build() makes ${names.slice(0, 5).join(', ')}`,
        'give the layers of build() the names they have there (name: in their configuration)',
      );
    }
    const next: Tensor[] = names.map((name, at) =>
      Object.hasOwn(stored, name) ? stored[name]! : current[at]!,
    );
    model.setWeights(next);
    const digest = digestBytes(Buffer.concat([Buffer.from(digestBytes(text)), new Uint8Array(bytes)]));
    return { digest, taken: names.length - fresh.length, fresh };
  } finally {
    for (const tensor of Object.values(stored)) tensor.dispose();
  }
}

async function readWeightFiles(folder: string) {
  const text = await readFile(join(folder, 'model.json')).catch((cause: unknown) => {
    throw new UserError(
      'input-missing',
      'what the training starts from has no model.json',
      'the built-in trainer starts from layers models of TensorFlow.js (name the files so that model.json is at the top); anything else is for train.command, which gets the folder as "pretrained" of CDL_JOB',
      { cause },
    );
  });
  try {
    const { weightsManifest: groups } = manifestSchema.parse(JSON.parse(text.toString('utf8')));
    const parts = await Promise.all(
      groups.flatMap((group) => group.paths).map((path) => readFile(join(folder, posix.normalize(path)))),
    );
    const whole = Buffer.concat(parts);
    const specs = groups.flatMap((group) => group.weights);
    const expected = specs.reduce((sum, spec) => sum + bytesOf(spec), 0);
    if (expected !== whole.length) throw new Error(`its weights have ${whole.length} bytes, not ${expected}`);
    return { text, specs, bytes: new Uint8Array(whole).buffer };
  } catch (cause) {
    const why = cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message;
    throw new UserError(
      'artifact-corrupt',
      `what the training starts from is no layers model of TensorFlow.js: ${why}`,
      undefined,
      { cause },
    );
  }
}

const widths: Record<string, number> = { float16: 2, uint16: 2, uint8: 1 };

/** Bytes of one weight as stored; quantized ones (tensorflowjs_converter --quantize_…) are narrower. */
function bytesOf(spec: { shape: number[]; dtype: string; [more: string]: unknown }): number {
  const stored = (spec.quantization as { dtype?: string } | undefined)?.dtype;
  const width = stored === undefined ? (spec.dtype === 'bool' ? 1 : 4) : (widths[stored] ?? Number.NaN);
  return spec.shape.reduce((product, size) => product * size, width);
}
