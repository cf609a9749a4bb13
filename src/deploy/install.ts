import { cp, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Digest } from '../core/digest.ts';
import { ownerName } from '../exec/owner.ts';

/**
 * Copies a package's files into a target's folder, once per digest, and returns where they are. The copy appears whole or
 * not at all, and two copies at once end in one. Throws when `source` cannot be read.
 */
export async function installPackage(folder: string, digest: Digest, source: string): Promise<string> {
  const place = join(folder, 'packages', digest.slice(7));
  if (await exists(place)) return place;
  await mkdir(dirname(place), { recursive: true });
  const fresh = `${place}.${ownerName()}`;
  try {
    await cp(source, fresh, { recursive: true, dereference: true });
    if ((await readdir(fresh)).length === 0) throw new Error(`${source} holds no package`);
    await rename(fresh, place).catch(async (error: unknown) => {
      // Somebody else was first: the same digest means the same files.
      if (!(await exists(place))) throw error;
    });
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
  return place;
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
