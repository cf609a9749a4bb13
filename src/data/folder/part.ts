import { createHash } from 'node:crypto';
import { UserError } from '../../core/error.ts';
import { comparePaths, contentLine, encodeLine, parseLine, type TreeEntry } from './entry.ts';

/** How many entries a part of an index has on average. */
export const partEntries = 4096;

/**
 * Whether a part of the index ends with this path. Decided by the path alone, so that parts of two versions begin and end at
 * the same entries, and those without a change are one object.
 */
export function endsPart(path: string, average: number = partEntries): boolean {
  // FNV-1a, then the finaliser of MurmurHash3, whose low bits are good enough to take a remainder of.
  let hash = 0x811c9dc5;
  for (let index = 0; index < path.length; index++)
    hash = Math.imul(hash ^ path.charCodeAt(index), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) % average === 0;
}

/** An object that is being written, whose address is not known before its end. */
export interface BlobSlot {
  sha256: string | null;
}

/** How much of an object a part uses: files with their tar headers. */
export interface BlobUse {
  sha256: string;
  bytes: number;
  count: number;
}

/** One part of a version's index. */
export interface Part {
  blobs: BlobUse[];
  /** sha256 over what its entries are, wherever they are stored. */
  content: string;
  entries: TreeEntry[];
}

/** How many bytes of a shard a file takes: its header, and itself up to the next block. */
export const tarBytes = (size: number): number => 512 + Math.ceil(size / 512) * 512;

/** Collects the lines of a part; its first line is made at the end, when the objects it names have their addresses. */
export class PartBuilder {
  readonly #blobs = new Map<BlobSlot | string, { index: number; bytes: number; count: number }>();
  readonly #content = createHash('sha256');
  #lines: string[] = [];
  #body: Buffer[] = [];
  count = 0;
  bytes = 0;
  first = '';

  /** Adds an entry; for a file, `blob` is where its bytes are. */
  add(entry: TreeEntry, blob: BlobSlot | string | null): void {
    if (this.count === 0) this.first = entry.path;
    let index = 0;
    if (entry.kind === 'file' && blob !== null) {
      const use = this.#blobs.get(blob) ?? { index: this.#blobs.size, bytes: 0, count: 0 };
      this.#blobs.set(blob, use);
      use.bytes += entry.at === null ? entry.size : tarBytes(entry.size);
      use.count += 1;
      index = use.index;
      this.bytes += entry.size;
    }
    this.count += 1;
    this.#content.update(contentLine(entry));
    this.#lines.push(encodeLine(entry, index));
    if (this.#lines.length === 1024) this.#pack();
  }

  #pack(): void {
    if (this.#lines.length > 0) this.#body.push(Buffer.from(`${this.#lines.join('\n')}\n`));
    this.#lines = [];
  }

  /** The part's bytes. Every object must have its address by now. */
  finish(): { bytes: Buffer; content: string; blobs: string[] } {
    this.#pack();
    const uses = [...this.#blobs].map(([blob, { bytes, count }]): [string, number, number] => {
      const address = typeof blob === 'string' ? blob : blob.sha256;
      if (address === null) throw new Error('an object of the part is still being written');
      return [address, bytes, count];
    });
    const content = this.#content.digest('hex');
    const head = Buffer.from(`${JSON.stringify({ blobs: uses, content, v: 1 })}\n`);
    return { bytes: Buffer.concat([head, ...this.#body]), content, blobs: uses.map(([address]) => address) };
  }
}

/** Reads the first line of a part: the objects it uses. Throws UserError artifact-corrupt. */
export function parsePartHead(bytes: Buffer, where: string): Omit<Part, 'entries'> & { end: number } {
  const end = bytes.indexOf(10);
  const bad = () => new UserError('artifact-corrupt', `${where} is not a part of an index`);
  if (end < 0) throw bad();
  let head: { blobs?: unknown; content?: unknown; v?: unknown };
  try {
    head = JSON.parse(bytes.toString('utf8', 0, end));
  } catch {
    throw bad();
  }
  if (head.v !== 1 || typeof head.content !== 'string' || !Array.isArray(head.blobs)) throw bad();
  const blobs = head.blobs.map((use: unknown) => {
    const [sha256, size, count] = Array.isArray(use) ? use : [];
    if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) throw bad();
    return { sha256, bytes: Number(size), count: Number(count) };
  });
  return { blobs, content: head.content, end: end + 1 };
}

/**
 * Reads a part. Throws UserError artifact-corrupt also when its entries are not in order, or one stands below another that
 * is no folder.
 */
export function parsePart(bytes: Buffer, where: string): Part {
  const { end, ...head } = parsePartHead(bytes, where);
  const table = head.blobs.map((use) => use.sha256);
  const entries: TreeEntry[] = [];
  let before: string | null = null;
  for (let start = end; start < bytes.length; ) {
    const stop = bytes.indexOf(10, start);
    const line = bytes.toString('utf8', start, stop < 0 ? bytes.length : stop);
    const entry = parseLine(line, table, where);
    if (before !== null && comparePaths(before, entry.path) >= 0) {
      throw new UserError('artifact-corrupt', `${where}: ${entry.path} does not follow ${before}`);
    }
    before = entry.path;
    entries.push(entry);
    start = stop < 0 ? bytes.length : stop + 1;
  }
  return { ...head, entries };
}
