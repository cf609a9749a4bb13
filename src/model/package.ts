import { copyFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { stateFile } from './encoder.ts';

/** What a package is made of. */
export interface PackageParts {
  /** A saved checkpoint: `model.json` and `weights.bin`. */
  checkpointFolder: string;
  /** The bundled model code, one ES module that exports build and preprocess. */
  code: string;
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
  const { checkpointFolder, code, manifest, folder } = parts;
  const copied = ['model.json', 'weights.bin'];
  for (const name of copied) {
    const info = await stat(join(checkpointFolder, name)).catch(() => null);
    if (!info?.isFile()) {
      throw new UserError('artifact-missing', `the checkpoint in ${checkpointFolder} has no ${name}`);
    }
    await copyFile(join(checkpointFolder, name), join(folder, name));
  }
  await writeFile(join(folder, 'code.mjs'), code);
  const learned = parts.transformFolder ? [stateFile] : [];
  if (parts.transformFolder) await copyFile(join(parts.transformFolder, stateFile), join(folder, stateFile));
  await writeFile(join(folder, 'signature.json'), encodeManifest(manifest));
  return [...copied, ...learned, 'code.mjs', 'signature.json'].sort();
}

/** The bytes of `signature.json`. */
export function encodeManifest(manifest: object): string {
  return `${canonicalJson(manifest)}\n`;
}
