import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { ownerName } from '../../exec/owner.ts';
import type { Walked } from './walk.ts';

// One file for each folder with versions, in the order of paths and in the parts of the version's index, so that both are
// read side by side and a part without a change is copied as it is. In it: the magic, the version (32 bytes), then for each
// part its address (32), the number of entries (u32), their bytes (u32), the entries. Little-endian throughout. What cannot
// be read counts as absent: the cache may be deleted at any time.
const magic = Buffer.from('cdlstat1');
const fixed = 2 + 1 + 4 * 8;

const kinds = ['file', 'link', 'folder'] as const;
const execBit = 4;
const racyBit = 8;

/** What was seen of one path, beside the place of its entry in the version's index. */
export interface Seen extends Walked {
  part: number;
  index: number;
  /** Whether its bytes may have changed without its times telling. */
  racy: boolean;
}

/** Writes entries of one part. */
export class SeenPart {
  #buffer = Buffer.allocUnsafe(64 * 1024);
  #at = 0;
  count = 0;

  add(path: string, seen: Omit<Walked, 'path'>, racy: boolean): void {
    const need = fixed + path.length * 3;
    if (this.#at + need > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at + need));
      this.#buffer.copy(larger, 0, 0, this.#at);
      this.#buffer = larger;
    }
    const buffer = this.#buffer;
    const length = buffer.write(path, this.#at + fixed, 'utf8');
    let at = buffer.writeUInt16LE(length, this.#at);
    const flags = kinds.indexOf(seen.kind) | (seen.exec ? execBit : 0) | (racy ? racyBit : 0);
    at = buffer.writeUInt8(flags, at);
    at = buffer.writeDoubleLE(seen.size, at);
    at = buffer.writeDoubleLE(seen.mtime, at);
    at = buffer.writeDoubleLE(seen.ctime, at);
    at = buffer.writeDoubleLE(seen.ino, at);
    this.#at = at + length;
    this.count += 1;
  }

  /** The entries as they are stored. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#at);
  }
}

function readSeen(bytes: Buffer, view: DataView, at: number, part: number, index: number): Seen {
  const length = view.getUint16(at, true);
  const flags = bytes[at + 2]!;
  return {
    path: bytes.toString('utf8', at + fixed, at + fixed + length),
    kind: kinds[flags & 3]!,
    exec: (flags & execBit) !== 0,
    racy: (flags & racyBit) !== 0,
    size: view.getFloat64(at + 3, true),
    mtime: view.getFloat64(at + 11, true),
    ctime: view.getFloat64(at + 19, true),
    ino: view.getFloat64(at + 27, true),
    part,
    index,
  };
}

/** A cache that was found, read from its first entry to its last. */
export class StatCache {
  /** The version its entries are of, 64 hexadecimal digits. */
  readonly version: string;
  readonly #file: number;
  #position: number;
  #part = -1;
  #index = 0;
  #at = 0;
  #bytes: Buffer = Buffer.alloc(0);
  #view = new DataView(new ArrayBuffer(0));
  #parts: { sha256: string; count: number; bytes: Buffer }[] = [];

  private constructor(file: number, version: string) {
    this.#file = file;
    this.version = version;
    this.#position = magic.length + 32;
  }

  /** Opens the cache at a path; null when there is none. */
  static open(path: string): StatCache | null {
    let file: number;
    try {
      file = openSync(path, 'r');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
    const head = Buffer.alloc(magic.length + 32);
    if (
      readSync(file, head, 0, head.length, 0) === head.length &&
      head.subarray(0, magic.length).equals(magic)
    ) {
      return new StatCache(file, head.toString('hex', magic.length));
    }
    closeSync(file);
    return null;
  }

  /** The next entry, or null after the last. */
  next(): Seen | null {
    while (this.#at === this.#bytes.length) if (!this.#nextPart()) return null;
    const seen = readSeen(this.#bytes, this.#view, this.#at, this.#part, this.#index++);
    this.#at += fixed + this.#view.getUint16(this.#at, true);
    return seen;
  }

  /**
   * Moves past the next entry when it is of what was found, and all of it is as it was; otherwise stays. Where it stands in
   * its part, or -1. Without making a string or an object, for that is most of the work where nothing has changed.
   */
  same(found: Walked): number {
    while (this.#at === this.#bytes.length) if (!this.#nextPart()) return -1;
    const [bytes, view, at] = [this.#bytes, this.#view, this.#at];
    const { path } = found;
    const length = view.getUint16(at, true);
    const flags = kinds.indexOf(found.kind) | (found.exec ? execBit : 0);
    if (
      length !== path.length ||
      bytes[at + 2] !== flags ||
      view.getFloat64(at + 11, true) !== found.mtime ||
      view.getFloat64(at + 3, true) !== found.size ||
      view.getFloat64(at + 19, true) !== found.ctime ||
      view.getFloat64(at + 27, true) !== found.ino
    ) {
      return -1;
    }
    for (let index = 0; index < length; index++) {
      const code = path.charCodeAt(index);
      // Beyond ASCII a byte is no character; `next` decodes them.
      if (code > 127 || bytes[at + fixed + index] !== code) return -1;
    }
    this.#at = at + fixed + length;
    return this.#index++;
  }

  /** The part that the last entry was in. */
  get current(): number {
    return this.#part;
  }

  /** The first entries of a part that was read, once more. */
  first(part: number, count: number): Seen[] {
    const { bytes } = this.part(part);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const found: Seen[] = [];
    for (let at = 0; found.length < count; at += fixed + view.getUint16(at, true)) {
      found.push(readSeen(bytes, view, at, part, found.length));
    }
    return found;
  }

  #nextPart(): boolean {
    const head = Buffer.alloc(40);
    if (readSync(this.#file, head, 0, head.length, this.#position) !== head.length) return false;
    const bytes = Buffer.allocUnsafe(head.readUInt32LE(36));
    this.#position += head.length;
    if (readSync(this.#file, bytes, 0, bytes.length, this.#position) !== bytes.length) return false;
    this.#position += bytes.length;
    this.#part += 1;
    this.#index = 0;
    this.#at = 0;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#parts.push({ sha256: head.toString('hex', 0, 32), count: head.readUInt32LE(32), bytes });
    // A part is asked for again only while its neighbours are being compared.
    if (this.#parts.length > 3) this.#parts[this.#parts.length - 4]!.bytes = Buffer.alloc(0);
    return true;
  }

  /** A part that was read; its bytes are kept for the last three only. */
  part(index: number): { sha256: string; count: number; bytes: Buffer } {
    return this.#parts[index]!;
  }

  /** How many parts were read so far. */
  get parts(): number {
    return this.#parts.length;
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** Writes a cache beside the one that is there, and puts it in its place at the end. */
export class StatCacheWriter {
  readonly #path: string;
  readonly #temporary: string;
  readonly #file: number;
  /** The file system's own time when this was made, in milliseconds: what changed at or after it may change unseen. */
  readonly since: number;

  constructor(path: string) {
    this.#path = path;
    this.#temporary = `${path}.${ownerName()}`;
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(this.#temporary, magic);
    this.since = statSync(this.#temporary).mtimeMs;
    this.#file = openSync(this.#temporary, 'r+');
    writeSync(this.#file, Buffer.concat([magic, Buffer.alloc(32)]), 0, magic.length + 32, 0);
    this.#position = magic.length + 32;
  }

  #position: number;
  readonly #starts: number[] = [];

  /** Adds a part of the version's index with the entries in it. */
  add(sha256: string, count: number, entries: Buffer): void {
    const head = Buffer.alloc(40);
    head.write(sha256, 0, 'hex');
    head.writeUInt32LE(count, 32);
    head.writeUInt32LE(entries.length, 36);
    writeSync(this.#file, head, 0, head.length, this.#position);
    writeSync(this.#file, entries, 0, entries.length, this.#position + head.length);
    this.#starts.push(this.#position);
    this.#position += head.length + entries.length;
  }

  /** Corrects the address of a part that was added. */
  replace(index: number, sha256: string): void {
    writeSync(this.#file, Buffer.from(sha256, 'hex'), 0, 32, this.#starts[index]!);
  }

  /**
   * Returns when the file system's clock, which moves in steps, has left the time given: a later change shows. Gives up after
   * a tenth of a second, on file systems whose clock is coarse.
   */
  outwait(time: number): void {
    const start = performance.now();
    while (performance.now() - start < 100) {
      // Writing takes the file system's own time, which utimes(2) would not.
      writeSync(this.#file, magic, 0, magic.length, 0);
      if (fstatSync(this.#file).mtimeMs > time) return;
    }
  }

  /** Says which version it is of, and makes it the one that counts. */
  commit(version: string): void {
    writeSync(this.#file, Buffer.from(version, 'hex'), 0, 32, magic.length);
    closeSync(this.#file);
    renameSync(this.#temporary, this.#path);
  }

  /** Leaves everything as it was. */
  discard(): void {
    closeSync(this.#file);
    rmSync(this.#temporary, { force: true });
  }
}
