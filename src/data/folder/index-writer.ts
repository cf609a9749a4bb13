import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { Artifact } from '../../core/artifact.ts';
import { type Digest, digestBytes } from '../../core/digest.ts';
import type { LocalZone } from '../../store/types.ts';
import { type Base, localVersion } from './base.ts';
import type { BlobSlot, PartBuilder } from './part.ts';
import { parsePartHead } from './part.ts';
import type { ShardWriter } from './shard-writer.ts';
import type { SeenPart, StatCacheWriter } from './stat-cache.ts';
import { type BlobInfo, blobName, type FolderMeta, type FolderVersion, partName } from './version.ts';

/** A part of the index that is stored. */
export interface StoredPart {
  digest: Digest;
  size: number;
  start: string;
  count: number;
  bytes: number;
  content: string;
  /** The objects it uses, and how much of each. */
  uses: { sha256: string; bytes: number; count: number }[];
}

type Waiting =
  | { kind: 'kept'; part: StoredPart; seen: Buffer }
  | { kind: 'made'; builder: PartBuilder; seen: SeenPart; last: BlobSlot | null };

/**
 * Puts an index together from parts that are kept and parts that are made. One that names a shard which is still being
 * written waits, and those behind it, until the shard has its address.
 */
export class IndexWriter {
  readonly #zone: LocalZone;
  readonly #before: FolderVersion | null;
  readonly #seen: StatCacheWriter;
  readonly #waiting: Waiting[] = [];
  /** The objects that parts use, by sha256. */
  readonly #blobs = new Map<string, BlobInfo>();
  readonly parts: StoredPart[] = [];

  constructor(zone: LocalZone, before: FolderVersion | null, seen: StatCacheWriter) {
    this.#zone = zone;
    this.#before = before;
    this.#seen = seen;
  }

  /** Notes a large file that was stored. */
  use(sha256: string, size: number): void {
    this.#blobs.set(sha256, { size, isShard: false });
  }

  /** Notes the shards that are whole by now. */
  note(shards: ShardWriter): void {
    for (const [sha256, size] of shards.whole) this.#blobs.set(sha256, { size, isShard: true });
  }

  #blob(sha256: string): BlobInfo {
    const blob = this.#blobs.get(sha256) ?? this.#before?.blobs.get(sha256);
    if (blob === undefined) throw new Error(`the size of ${sha256} is not known`);
    return blob;
  }

  /** How large an object of this or the version before is. */
  sizeOf(sha256: string): number {
    return this.#blob(sha256).size;
  }

  /** Whether an object of this or the version before is a shard. */
  isShard(sha256: string): boolean {
    return this.#blob(sha256).isShard;
  }

  /** Stores other lines for a part: the same entries, which lie elsewhere. */
  async replace(index: number, builder: PartBuilder): Promise<void> {
    const part = await this.store(builder);
    this.parts[index] = part;
    this.#seen.replace(index, part.digest.slice(7));
  }

  /** Takes over a part of the base's index. */
  keep(index: number, base: Base, seen: Buffer | null): void {
    const { digest, size } = base.version.parts[index]!;
    const { start, count, bytes, content } = base.version.meta.parts[index]!;
    const uses = base.index.head(index).blobs;
    const part = { digest, size, start, count, bytes, content, uses };
    this.#waiting.push({ kind: 'kept', part, seen: seen ?? Buffer.alloc(0) });
  }

  /** Adds a new part; `last` is the last shard it has files in. */
  add(builder: PartBuilder, seen: SeenPart, last: BlobSlot | null): void {
    this.#waiting.push({ kind: 'made', builder, seen, last });
  }

  /** Stores the parts that wait no longer. */
  async flush(shards: ShardWriter): Promise<void> {
    this.note(shards);
    while (this.#waiting.length > 0) {
      const next = this.#waiting[0]!;
      if (next.kind === 'made' && next.last?.sha256 === null) return;
      this.#waiting.shift();
      const part = next.kind === 'kept' ? next.part : await this.store(next.builder);
      this.#seen.add(part.digest.slice(7), part.count, next.kind === 'kept' ? next.seen : next.seen.bytes());
      this.parts.push(part);
    }
  }

  /** Stores the lines of a part. */
  async store(builder: PartBuilder): Promise<StoredPart> {
    const { first, count, bytes } = builder;
    const made = builder.finish();
    const digest = digestBytes(made.bytes);
    const path = this.#zone.temporary();
    writeFileSync(path, made.bytes, { flag: 'wx' });
    await this.#zone.adopt(path, digest);
    const uses = parsePartHead(made.bytes, digest).blobs;
    return { digest, size: made.bytes.length, start: first, count, bytes, content: made.content, uses };
  }

  get count(): number {
    return this.parts.reduce((sum, part) => sum + part.count, 0);
  }

  get bytes(): number {
    return this.parts.reduce((sum, part) => sum + part.bytes, 0);
  }

  /** What the entries are, wherever they are stored. */
  content(): string {
    const hash = createHash('sha256');
    for (const part of this.parts) hash.update(`${part.content}\n`);
    return hash.digest('hex');
  }

  /**
   * Stores the manifest and says which version it is: a version with the content of the one before is that one. `seen` is the
   * version whose index the stat cache goes with.
   */
  async settle(about: {
    name: string;
    single: boolean;
    previous: Digest | null;
    sources: readonly Digest[];
    code: Digest | null;
  }): Promise<{ version: Digest; seen: Digest }> {
    const content = this.content();
    const { name, single, previous, sources, code } = about;
    const base = this.#before;
    const before =
      previous === null ? null : previous === base?.digest ? base : await localVersion(this.#zone, previous);
    const same = (one: FolderVersion | null) => one?.meta.content === content && one.meta.single === single;
    if (before && same(before)) {
      if (isIndex(before, this.parts)) return { version: before.digest, seen: before.digest };
      if (base && isIndex(base, this.parts)) return { version: before.digest, seen: base.digest };
    }
    const used = new Set(this.parts.flatMap((part) => part.uses.map((use) => use.sha256)));
    const files = this.parts.map(({ digest, size }, index) => ({ path: partName(index), digest, size }));
    for (const sha256 of used) {
      const { size, isShard } = this.#blob(sha256);
      files.push({ path: blobName(sha256, isShard), digest: `sha256:${sha256}`, size });
    }
    const meta: FolderMeta = {
      v: 1,
      content,
      count: this.count,
      bytes: this.bytes,
      single,
      previous,
      code,
      parts: this.parts.map(({ start, count, bytes, content }) => ({ start, count, bytes, content })),
    };
    const parents = [...(previous === null ? [] : [previous]), ...sources];
    const artifact: Artifact = { kind: 'folder', name: name.slice(-200), files, parents, meta };
    const version = await this.#zone.putArtifact(artifact);
    return { version: before && same(before) ? before.digest : version, seen: version };
  }
}

function isIndex(version: FolderVersion, parts: readonly StoredPart[]): boolean {
  return (
    version.parts.length === parts.length &&
    version.parts.every((part, index) => part.digest === parts[index]!.digest)
  );
}
