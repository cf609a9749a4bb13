import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { Artifact } from '../core/artifact.ts';
import type { Digest } from '../core/digest.ts';
import type { Zone } from '../store/types.ts';

/** Stores the files below a folder as an artifact, links left out; the same files give the same digest. */
export async function storeFolder(
  zone: Zone,
  folder: string,
  manifest: Pick<Artifact, 'kind' | 'name' | 'parents' | 'meta'>,
): Promise<Digest> {
  const files = [];
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    const full = join(entry.parentPath, entry.name);
    files.push({ path: relative(folder, full), ...(await zone.putFile(full)) });
  }
  return zone.putArtifact({ ...manifest, files });
}

/**
 * Stores a checkpoint of a training under way. The trainer may meanwhile have a newer one and remove this, of which its next
 * message tells: null then.
 */
export async function storeCheckpoint(zone: Zone, folder: string, name: string): Promise<Digest | null> {
  try {
    const checkpoint = await storeFolder(zone, folder, { kind: 'checkpoint', name, parents: [], meta: {} });
    await stat(folder);
    return checkpoint;
  } catch (error) {
    if (!isAbsence(error)) throw error;
    return null;
  }
}

/** Whether an error is, or comes from, a file that is not there: the store tells one that went while it was sent as its own. */
function isAbsence(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as { code?: unknown };
  return code === 'ENOENT' || code === 'file-missing' || isAbsence(error.cause);
}
