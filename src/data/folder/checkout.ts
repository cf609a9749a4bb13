import { lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync, rmSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { UserError } from '../../core/error.ts';
import { isOwnerGone, ownerName } from '../../exec/owner.ts';
import type { LocalZone } from '../../store/types.ts';
import { openBase } from './base.ts';
import { planCheckout } from './checkout-plan.ts';
import type { TreeEntry } from './entry.ts';
import { Output } from './output.ts';
import type { FilePool } from './pool.ts';
import { SeenPart, StatCacheWriter } from './stat-cache.ts';
import { type FolderVersion, LocalIndex } from './version.ts';
import { type FileStat, temporaryPrefix } from './walk.ts';

/** What `checkoutVersion` needs. The objects of the version are in the zone already. */
export interface CheckoutInput {
  version: FolderVersion;
  zone: LocalZone;
  /** The folder, or the file, that becomes the version. A file has this name, whatever it was called when it was added. */
  path: string;
  statCache: string;
  /** Whether changes that no version holds may be lost. */
  force: boolean;
  pool: FilePool;
  signal: AbortSignal;
  progress?: (share: number) => void;
}

/**
 * Makes a folder hold a version. What is there already stays, what is no longer in it goes, what no version ever held is left
 * alone. Each file gets its name when it is whole and verified; a folder that is not there yet gets its own at the end.
 * Throws UserError data-invalid before anything is changed when local changes would be lost.
 */
export async function checkoutVersion(
  input: CheckoutInput,
): Promise<{ written: number; kept: number; removed: number }> {
  const { version, zone, path } = input;
  const { single } = version.meta;
  const index = new LocalIndex(zone, version);
  const only = single ? basename(path) : null;
  const root = single ? dirname(path) : path;
  if (single) checkSingle(index);
  for (const folder of new Set([dirname(path), root])) sweep(folder);
  const there = lstatSync(path, { throwIfNoEntry: false });
  const fresh = !single && !there;
  if (there && there.isDirectory() === single) {
    throw new UserError(
      'data-invalid',
      `${path} is ${single ? 'a folder, and the version is one file' : 'not a folder'}`,
      'move it away, or check out somewhere else. Nothing was changed',
    );
  }
  const owner = ownerName();
  const at = fresh ? join(dirname(path), `${temporaryPrefix}${owner}`) : root;
  mkdirSync(at, { recursive: true });
  let kept = new Map<string, FileStat>();
  let removed: string[] = [];
  if (!fresh) {
    const base = await openBase(zone, input.statCache, null);
    try {
      ({ kept, removed } = planCheckout(root, only, base, all(index, only), input.force));
    } finally {
      base?.close();
    }
    remove(root, removed);
  }
  const seen = new StatCacheWriter(input.statCache);
  try {
    const out = new Output({ zone, pool: input.pool, root: at, owner, fresh });
    // What is known of a part is noted, and the next one read, while threads write: each alone takes long enough to count.
    let note = () => {};
    for (let part = 0; part < version.parts.length; part++) {
      input.signal.throwIfAborted();
      const entries = entriesOf(index, part, only);
      const writing = out.write(entries, kept);
      writing.catch(() => {});
      note();
      if (part + 1 < version.parts.length) index.part(part + 1);
      const stats = await writing;
      note = () => {
        const list = new SeenPart();
        for (const [at, entry] of entries.entries()) {
          const exec = entry.kind === 'file' && entry.exec;
          list.add(entry.path, { kind: entry.kind, exec, ...stats[at]! }, false);
        }
        seen.add(version.parts[part]!.digest.slice(7), entries.length, list.bytes());
      };
      input.progress?.((part + 1) / version.parts.length);
    }
    note();
    if (fresh) renameSync(at, path);
    seen.outwait(out.latest);
    seen.commit(version.digest.slice(7));
  } catch (error) {
    seen.discard();
    if (fresh) rmSync(at, { recursive: true, force: true });
    throw error;
  }
  const gone = removed.length;
  return { written: version.meta.count - kept.size, kept: kept.size, removed: gone };
}

/** The entries of a part; that of a version of one file under the name the file gets (`only`). */
function entriesOf(index: LocalIndex, part: number, only: string | null): TreeEntry[] {
  const { entries } = index.part(part);
  return only === null ? entries : entries.map((entry) => ({ ...entry, path: only }));
}

function* all(index: LocalIndex, only: string | null): Generator<TreeEntry> {
  for (let part = 0; part < index.version.parts.length; part++) yield* entriesOf(index, part, only);
}

/** A manifest may say that it is of one file; what is beside that file must not be written whatever the index says. */
function checkSingle(index: LocalIndex): void {
  const [one, more] = all(index, null);
  if (one?.kind === 'file' && !more && !one.path.includes('/')) return;
  throw new UserError(
    'data-invalid',
    `${index.version.digest} says that it is one file, but holds something else`,
    'add the file again: cdl data add <file>. Nothing was changed',
  );
}

/** Removes what killed processes left beside a folder. */
function sweep(folder: string): void {
  let names: string[] = [];
  try {
    names = readdirSync(folder);
  } catch {
    return;
  }
  for (const name of names) {
    if (!name.startsWith(temporaryPrefix)) continue;
    const path = join(folder, name);
    const found = lstatSync(path, { throwIfNoEntry: false });
    const isGone = found && isOwnerGone(name.slice(temporaryPrefix.length), found.mtimeMs);
    if (isGone) rmSync(path, { recursive: true, force: true });
  }
}

function remove(root: string, paths: readonly string[]): void {
  for (const path of paths) {
    const full = join(root, path);
    if (lstatSync(full, { throwIfNoEntry: false })?.isDirectory()) removeEmpty(full);
    else unlinkSync(full);
    for (let above = dirname(path); above !== '.'; above = dirname(above)) {
      if (!removeEmpty(join(root, above))) break;
    }
  }
}

function removeEmpty(folder: string): boolean {
  try {
    rmdirSync(folder);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOENT') return false;
    throw error;
  }
}
