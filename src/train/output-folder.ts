import { lstat, readdir, realpath, statfs } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { UserError } from '../core/error.ts';

/** Most files of one checkpoint. */
const mostFiles = 10_000;

/**
 * Checks what a trainer says is a checkpoint: a folder of the output without a link on the way, with at least one file, and
 * nothing but files and folders in it. Returns its path. Throws UserError training-failed.
 */
export async function checkpointFolder(output: string, path: string): Promise<string> {
  const bad = (what: string) =>
    new UserError('training-failed', `the checkpoint ${JSON.stringify(path)} ${what}`);
  const root = await realpath(output);
  const folder = await realpath(join(root, path)).catch(() => null);
  if (folder === null) throw bad('does not exist');
  if (relative(root, folder) !== path) throw bad('is reached through a link');
  if (!(await lstat(folder)).isDirectory()) throw bad('is not a folder');
  const files = await readdir(folder, { withFileTypes: true, recursive: true });
  const odd = files.find((entry) => !entry.isFile() && !entry.isDirectory());
  if (odd) throw bad(`holds ${odd.name}, which is neither a file nor a folder`);
  if (!files.some((entry) => entry.isFile())) throw bad('holds no file');
  if (files.length > mostFiles) throw bad(`holds more than ${mostFiles} files`);
  return folder;
}

/** Bytes of all files below a folder; what vanishes meanwhile is not counted. */
export async function folderBytes(folder: string): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) sum += await folderBytes(path);
    else sum += (await lstat(path).catch(() => null))?.size ?? 0;
  }
  return sum;
}

/** Bytes that may still be written to the disk of a folder. */
export async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}
