import { UserError } from '../../core/error.ts';
import { isInsidePath } from '../../core/path.ts';

/** A file of a version. `blob` (hexadecimal sha256) holds its bytes from `at` on, or is the file itself (`at` null). */
export interface FileEntry {
  kind: 'file';
  path: string;
  /** Of the file's bytes, 64 hexadecimal digits. */
  sha256: string;
  size: number;
  exec: boolean;
  blob: string;
  at: number | null;
  /** Of an item of a data set: its class. */
  label?: string | null;
}

/** One entry of a version: a file, a symbolic link that stays inside, or a folder without entries of its own. */
export type TreeEntry =
  | FileEntry
  | { kind: 'link'; path: string; target: string }
  | { kind: 'folder'; path: string };

/** What git takes for a repository of its own; checked out, its `config` and hooks would run programs of whoever made the version. */
export const gitName = /^\.git$/i;

/** Whether a version may have an entry at a path: inside its folder, and in no repository of git. */
export function isEntryPath(path: string): boolean {
  return isInsidePath(path) && !path.split('/').some((part) => gitName.test(part));
}

const surrogate = /[\ud800-\udfff]/;

/** Whether a text has characters beyond U+FFFF, which sort otherwise in UTF-16 than in UTF-8. */
export function hasSurrogate(text: string): boolean {
  return surrogate.test(text);
}

/** Orders paths by their UTF-8 bytes: a folder's entries follow each other, whatever else begins like its name. */
export function comparePaths(a: string, b: string): number {
  if (a === b) return 0;
  if (surrogate.test(a) || surrogate.test(b)) return Buffer.compare(Buffer.from(a), Buffer.from(b));
  return a < b ? -1 : 1;
}

/** Whether what two entries hold is the same, wherever it is stored. */
export function sameContent(a: TreeEntry, b: TreeEntry): boolean {
  if (a.kind === 'file') {
    return (
      b.kind === 'file' &&
      a.sha256 === b.sha256 &&
      a.size === b.size &&
      a.exec === b.exec &&
      (a.label ?? null) === (b.label ?? null)
    );
  }
  if (a.kind === 'link') return b.kind === 'link' && a.target === b.target;
  return b.kind === 'folder';
}

/** Whether a link at `path` leads to something inside its version's folder. */
export function linkStaysInside(path: string, target: string): boolean {
  if (target === '' || target.startsWith('/') || target.includes('\0')) return false;
  let depth = path.split('/').length - 1;
  for (const part of target.split('/')) {
    if (part === '' || part === '.') continue;
    depth += part === '..' ? -1 : 1;
    if (depth < 0) return false;
  }
  return true;
}

const hex = /^[0-9a-f]{64}$/;

/** The line of an entry in an index part, without the newline: canonical JSON. `blob` is its place in the part's table. */
export function encodeLine(entry: TreeEntry, blob: number): string {
  const path = JSON.stringify(entry.path);
  if (entry.kind === 'folder') return `{"folder":true,"path":${path}}`;
  if (entry.kind === 'link') return `{"link":${JSON.stringify(entry.target)},"path":${path}}`;
  const at = entry.at === null ? '' : `"at":${entry.at},`;
  const exec = entry.exec ? '"exec":true,' : '';
  return `{${at}${exec}"in":${blob},"path":${path},"sha256":"${entry.sha256}","size":${entry.size}}`;
}

/** What an entry is, apart from where it is stored: the same content gives the same text. */
export function contentLine(entry: TreeEntry): string {
  const path = JSON.stringify(entry.path);
  if (entry.kind === 'folder') return `d ${path}\n`;
  if (entry.kind === 'link') return `l ${path} ${JSON.stringify(entry.target)}\n`;
  return `${entry.exec ? 'x' : 'f'} ${path} ${entry.sha256} ${entry.size}\n`;
}

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

/**
 * Reads a line of an index part. By hand: there may be a million of them. Throws UserError artifact-corrupt for what is no
 * entry, or would lead out of the folder.
 */
export function parseLine(text: string, blobs: readonly string[], where: string): TreeEntry {
  const bad = (what: string) => new UserError('artifact-corrupt', `${where}: ${what}: ${text.slice(0, 200)}`);
  let line: Record<string, unknown>;
  try {
    line = JSON.parse(text) as Record<string, unknown>;
  } catch {
    throw bad('not JSON');
  }
  const { path } = line;
  if (typeof path !== 'string' || !isEntryPath(path)) throw bad('not a path inside the folder');
  if (line.folder === true) return { kind: 'folder', path };
  if (typeof line.link === 'string') {
    if (!linkStaysInside(path, line.link)) throw bad('a link that leads out of the folder');
    return { kind: 'link', path, target: line.link };
  }
  const blob = isCount(line.in) ? blobs[line.in] : undefined;
  const at = isCount(line.at) ? line.at : null;
  if (
    blob === undefined ||
    typeof line.sha256 !== 'string' ||
    !hex.test(line.sha256) ||
    !isCount(line.size)
  ) {
    throw bad('not an entry');
  }
  if (at === null && blob !== line.sha256) throw bad('not a place in an object');
  const { sha256, size } = line;
  return { kind: 'file', path, sha256, size, exec: line.exec === true, blob, at };
}
