import { copyFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { Runtime } from '../core/project-train.ts';
import { stateFile } from './encoder.ts';

/** The files of a checkpoint that a runtime serves; all others stay behind. */
export const modelFiles: Record<Runtime, readonly string[]> = {
  tfjs: ['model.json', 'weights.bin'],
  onnx: ['model.onnx'],
};

/** What a package is made of. */
export interface PackageParts {
  /** A saved checkpoint with {@link modelFiles}. */
  checkpointFolder: string;
  /** Default tfjs. */
  runtime?: Runtime;
  /** The bundled model code, one ES module that exports build and preprocess; null for ONNX over tensors, which has none. */
  code: string | null;
  /** A saved transform, for its `state.json`; null when the items are tensors as they come. */
  transformFolder?: string | null;
  /** The content of `signature.json`. */
  manifest: object;
  /** An existing, empty folder to put the files in. */
  folder: string;
}

/**
 * Writes the files of a package and returns their names, sorted. They hold no times, paths or versions of ours, so the
 * same parts always give the same bytes. Throws UserError artifact-missing when the checkpoint is not complete.
 */
export async function buildPackage(parts: PackageParts): Promise<string[]> {
  const { checkpointFolder, code, manifest, folder, runtime = 'tfjs' } = parts;
  const copied = modelFiles[runtime];
  for (const name of copied) {
    const info = await stat(join(checkpointFolder, name)).catch(() => null);
    if (!info?.isFile()) {
      throw new UserError(
        'artifact-missing',
        `the checkpoint in ${checkpointFolder} has no ${name}`,
        runtime === 'onnx'
          ? 'export it as ONNX in the training command, or say what it is: train.runtime in cdl.yaml'
          : undefined,
      );
    }
    await copyFile(join(checkpointFolder, name), join(folder, name));
  }
  if (code !== null) await writeFile(join(folder, 'code.mjs'), code);
  const learned = parts.transformFolder ? [stateFile] : [];
  if (parts.transformFolder) await copyFile(join(parts.transformFolder, stateFile), join(folder, stateFile));
  await writeFile(join(folder, 'signature.json'), encodeManifest(manifest));
  return [...copied, ...learned, ...(code === null ? [] : ['code.mjs']), 'signature.json'].sort();
}

/** The bytes of `signature.json`. */
export function encodeManifest(manifest: object): string {
  return `${canonicalJson(manifest)}\n`;
}
