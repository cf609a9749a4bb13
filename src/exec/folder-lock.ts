import { mkdir, readdir, rename, rm, rmdir, stat, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { isOwnerGone, ownerName } from './owner.ts';

/**
 * Runs `action` while no other process on this file system holds the lock at `path`. A killed holder is noticed by the
 * next one who wants the lock. Who waits for it stops when `signal` says so, with its reason.
 *
 * The lock is a folder with one file named after its holder. Taking it is rename(2) of a prepared folder onto `path`,
 * which POSIX allows only onto an empty or absent one; freeing it, or breaking a dead holder's, is unlinking that holder's
 * file by name, which cannot hit a later holder. So no step has a gap in which a kill leaves the lock held or two holders.
 */
export async function withFolderLock<T>(
  path: string,
  action: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const owner = ownerName();
  await take(path, owner, signal);
  try {
    return await action();
  } finally {
    await unlink(join(path, owner)).catch(unless('ENOENT'));
    await rmdir(path).catch(unless('ENOENT', 'ENOTEMPTY', 'EEXIST'));
  }
}

async function take(path: string, owner: string, signal?: AbortSignal): Promise<void> {
  const prepared = `${path}.${owner}`;
  await mkdir(dirname(path), { recursive: true });
  await mkdir(prepared);
  try {
    await writeFile(join(prepared, owner), '');
    for (let attempt = 0; ; attempt++) {
      signal?.throwIfAborted();
      try {
        await rename(prepared, path);
        return;
      } catch (error) {
        if (!hasCode(error, 'ENOTEMPTY', 'EEXIST')) throw error;
      }
      if (!(await breakDead(path))) await wait(Math.random() * Math.min(20, 1 + attempt));
    }
  } catch (error) {
    await rm(prepared, { recursive: true, force: true });
    throw error;
  }
}

/** Frees the lock when its holder is gone; says whether it did. */
async function breakDead(path: string): Promise<boolean> {
  let freed = false;
  for (const holder of await readdir(path).catch(() => [])) {
    const held = await stat(join(path, holder)).catch(() => null);
    if (held && isOwnerGone(holder, held.mtimeMs)) {
      await unlink(join(path, holder)).catch(unless('ENOENT'));
      freed = true;
    }
  }
  return freed;
}

function unless(...codes: string[]): (error: unknown) => void {
  return (error) => {
    if (!hasCode(error, ...codes)) throw error;
  };
}

function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}
