import {
  chmodSync,
  constants,
  copyFileSync,
  lstatSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { UserError } from '../../core/error.ts';
import { hashFile } from '../../store/stream.ts';
import type { LocalZone } from '../../store/types.ts';
import type { FileEntry, TreeEntry } from './entry.ts';
import { type ExtractJob, statAt } from './extract.ts';
import type { FilePool } from './pool.ts';
import { type FileStat, fileStat, temporaryPrefix } from './walk.ts';

const batchFiles = 256;

/** Where entries are written to, and out of which store. */
export interface OutputInput {
  zone: LocalZone;
  pool: FilePool;
  /** The folder. */
  root: string;
  /** Makes temporary names this process's own. */
  owner: string;
  /** Whether the folder is new and nobody looks into it yet. */
  fresh: boolean;
}

/** Writes entries of versions as files, links and folders. Throws UserError artifact-corrupt, artifact-missing. */
export class Output {
  readonly #input: OutputInput;
  readonly #root: string;
  readonly #owner: string;
  readonly #fresh: boolean;
  readonly #folders = new Set<string>(['.']);
  /** The newest time of what was written, in milliseconds. */
  latest = 0;

  constructor(input: OutputInput) {
    this.#input = input;
    this.#root = input.root;
    this.#owner = input.owner;
    this.#fresh = input.fresh;
  }

  /** Writes those entries that are not kept; the stats of all of them, in their order. */
  async write(entries: readonly TreeEntry[], kept: ReadonlyMap<string, FileStat>): Promise<FileStat[]> {
    const stats: FileStat[] = new Array(entries.length);
    const batches: { blob: string; indices: number[] }[] = [];
    for (const [index, entry] of entries.entries()) {
      const stat = kept.get(entry.path);
      if (stat) {
        stats[index] = stat;
        continue;
      }
      if (entry.kind === 'folder') {
        this.#folder(entry.path);
        stats[index] = { size: 0, mtime: 0, ctime: 0, ino: 0 };
        continue;
      }
      this.#folder(dirname(entry.path));
      if (entry.kind === 'link') stats[index] = this.#link(entry.path, entry.target);
      else if (entry.at === null) stats[index] = await this.#large(entry);
      else {
        const open = batches.find(({ blob, indices }) => blob === entry.blob && indices.length < batchFiles);
        if (open) open.indices.push(index);
        else batches.push({ blob: entry.blob, indices: [index] });
      }
    }
    const rest = batches.values();
    const lane = async (number: number) => {
      for (const batch of rest) await this.#extract(entries, batch, stats, number);
    };
    const lanes = Array.from({ length: this.#input.pool.width }, (_, number) => lane(number));
    await Promise.allSettled(lanes);
    await Promise.all(lanes);
    for (const stat of stats) this.latest = Math.max(this.latest, stat.mtime, stat.ctime);
    return stats;
  }

  async #extract(
    entries: readonly TreeEntry[],
    batch: { blob: string; indices: number[] },
    stats: FileStat[],
    lane: number,
  ): Promise<void> {
    const files = batch.indices.map((index): ExtractJob['files'][number] => {
      const { path, sha256, size, at, exec } = entries[index] as FileEntry;
      return { path, sha256, size, at: at!, exec };
    });
    const result = await this.#input.pool.extract({
      blob: this.#input.zone.blobPath(`sha256:${batch.blob}`),
      root: this.#root,
      files,
      owner: `${this.#owner}.${lane}`,
      fresh: this.#fresh,
    });
    if (result.kind === 'failed') throw broken(result.path, result.why, batch.blob);
    for (const [at, index] of batch.indices.entries()) stats[index] = statAt(result.stats, at);
  }

  /** Makes a folder, and sees that none above it is a link that leads elsewhere. */
  #folder(path: string): void {
    if (this.#folders.has(path)) return;
    this.#folder(dirname(path));
    const full = join(this.#root, path);
    const there = this.#fresh ? undefined : lstatSync(full, { throwIfNoEntry: false });
    if (there && !there.isDirectory()) {
      throw new UserError('data-invalid', `${full} is no folder, but the version has files below it`);
    }
    if (!there) mkdirSync(full);
    this.#folders.add(path);
  }

  /** In the folder itself, which is on the same file system; a later run removes what a kill leaves there. */
  #temporary(): string {
    return join(this.#root, `${temporaryPrefix}${this.#owner}`);
  }

  #link(path: string, target: string): FileStat {
    const temporary = this.#temporary();
    symlinkSync(target, temporary);
    renameSync(temporary, join(this.#root, path));
    return fileStat(lstatSync(join(this.#root, path)));
  }

  async #large(entry: FileEntry): Promise<FileStat> {
    const { path, sha256, exec } = entry;
    const temporary = this.#temporary();
    const full = join(this.#root, path);
    try {
      // Shares the blocks of the object where the file system can; they part when either is written to.
      copyFileSync(this.#input.zone.blobPath(`sha256:${sha256}`), temporary, constants.COPYFILE_FICLONE);
      chmodSync(temporary, (exec ? 0o777 : 0o666) & ~process.umask());
      if ((await hashFile(temporary)).digest !== `sha256:${sha256}`) throw broken(path, 'corrupt', sha256);
      renameSync(temporary, full);
    } finally {
      rmSync(temporary, { force: true });
    }
    return fileStat(lstatSync(full));
  }
}

function broken(path: string, why: string, blob: string): UserError {
  return why === 'corrupt'
    ? new UserError('artifact-corrupt', `${path}: the object ${blob} has other bytes than the index says`)
    : new UserError('artifact-missing', `${path} cannot be written: ${why}`);
}
