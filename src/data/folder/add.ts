import { lstatSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Digest } from '../../core/digest.ts';
import { UserError } from '../../core/error.ts';
import type { LocalZone } from '../../store/types.ts';
import { type Base, openBase } from './base.ts';
import { comparePaths, type TreeEntry } from './entry.ts';
import { IndexWriter } from './index-writer.ts';
import { storeLarge } from './large.ts';
import type { PackFile } from './pack.ts';
import { type BlobSlot, endsPart, PartBuilder, partEntries } from './part.ts';
import type { FilePool } from './pool.ts';
import { repack } from './repack.ts';
import { ShardWriter, shardBytes } from './shard-writer.ts';
import { type Seen, SeenPart, StatCacheWriter } from './stat-cache.ts';
import { readLink, sameStat, type Walked, walkFolder } from './walk.ts';

/** Sizes that tests make small: from `large` bytes on a file is an object of its own; shards, parts of the index. */
export interface AddLimits {
  large: number;
  shard: number;
  part: number;
}

const usual: AddLimits = { large: 1 << 20, shard: shardBytes, part: partEntries };

/** What `addFolder` needs. */
export interface AddInput {
  /** A folder, or one file. */
  path: string;
  /** Of the version, for people. */
  name: string;
  zone: LocalZone;
  /** File of the stat cache of this path. */
  statCache: string;
  /** The version before. */
  previous: Digest | null;
  /** Further parents: what it was made of, and the digest of the code that made it. */
  sources: readonly Digest[];
  code: Digest | null;
  pool: FilePool;
  signal: AbortSignal;
  /** Told from time to time how many entries were looked at, and how many bytes were read. */
  progress?: (entries: number, bytes: number) => void;
  limits?: Partial<AddLimits>;
}

/** The outcome of `addFolder`. `read` counts the files whose bytes were looked at. */
export interface Added {
  version: Digest;
  /** False when the content is that of `previous`, which `version` is then. */
  changed: boolean;
  count: number;
  bytes: number;
  read: number;
}

interface Item {
  found: Walked;
  old: Seen | null;
  clean: boolean;
}

/** The resolved entry of an item: the old one (`blob` null: it stays where it was), or a new one with its place. */
interface Resolved {
  entry: TreeEntry;
  blob: BlobSlot | string | null;
  isOld: boolean;
}

const batchFiles = 256;
const batchBytes = 4 << 20;

/**
 * Makes a version of a folder, or of one file: small files that are new or changed go into new shards, everything else stays
 * where it is. A file whose size, times and inode are those of the last look is not read. The same content as `previous` is
 * no new version. Memory holds a part of the index and what is being packed, whatever the number of files. Throws UserError
 * file-missing, data-invalid (see walkFolder, and for a file that does not stop changing).
 */
export async function addFolder(input: AddInput): Promise<Added> {
  const stat = lstatSync(input.path, { throwIfNoEntry: false });
  if (!stat) throw new UserError('file-missing', `${input.path} does not exist`, 'check the path');
  if (!stat.isDirectory() && !stat.isFile()) {
    throw new UserError(
      'data-invalid',
      `${input.path} is neither a file nor a folder`,
      stat.isSymbolicLink() ? 'add what the link leads to' : 'add a folder or a file',
    );
  }
  const single = stat.isFile();
  const root = single ? dirname(input.path) : input.path;
  const only = single ? input.path.slice(dirname(input.path).length + 1) : null;
  const base = await openBase(input.zone, input.statCache, input.previous);
  const seen = new StatCacheWriter(input.statCache);
  const sameDevice = lstatSync(dirname(input.statCache)).dev === stat.dev;
  // Another file system may have a coarser clock (FAT: two seconds) or one of its own.
  const run = new Adding(
    input,
    { ...usual, ...input.limits },
    root,
    base,
    seen,
    seen.since - (sameDevice ? 0 : 2000),
  );
  try {
    await run.walk(only);
    return await run.finish(single);
  } catch (error) {
    seen.discard();
    throw error;
  } finally {
    base?.close();
  }
}

/** Whether something on disk is what it was. */
function isClean(old: Seen, found: Walked): boolean {
  return (
    !old.racy &&
    old.kind === found.kind &&
    old.exec === found.exec &&
    (found.kind === 'folder' || sameStat(old, found))
  );
}

class Adding {
  readonly #input: AddInput;
  readonly #limits: AddLimits;
  readonly #root: string;
  readonly #base: Base | null;
  readonly #since: number;
  readonly #shards: ShardWriter;
  readonly #index: IndexWriter;
  readonly #seen: StatCacheWriter;
  #read = 0;
  #bytes = 0;
  #looked = 0;

