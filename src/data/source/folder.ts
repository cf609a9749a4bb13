import type { Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import picomatch from 'picomatch';
import { UserError } from '../../core/error.ts';
import { hashOfFile } from '../hash.ts';
import { Unreachable } from './attempts.ts';
import { inOrder } from './in-order.ts';
import type { ListedFile } from './listing.ts';
import type { FetchOptions } from './options.ts';
import { tooLarge } from './spool.ts';

/** Files read at once: enough that one waits for the disk while others are hashed. */
const readsAtOnce = 8;

/** What a path of a `file:` source stands for: a file of its own (null), or a folder with the files that match. */
export async function asFolder(
  name: string,
  root: string,
): Promise<{ folder: string; matches: (path: string) => boolean } | null> {
  const { isGlob, base, glob } = picomatch.scan(name);
  const whole = resolve(root, name);
  const info = await stat(whole).catch(() => null);
  // A file that is called like a pattern is that file.
  if (info) return info.isDirectory() ? { folder: whole, matches: () => true } : null;
  return isGlob ? { folder: resolve(root, base), matches: picomatch(glob) } : null;
}

/**
 * Every file of a folder, at any depth, with its sha256. What is no file (links are not followed), or has a name that is no
 * text, is named with the reason; `.git` is left out. `paths` are where they lie. Throws Unreachable when there is none,
 * UserError data-invalid for one that is gone when it is read.
 */
export async function listFolder(
  name: string,
  at: { folder: string; matches: (path: string) => boolean },
  most: number,
  options: FetchOptions,
): Promise<{ listed: ListedFile[]; paths: string[] }> {
  const found: { path: string; problem: string | null }[] = [];
  // By bytes, for a name that is no text cannot be asked for as one.
  const walk = async (folder: Buffer, below: string, isTextAbove: boolean): Promise<void> => {
    options.signal?.throwIfAborted();
    const entries = (await readdir(folder, {
      withFileTypes: true,
      encoding: 'buffer',
    } as never)) as unknown as Dirent<Buffer>[];
    for (const entry of entries) {
      const text = entry.name.toString('utf8');
      const path = below + text;
      const isText = isTextAbove && Buffer.from(text).equals(entry.name);
      if (entry.isDirectory()) {
        const full = Buffer.concat([folder, Buffer.from('/'), entry.name]);
        if (text !== '.git') await walk(full, `${path}/`, isText);
      } else if (at.matches(path)) {
        found.push({ path, problem: isText ? kindProblem(entry) : 'name-not-utf-8' });
      }
    }
  };
  await walk(Buffer.from(at.folder), '', true).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') throw new Unreachable(`there is no folder ${at.folder}`, false, { cause });
    throw cause;
  });
  if (found.length === 0) throw new Unreachable(`there is no file in ${at.folder} that matches`, false);
  let done = 0;
  const listed = await inOrder(found, readsAtOnce, options.signal, async ({ path, problem }, _, signal) => {
    signal.throwIfAborted();
    if (problem !== null) return { path, problem };
    const full = join(at.folder, path);
    const { size } = await stat(full).catch(() => ({ size: 0 }));
    if (size > most) throw tooLarge(full, String(size), most);
    const sha256 = await hashOfFile(full);
    if (sha256 === null)
      throw new UserError('data-invalid', `${full} was taken away while its folder was read`);
    options.onProgress?.({ what: name, bytes: ++done, total: found.length, counts: 'files' });
    return { path, sha256 };
  });
  return { listed, paths: found.map(({ path }) => join(at.folder, path)) };
}

/** Why something that is no file cannot be an item; null for a file. */
function kindProblem(entry: Dirent<Buffer>): string | null {
  if (entry.isFile()) return null;
  if (entry.isSymbolicLink()) return 'link';
  if (entry.isFIFO()) return 'pipe';
  return entry.isSocket() ? 'socket' : 'device';
}
