import { createHash } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../../core/error.ts';
import { withFolderLock } from '../../exec/folder-lock.ts';
import { isOwnerGone, ownerName } from '../../exec/owner.ts';
import { hashOfFile } from '../hash.ts';
import { discard } from './download.ts';

/** Partial files that nobody has touched for so long (milliseconds) are thrown away. */
const partialLife = 7 * 24 * 3600_000;

/** Where verified files of sources lie, each called by its sha256, and where those under way do. */
export interface SourceCache {
  /** The verified file of this sha256, or null. */
  find(sha256: string): Promise<string | null>;
  /**
   * The verified file that `make` writes to the path it is given, or that somebody else made meanwhile: of processes that
   * want the same `key` one works, the others wait. The partial file stays for the next when `make` throws anything but a
   * UserError, or is interrupted.
   */
  obtain(
    key: string,
    pin: string | null,
    make: (part: string) => Promise<string>,
    signal?: AbortSignal,
  ): Promise<{ sha256: string; path: string }>;
  /** A path for a file of one's own, gone with its process; {@link adopt} makes it a verified one. */
  temporary(): string;
  adopt(path: string, sha256: string): Promise<string>;
}

/** The cache in a folder, made when it is absent. Throws what the file system does. */
export async function openSourceCache(folder: string): Promise<SourceCache> {
  const files = join(folder, 'sources');
  const partial = join(folder, 'partial');
  await mkdir(files, { recursive: true });
  await mkdir(partial, { recursive: true });
  await removeLeftovers(files, partial);
  const find = async (sha256: string): Promise<string | null> => {
    const path = join(files, sha256);
    // Hashing again is cheap beside parsing, and a damaged cache must not become somebody's data set.
    return (await hashOfFile(path)) === sha256 ? path : null;
  };
  const adopt = async (path: string, sha256: string): Promise<string> => {
    const to = join(files, sha256);
    await rename(path, to);
    return to;
  };
  return {
    find,
    adopt,
    temporary: () => join(files, `new.${ownerName()}`),
    async obtain(key, pin, make, signal) {
      const found = pin === null ? null : await find(pin);
      if (found !== null) return { sha256: pin!, path: found };
      const part = join(partial, createHash('sha256').update(key).digest('hex'));
      try {
        return await withFolderLock(
          `${part}.lock`,
          async () => {
            const meanwhile = pin === null ? null : await find(pin);
            if (meanwhile !== null) return { sha256: pin!, path: meanwhile };
            try {
              const sha256 = await make(part);
              return { sha256, path: await adopt(part, sha256) };
            } catch (error) {
              const isLasting =
                error instanceof UserError &&
                error.code !== 'interrupted' &&
                error.code !== 'source-unreachable';
              if (isLasting) await discard(part);
              throw error;
            } finally {
              if ((await stat(part).catch(() => null)) === null) await rm(`${part}.json`, { force: true });
            }
          },
          signal,
        );
      } catch (error) {
        if (!signal?.aborted || error instanceof UserError) throw error;
        throw new UserError(
          'interrupted',
          'waiting for another download of the same file was stopped',
          undefined,
          {
            cause: error,
          },
        );
      }
    },
  };
}

/** What processes that were killed have left behind, and partial files that nobody came back for. */
async function removeLeftovers(files: string, partial: string): Promise<void> {
  for (const entry of await readdir(files)) {
    const dot = entry.indexOf('.');
    if (dot < 0) continue;
    const path = join(files, entry);
    const info = await stat(path).catch(() => null);
    if (info && isOwnerGone(entry.slice(dot + 1), info.mtimeMs)) await rm(path, { force: true });
  }
  for (const entry of await readdir(partial)) {
    if (entry.includes('.lock')) continue;
    const path = join(partial, entry);
    const info = await stat(path).catch(() => null);
    if (info && Date.now() - info.mtimeMs > partialLife) await rm(path, { force: true });
  }
}