  constructor(
    input: AddInput,
    limits: AddLimits,
    root: string,
    base: Base | null,
    seen: StatCacheWriter,
    since: number,
  ) {
    this.#input = input;
    this.#limits = limits;
    this.#root = root;
    this.#base = base;
    this.#since = since;
    this.#seen = seen;
    this.#shards = new ShardWriter(input.zone, limits.shard);
    this.#index = new IndexWriter(input.zone, base?.version ?? null, seen);
  }

  /** Goes through what is on disk and what is known of it side by side. */
  async walk(only: string | null): Promise<void> {
    const base = this.#base;
    // Undefined: the next entry was not looked at yet.
    let known: Seen | null | undefined;
    // As long as everything is as it was, only how much of which part: a million entries that nobody needs cost time.
    let same = null as { part: number; count: number } | null;
    let items: Item[] = [];
    const again = () => {
      if (same) items = base!.first(same.part, same.count).map((old) => ({ found: old, old, clean: true }));
      same = null;
    };
    for (const found of walkFolder(this.#root, only)) {
      this.#looked += 1;
      let old: Seen | null = null;
      let place = known === undefined && base ? base.same(found) : -1;
      let part = base?.current ?? 0;
      if (place < 0) {
        if (known === undefined) known = base?.next() ?? null;
        while (known !== null && comparePaths(known.path, found.path) < 0) known = base!.next();
        if (known?.path === found.path) {
          old = known;
          known = undefined;
          if (isClean(old, found)) ({ part, index: place } = old);
        }
      }
      const clean = place >= 0;
      if (clean && items.length === 0 && place === (same?.count ?? 0) && part === (same?.part ?? part)) {
        if (same) same.count += 1;
        else same = { part, count: 1 };
      } else {
        again();
        if (clean) old ??= { ...found, racy: false, part, index: place };
        items.push({ found, old, clean });
      }
      if (!endsPart(found.path, this.#limits.part)) continue;
      if (!this.#keep(same)) {
        again();
        await this.#part(items);
      }
      [same, items] = [null, []];
      this.#tell(0);
    }
    if (this.#keep(same)) return;
    again();
    if (items.length > 0) await this.#part(items);
  }

  /** Counts bytes that were read, and stops when that is asked for. */
  #tell(bytes: number): void {
    this.#bytes += bytes;
    this.#input.signal.throwIfAborted();
    this.#input.progress?.(this.#looked, this.#bytes);
  }

  /** Takes over a part of the base in which nothing changed, with its part of the stat cache. */
  #keep(same: { part: number; count: number } | null): boolean {
    const base = this.#base;
    if (!same || base!.version.meta.parts[same.part]!.count !== same.count) return false;
    this.#index.keep(same.part, base!, base!.seenPart(same.part));
    return true;
  }

  async #part(items: Item[]): Promise<void> {
    const resolved = await this.#resolve(items);
    const seen = new SeenPart();
    for (const { found } of items) {
      const racy = found.kind !== 'folder' && (found.mtime >= this.#since || found.ctime >= this.#since);
      seen.add(found.path, found, racy);
    }
    const whole = resolved.every((one) => one.isOld) ? this.#wholePart(items) : null;
    if (whole !== null) {
      this.#index.keep(whole, this.#base!, seen.bytes());
      return;
    }
    const builder = new PartBuilder();
    let last: BlobSlot | null = null;
    for (const { entry, blob } of resolved) {
      builder.add(entry, blob ?? (entry.kind === 'file' ? entry.blob : null));
      if (blob !== null && typeof blob !== 'string') last = blob;
    }
    this.#index.add(builder, seen, last);
  }

  /** The part of the base's index that has just these paths. */
  #wholePart(items: readonly Item[]): number | null {
    const part = items[0]!.old?.part;
    if (part === undefined || !items.every((item) => item.old?.part === part)) return null;
    return this.#base!.version.meta.parts[part]!.count === items.length ? part : null;
  }

  async #resolve(items: Item[]): Promise<Resolved[]> {
    const resolved: Resolved[] = new Array(items.length);
    const small: number[] = [];
    for (const [index, { found, old, clean }] of items.entries()) {
      const before = old ? this.#base!.entry(old) : null;
      if (clean && before) resolved[index] = { entry: before, blob: null, isOld: true };
      else if (found.kind === 'folder') {
        const entry: TreeEntry = { kind: 'folder', path: found.path };
        resolved[index] = { entry, blob: null, isOld: before?.kind === 'folder' };
      } else if (found.kind === 'link') {
        const target = readLink(this.#root, found.path);
        const isOld = before?.kind === 'link' && before.target === target;
        resolved[index] = { entry: { kind: 'link', path: found.path, target }, blob: null, isOld };
      } else if (found.size >= this.#limits.large) resolved[index] = await this.#large(found, before);
      else small.push(index);
    }
    await this.#packed(items, small, resolved);
    return resolved;
  }

  async #large(found: Walked, before: TreeEntry | null): Promise<Resolved> {
    const { path, exec } = found;
    const { sha256, stat } = await storeLarge(this.#input.zone, join(this.#root, path), (bytes) =>
      this.#tell(bytes),
    );
    Object.assign(found, stat);
    this.#read += 1;
    const old = this.#same(before, sha256, stat.size, exec);
    if (old) return old;
    this.#index.use(sha256, stat.size);
    return {
      entry: { kind: 'file', path, sha256, size: stat.size, exec, blob: sha256, at: null },
      blob: sha256,
      isOld: false,
    };
  }

  /** The entry of before, when it has the same bytes; where they are stored is taken over also when its mode changed. */
  #same(before: TreeEntry | null, sha256: string, size: number, exec: boolean): Resolved | null {
    if (before?.kind !== 'file' || before.sha256 !== sha256 || before.size !== size) return null;
    return { entry: { ...before, exec }, blob: null, isOld: before.exec === exec };
  }

