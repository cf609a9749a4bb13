import { hash } from 'node:crypto';
import { closeSync, fstatSync, lstatSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { type FileStat, fileStat, nearPath, temporaryPrefix } from './walk.ts';

/** Files to be written out of one object on this machine. Their folders are there already. */
export interface ExtractJob {
  /** The object's file. */
  blob: string;
  root: string;
  files: { path: string; sha256: string; size: number; at: number; exec: boolean }[];
  /** Makes temporary names this process's own. */
  owner: string;
  /** Whether nothing is there yet and nobody looks before the whole folder gets its name: files are written in place. */
  fresh: boolean;
}

/**
 * What the files look like now, four numbers each (see {@link statAt}) in the order of the job, which travel between threads
 * for nothing; or why one could not be written.
 */
export type ExtractResult =
  | { kind: 'written'; stats: Float64Array }
  | { kind: 'failed'; path: string; why: string };

/** What a file of a job looks like now. */
export function statAt(stats: Float64Array, index: number): FileStat {
  const at = 4 * index;
  return { size: stats[at]!, mtime: stats[at + 1]!, ctime: stats[at + 2]!, ino: stats[at + 3]! };
}

/** Reads at most this much of an object at once. */
const window = 4 << 20;

/** Kept from job to job: pages that are asked for anew cost as much as what is read into them. */
let kept = Buffer.alloc(0);

/**
 * Writes files out of a shard. Each is verified before it gets its name, and gets it at once (a temporary file, renamed), so
 * that a kill leaves no half file.
 */
export function extractFiles(job: ExtractJob): ExtractResult {
  const { files } = job;
  const stats = new Float64Array(4 * files.length);
  const root = nearPath(job.root);
  let fd: number;
  try {
    fd = openSync(job.blob, 'r');
  } catch (error) {
    return { kind: 'failed', path: files[0]!.path, why: String(error) };
  }
  const span = files.reduce((end, { at, size }) => Math.max(end, at + size), 0) - files[0]!.at;
  const largest = files.reduce((most, { size }) => Math.max(most, size), 0);
  const need = Math.max(Math.min(window, span), largest);
  if (kept.length < need) kept = Buffer.allocUnsafe(need);
  const buffer = kept;
  let from = 0;
  let until = 0;
  try {
    for (const [index, file] of files.entries()) {
      if (file.at < from || file.at + file.size > until) {
        from = file.at;
        // As far as the files of this job go without a large gap: a shard with few wanted files is not read whole.
        let wanted = file.at + file.size;
        for (let next = index + 1; next < files.length; next++) {
          const { at, size } = files[next]!;
          if (at < wanted || at > wanted + 65_536 || at + size - from > buffer.length) break;
          wanted = at + size;
        }
        until = from + readAll(fd, buffer, from, wanted - from);
      }
      const bytes = buffer.subarray(file.at - from, file.at - from + file.size);
      if (file.at + file.size > until || hash('sha256', bytes, 'hex') !== file.sha256) {
        return { kind: 'failed', path: file.path, why: 'corrupt' };
      }
      const { size, mtime, ctime, ino } = writeWhole(job, root, file, bytes);
      stats.set([size, mtime, ctime, ino], 4 * index);
    }
    return { kind: 'written', stats };
  } finally {
    closeSync(fd);
  }
}

function readAll(fd: number, buffer: Buffer, position: number, length: number): number {
  let got = 0;
  while (got < length) {
    const read = readSync(fd, buffer, got, length - got, position + got);
    if (read === 0) break;
    got += read;
  }
  return got;
}

function writeWhole(
  job: ExtractJob,
  root: string,
  file: ExtractJob['files'][number],
  bytes: Buffer,
): FileStat {
  const full = `${root}/${file.path}`;
  const path = job.fresh ? full : `${root}/${temporaryPrefix}${job.owner}`;
  if (!job.fresh) rmSync(path, { force: true });
  const fd = openSync(path, 'wx', file.exec ? 0o777 : 0o666);
  let stat: FileStat;
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
    stat = fileStat(fstatSync(fd));
  } finally {
    closeSync(fd);
  }
  if (job.fresh) return stat;
  renameSync(path, full);
  return fileStat(lstatSync(full));
}
