import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestBytes } from '../../src/core/digest.ts';
import { classifierSignature } from '../../src/serve/package.ts';
import { openTf } from '../../src/train/backend.ts';
import { encodeModel } from '../../src/train/model-files.ts';

/** A package on disk, as `cdl package` lays it out. */
export interface TinyPackage {
  folder: string;
  digest: Digest;
  bytes: number;
}

/**
 * How the tiny package misbehaves: `crash` when its code is loaded, `shape` by answering rows of another width than it
 * says, `nan` as a model that diverged, `flaky` by failing every second request after the first few.
 */
export type Fault = 'none' | 'crash' | 'shape' | 'nan' | 'flaky';

/**
 * Writes a real tfjs package: items of 2 × 2 bytes, three classes, a dense layer whose weights depend on `bias` so that
 * different biases answer differently. `logits` leaves the softmax to the server.
 */
export async function writeTinyPackage(
  folder: string,
  options: { model?: string; bias?: number; logits?: boolean; fault?: Fault } = {},
): Promise<TinyPackage> {
  const { model = 'tiny', bias = 0, logits = false, fault = 'none' } = options;
  const { tf } = await openTf();
  const built = tf.sequential({
    layers: [
      tf.layers.flatten({ inputShape: [2, 2] }),
      tf.layers.dense({ units: 3, activation: logits ? 'linear' : 'softmax' }),
    ],
  });
  const kernel = tf.tensor2d(
    Array.from({ length: 12 }, (_, index) => Math.sin(index + 1)),
    [4, 3],
  );
  built.setWeights([kernel, tf.tensor1d(fault === 'nan' ? [Number.NaN, 0, 0] : [bias, 0, -bias])]);
  const signature = classifierSignature('UINT8', [2, 2], ['a', 'b', 'c']);
  const wider = classifierSignature('UINT8', [2, 2], ['a', 'b', 'c', 'd']);
  const files: Record<string, string | Uint8Array> = {
    ...encodeModel(built),
    'signature.json': JSON.stringify({
      v: 1,
      model,
      runtime: 'tfjs',
      signature: fault === 'shape' ? { ...signature, outputs: wider.outputs } : signature,
    }),
    'code.mjs': [
      fault === 'crash' ? "throw new Error('this package does not start');" : '',
      'export const build = () => null;',
      'let calls = 0;',
      'export function preprocess(tf, raw) {',
      // The warm-up and the smoke requests get their answers.
      fault === 'flaky' ? "  if (++calls > 4 && calls % 2 === 0) throw new Error('flaky');" : '',
      "  return tf.div(tf.cast(raw, 'float32'), 255);",
      '}',
    ].join('\n'),
  };
  built.dispose();
  await mkdir(folder, { recursive: true });
  let bytes = 0;
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(folder, name), content);
    bytes += content.length;
  }
  return { folder, digest: digestBytes(JSON.stringify({ model, bias, logits, fault })), bytes };
}
