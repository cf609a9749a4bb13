import { mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { ownerName } from '../exec/owner.ts';
import { hashFile, saveStream } from './stream.ts';

/** Blobs kept on this machine, shared by its processes. Whatever is in the folder may be deleted at any time. */
export interface BlobCache {
  /** The path of a verified copy; `download` gives the bytes (verified by the caller) when there is none, or a damaged one. */
  fetch(digest: Digest, download: () => Promise<Readable>): Promise<string>;
}

/** A cache in a folder, made on first use. */
export function openBlobCache(folder: string): BlobCache {
  const root = resolve(folder);
  return {
    async fetch(digest, download) {
      const path = join(root, 'sha256', digest.slice(7, 9), digest.slice(7));
      if (await isIntact(path, digest)) return path;
      const temporary = `${path}.${ownerName()}`;
      await mkdir(dirname(path), { recursive: true });
      try {
        await saveStream(await download(), temporary);
        await rename(temporary, path);
      } finally {
        await rm(temporary, { force: true });
      }
      return path;
    },
  };
}

async function isIntact(path: string, digest: Digest): Promise<boolean> {
  try {
    return (await hashFile(path)).digest === digest;
  } catch (error) {
    if (error instanceof UserError) return false;
    throw error;
  }
}
