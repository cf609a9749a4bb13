import { lstatSync, readdirSync, readlinkSync, type Stats } from 'node:fs';
import { join, relative } from 'node:path';
import { UserError } from '../../core/error.ts';
import { comparePaths, gitName, hasSurrogate, linkStaysInside } from './entry.ts';

/** What decides whether a file is still the one that was read: bytes, and times in milliseconds with fractions. */
export interface FileStat {
  size: number;
  mtime: number;
  ctime: number;
  ino: number;
}

/** Something found on disk. */
export interface Walked extends FileStat {
  path: string;
  kind: 'file' | 'link' | 'folder';
  exec: boolean;
}

/** Names of what we write beside data until it is whole; never part of a version. */
export const temporaryPrefix = '.cdl-tmp-';

/** The parts of a stat that are compared. */
export function fileStat(stat: Stats): FileStat {
  return { size: stat.size, mtime: stat.mtimeMs, ctime: stat.ctimeMs, ino: stat.ino };
}

/** Whether two stats are of the same bytes. ctime tells of what set mtime back. */
export function sameStat(a: FileStat, b: FileStat): boolean {
  return a.mtime === b.mtime && a.size === b.size && a.ctime === b.ctime && a.ino === b.ino;
}

/**
 * A folder as the system finds it soonest: from the working directory when it is there or below. Each part of a path that need
 * not be looked up saves a sixth of what a stat costs.
 */
export function nearPath(folder: string): string {
  const near = relative('', folder);
  return near === '' ? '.' : near.startsWith('..') ? folder : near;
}

/**
 * Everything below a folder in the order of {@link comparePaths}: files, links and empty folders. `only` restricts it to one
 * file directly in the folder. File system calls are synchronous, which for many small files costs a tenth of promises.
 * Names of one folder at a time are in memory. `.git` is left out. Throws UserError data-invalid for names that are not UTF-8
 * or hold a backslash, and for pipes, sockets and devices.
 */
export function* walkFolder(root: string, only: string | null = null): Generator<Walked> {
  const near = nearPath(root);
  if (only !== null) {
    const found = look(near, only);
    if (found !== null && found !== 'folder') yield found;
    return;
  }
  yield* below(near, '', namesIn(near));
}

function* below(root: string, above: string, names: string[]): Generator<Walked> {
  // A folder's entries come when its name with "/" is due: after "a.txt", where the folder is "a".
  const due: { name: string; names: string[] }[] = [];
  const flush = function* (before: string | null): Generator<Walked> {
    while (due.length > 0 && (before === null || comparePaths(`${due[0]!.name}/`, before) < 0)) {
      const inner = due.shift()!;
      yield* below(root, `${above}${inner.name}/`, inner.names);
    }
  };
  for (const name of names) {
    if (due.length > 0) yield* flush(name);
    const found = look(root, above + name);
    if (found === null) continue;
    if (found !== 'folder') {
      yield found;
      continue;
    }
    const inner = namesIn(join(root, above + name));
    if (inner.length === 0) {
      yield { path: above + name, kind: 'folder', exec: false, size: 0, mtime: 0, ctime: 0, ino: 0 };
      continue;
    }
    const at = due.findIndex((other) => comparePaths(`${name}/`, `${other.name}/`) < 0);
    due.splice(at < 0 ? due.length : at, 0, { name, names: inner });
  }
  yield* flush(null);
}

const leftOut = new RegExp(`${temporaryPrefix.replaceAll('.', '\\.')}|\\.git(?:/|$)`, 'i');

function namesIn(folder: string): string[] {
  const names = readdirSync(folder);
  // Looked at all at once: hardly ever is there anything to find.
  const listed = names.join('/');
  if (listed.includes('\ufffd')) {
    const odd = names.find((name) => name.includes('\ufffd'))!;
    throw new UserError(
      'data-invalid',
      `${join(folder, odd)}: a name that is not UTF-8`,
      'rename it; versions travel between systems, and other systems could not write it',
    );
  }
  if (listed.includes('\\')) {
    const odd = names.find((name) => name.includes('\\'))!;
    throw new UserError(
      'data-invalid',
      `${join(folder, odd)}: a name with a backslash`,
      'rename it; versions travel between systems, and on some it parts folders',
    );
  }
  const kept = leftOut.test(listed)
    ? names.filter((name) => !name.startsWith(temporaryPrefix) && !gitName.test(name))
    : names;
  return hasSurrogate(listed) ? kept.sort(comparePaths) : kept.sort();
}

function look(root: string, path: string): Walked | 'folder' | null {
  const full = `${root}/${path}`;
  const stat = lstatSync(full, { throwIfNoEntry: false });
  // Removed since its folder was read.
  if (!stat) return null;
  if (stat.isFile()) {
    return {
      path,
      kind: 'file',
      exec: (stat.mode & 0o100) !== 0,
      size: stat.size,
      mtime: stat.mtimeMs,
      ctime: stat.ctimeMs,
      ino: stat.ino,
    };
  }
  if (stat.isDirectory()) return 'folder';
  if (stat.isSymbolicLink()) return { path, kind: 'link', exec: false, ...fileStat(stat) };
  throw new UserError(
    'data-invalid',
    `${full} is neither a file nor a folder nor a link`,
    'take the pipe, socket or device away: a version holds bytes',
  );
}

/** Where a link leads. Throws UserError data-invalid when that is outside the folder it was found in. */
export function readLink(root: string, path: string): string {
  const target = readlinkSync(join(root, path));
  if (linkStaysInside(path, target)) return target;
  throw new UserError(
    'data-invalid',
    `${join(root, path)} is a link to ${target}, which is not inside ${root}`,
    'put the file itself there: a version holds what other machines can have too',
  );
}
