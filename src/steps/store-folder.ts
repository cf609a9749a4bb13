import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Artifact } from '../core/artifact.ts';
import type { Digest } from '../core/digest.ts';
import type { Zone } from '../store/types.ts';

/** Stores the files directly in a folder as an artifact; the same files give the same digest. */
export async function storeFolder(
  zone: Zone,
  folder: string,
  manifest: Pick<Artifact, 'kind' | 'name' | 'parents' | 'meta'>,
): Promise<Digest> {
  const files = [];
  for (const path of (await readdir(folder)).sort()) {
    const full = join(folder, path);
    if ((await stat(full)).isFile()) files.push({ path, ...(await zone.putFile(full)) });
  }
  return zone.putArtifact({ ...manifest, files });
}
