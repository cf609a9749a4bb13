import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Digest, isDigest } from '../../core/digest.ts';
import { UserError } from '../../core/error.ts';
import { isInsidePath } from '../../core/path.ts';
import { withFolderLock } from '../../exec/folder-lock.ts';
import { ownerName } from '../../exec/owner.ts';
import { comparePaths } from './entry.ts';

/** The file at the project's root that says which version each folder has in this commit: a line `<digest> <path>` each. */
export const pointerFile = 'cdl.data.lock';

/** Versions by path. */
export type Pointers = ReadonlyMap<string, Digest>;

/** Reads the lines. Throws UserError lock-conflict for git's conflict markers, config-invalid for what is no such line. */
export function parsePointers(text: string): Pointers {
  const found = new Map<string, Digest>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line === '' || line.startsWith('#')) continue;
    if (/^(<{7}|={7}|>{7})/.test(line)) {
      throw new UserError(
        'lock-conflict',
        `${pointerFile}:${index + 1} holds git conflict markers`,
        'keep one line of each path; cdl data diff shows what the versions differ in',
      );
    }
    const digest = line.slice(0, 71);
    const path = line.slice(72);
    if (!isDigest(digest) || line[71] !== ' ' || !isInsidePath(path) || found.has(path)) {
      throw new UserError(
        'config-invalid',
        `${pointerFile}:${index + 1} is no line "<digest> <path>" of its own`,
      );
    }
    found.set(path, digest);
  }
  return found;
}

/** The lines, by ascending path. */
export function renderPointers(pointers: Pointers): string {
  const lines = [...pointers]
    .sort((a, b) => comparePaths(a[0], b[0]))
    .map(([path, digest]) => `${digest} ${path}\n`);
  return `# Written by cdl data; commit it with the code that goes with these versions.\n${lines.join('')}`;
}

/** The pointers of a project; none when there is no file yet. */
export function readPointers(root: string): Pointers {
  try {
    return parsePointers(readFileSync(join(root, pointerFile), 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    throw error;
  }
}

/** Sets the version of one path, one process at a time. Nothing is written when it is that already. */
export async function setPointer(root: string, path: string, digest: Digest): Promise<void> {
  if (readPointers(root).get(path) === digest) return;
  await withFolderLock(join(root, '.cdl', 'data', 'lock'), async () => {
    const next = renderPointers(new Map([...readPointers(root), [path, digest]]));
    const temporary = join(root, '.cdl', 'data', ownerName());
    writeFileSync(temporary, next);
    renameSync(temporary, join(root, pointerFile));
  });
}
