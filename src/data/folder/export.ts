import { lstatSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { UserError } from '../../core/error.ts';
import { ownerName } from '../../exec/owner.ts';
import type { LocalZone } from '../../store/types.ts';
import type { TreeEntry } from './entry.ts';
import { Output } from './output.ts';
import type { FilePool } from './pool.ts';
import type { Listing } from './reader.ts';
import { temporaryPrefix } from './walk.ts';

const atOnce = 16_384;

/**
 * Writes the files of any version into a new folder, which gets its name when all of them are there. Its objects are in the
 * zone already. Returns how many files were written. Throws UserError data-invalid when the folder has something in it.
 */
export async function exportListing(input: {
  listing: Listing;
  zone: LocalZone;
  path: string;
  pool: FilePool;
  signal: AbortSignal;
}): Promise<number> {
  const { listing, zone, path, pool, signal } = input;
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there && !(there.isDirectory() && readdirSync(path).length === 0)) {
    throw new UserError('data-invalid', `${path} is there already`, 'give a folder that is new or empty');
  }
  const owner = ownerName();
  const folder = join(dirname(path), `${temporaryPrefix}${owner}`);
  mkdirSync(folder, { recursive: true });
  let written = 0;
  try {
    const out = new Output({ zone, pool, root: folder, owner, fresh: true });
    let entries: TreeEntry[] = [];
    const write = async () => {
      signal.throwIfAborted();
      await out.write(entries, new Map());
      written += entries.length;
      entries = [];
    };
    for await (const entry of listing.entries()) {
      if (entries.push(entry) === atOnce) await write();
    }
    await write();
    renameSync(folder, path);
    return written;
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}