  /** Reads small files a batch at a time, several batches at once, and lays them into shards in their order. */
  async #packed(items: Item[], small: readonly number[], resolved: Resolved[]): Promise<void> {
    const { pool } = this.#input;
    const batches: number[][] = [];
    let bytes = 0;
    for (const index of small) {
      const { size } = items[index]!.found;
      const open = batches.at(-1);
      if (!open || open.length === batchFiles || bytes + size > batchBytes) {
        batches.push([index]);
        bytes = size;
      } else {
        open.push(index);
        bytes += size;
      }
    }
    const start = (batch: readonly number[]) => {
      const result = pool.pack(
        this.#root,
        batch.map((index): PackFile => {
          const { path, size, mtime, ctime, ino, exec } = items[index]!.found;
          return { path, size, mtime, ctime, ino, exec };
        }),
      );
      // Its failure is looked at when its turn comes.
      result.catch(() => {});
      return result;
    };
    const running: ReturnType<typeof start>[] = [];
    for (const [turn, batch] of batches.entries()) {
      while (running.length < Math.min(batches.length, turn + pool.width))
        running.push(start(batches[running.length]!));
      const result = await running[turn]!;
      delete running[turn];
      if (result.kind === 'failed') {
        throw new UserError(
          'data-invalid',
          result.why === 'changing'
            ? `${join(this.#root, result.path)} changes while it is read`
            : `${join(this.#root, result.path)} cannot be read: ${result.why}`,
          result.why === 'changing'
            ? 'add it when nothing writes to it; no version was made'
            : 'check that it is there and that this user may read it; no version was made',
        );
      }
      for (const [at, packed] of result.files.entries()) {
        const { found, old } = items[batch[at]!]!;
        const { size, mtime, ctime, ino, sha256 } = packed;
        Object.assign(found, { size, mtime, ctime, ino });
        this.#read += 1;
        const same = this.#same(old ? this.#base!.entry(old) : null, sha256, size, found.exec);
        if (same) {
          resolved[batch[at]!] = same;
          continue;
        }
        const place = await this.#shards.append(result.bytes.subarray(packed.start, packed.end));
        resolved[batch[at]!] = {
          entry: {
            kind: 'file',
            path: found.path,
            sha256,
            size,
            exec: found.exec,
            blob: '',
            at: place.at + packed.at - packed.start,
          },
          blob: place.slot,
          isOld: false,
        };
      }
      this.#tell(result.bytes.length);
      pool.done(result);
      await this.#index.flush(this.#shards);
    }
  }

  /** Closes what is open, moves what little is left of wasteful shards, and stores the manifest. */
  async finish(single: boolean): Promise<Added> {
    const { zone, previous, sources, code, name } = this.#input;
    await this.#shards.close();
    await this.#index.flush(this.#shards);
    const before = this.#base?.version ?? null;
    const isSame = before !== null && this.#index.content() === before.meta.content;
    if (!isSame) {
      await repack(zone, this.#index, this.#shards, this.#limits.shard);
    }
    const told = { count: this.#index.count, bytes: this.#index.bytes, read: this.#read };
    const settled = await this.#index.settle({ name, single, previous, sources, code });
    this.#seen.commit(settled.seen.slice(7));
    return { ...told, version: settled.version, changed: settled.version !== previous };
  }
}
