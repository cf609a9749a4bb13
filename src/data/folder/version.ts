import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import type { Artifact } from '../../core/artifact.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import { UserError } from '../../core/error.ts';
import type { LocalZone } from '../../store/types.ts';
import { type Part, parsePart, parsePartHead } from './part.ts';

/** The `meta` of a folder version. */
export type FolderMeta = {
  v: 1;
  /** sha256 over what its entries are: the same for the same files, however they are packed and whatever came before. */
  content: string;
  count: number;
  /** Of all files together. */
  bytes: number;
  /** Whether it is one file, not a folder. */
  single: boolean;
  /** The version before; also one of the parents. */
  previous: Digest | null;
  /** The code that made it, where that was said. */
  code: Digest | null;
  /** Of each part of the index: its first path, and what is in it. */
  parts: { start: string; count: number; bytes: number; content: string }[];
};

const isHex = (value: unknown): boolean => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;

/** By hand, for adding a folder that has not changed should not load a library of schemas. */
function isFolderMeta(value: Record<string, unknown>): value is FolderMeta & Record<string, unknown> {
  const { v, content, count, bytes, single, previous, code, parts } = value;
  return (
    v === 1 &&
    isHex(content) &&
    isCount(count) &&
    isCount(bytes) &&
    typeof single === 'boolean' &&
    [previous, code].every((digest) => digest === null || isDigest(digest)) &&
    Array.isArray(parts) &&
    parts.every(
      (part: Record<string, unknown>) =>
        typeof part.start === 'string' && isCount(part.count) && isCount(part.bytes) && isHex(part.content),
    )
  );
}

/** A version of a folder: its manifest with the objects by what they are. */
export interface FolderVersion {
  digest: Digest;
  name: string;
  meta: FolderMeta;
  parents: Digest[];
  /** Parts of the index, in order. */
  parts: { digest: Digest; size: number }[];
  /** Shards and large files by sha256 (hexadecimal). */
  blobs: Map<string, BlobInfo>;
}

/** An object of a version; its size in bytes. */
export interface BlobInfo {
  size: number;
  isShard: boolean;
}

/** The name of an object within a version. */
export const blobName = (sha256: string, isShard: boolean): string =>
  isShard ? `shards/${sha256}.tar` : `files/${sha256}`;

/** The name of a part of the index within a version. */
export const partName = (index: number): string => `index/${String(index).padStart(5, '0')}.jsonl`;

/** Takes a manifest apart; null when it is no folder version. Throws UserError artifact-corrupt. */
export function folderVersion(digest: Digest, artifact: Artifact): FolderVersion | null {
  if (artifact.kind !== 'folder') return null;
  const bad = (what: string) => new UserError('artifact-corrupt', `${digest}: ${what}`);
  const { meta } = artifact;
  if (!isFolderMeta(meta)) throw bad('not the manifest of a folder version');
  const parts: FolderVersion['parts'] = [];
  const blobs = new Map<string, BlobInfo>();
  for (const file of artifact.files) {
    if (!file.path.startsWith('index/')) {
      blobs.set(file.digest.slice(7), { size: file.size, isShard: file.path.startsWith('shards/') });
    } else if (file.path === partName(parts.length)) parts.push({ digest: file.digest, size: file.size });
    else throw bad(`${file.path} is out of order`);
  }
  if (parts.length !== meta.parts.length) throw bad('parts of the index are missing');
  return { digest, name: artifact.name, meta, parents: artifact.parents, parts, blobs };
}

/** The first line of a part is mostly shorter than this; the rest of it need not be read then. */
const headBytes = 16_384;

/** The index of a version on this machine; the parts used last stay in memory. */
export class LocalIndex {
  readonly #zone: LocalZone;
  readonly #parts = new Map<number, Part>();

  constructor(
    zone: LocalZone,
    readonly version: FolderVersion,
  ) {
    this.#zone = zone;
  }

  #bytes(index: number): Buffer {
    return readFileSync(this.#zone.blobPath(this.version.parts[index]!.digest));
  }

  /** A part with its entries. */
  part(index: number): Part {
    const known = this.#parts.get(index);
    if (known) return known;
    const part = parsePart(this.#bytes(index), `${this.version.digest} ${partName(index)}`);
    if (this.#parts.size === 2) this.#parts.delete(this.#parts.keys().next().value!);
    this.#parts.set(index, part);
    return part;
  }

  /** What objects a part uses. */
  head(index: number): ReturnType<typeof parsePartHead> {
    const where = `${this.version.digest} ${partName(index)}`;
    const { digest } = this.version.parts[index]!;
    const start = Buffer.alloc(headBytes);
    const file = openSync(this.#zone.blobPath(digest), 'r');
    try {
      const read = readSync(file, start, 0, start.length, 0);
      const head = start.subarray(0, read);
      return parsePartHead(head.includes(10) ? head : this.#bytes(index), where);
    } finally {
      closeSync(file);
    }
  }
}
