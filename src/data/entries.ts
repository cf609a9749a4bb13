import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { type Readable, Transform } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { UserError } from '../core/error.ts';
import { defaultLimits, type SourceLimits } from '../core/project-read.ts';
import { damaged } from './archive-guard.ts';
import type { Entry } from './entry.ts';
import type { FetchedSource } from './sources.ts';
import { tarEntries } from './tar-entries.ts';
import { zipEntries } from './zip-entries.ts';

/**
 * Every file of a source, archives unpacked in memory as a stream: nothing is written, so no path can lead anywhere. Throws
 * UserError data-invalid for an archive that is damaged, holds a path out of itself, or unpacks to more than the limits.
 */
export async function* readEntries(fetched: FetchedSource): AsyncGenerator<Entry> {
  const limits = fetched.source.limits ?? defaultLimits;
  for (const file of fetched.files) {
    const kind = file.plain ? null : await archiveKind(file.path, file.name);
    const archive = { path: file.path, name: file.name };
    if (kind === 'zip') yield* zipEntries(archive, limits);
    else if (kind === 'tar') yield* tarEntries(archive, limits);
    else yield plainEntry(file, limits);
  }
}

/** What kind of archive a file is, by its first bytes (a gzip file is a tar when its name or its content says so). */
export async function archiveKind(path: string, name: string): Promise<'zip' | 'tar' | null> {
  const head = await headOf(path, 262);
  if (head.toString('latin1', 0, 4) === 'PK\x03\x04' || head.toString('latin1', 0, 4) === 'PK\x05\x06') {
    return 'zip';
  }
  if (head.toString('latin1', 257, 262) === 'ustar') return 'tar';
  // Two blocks of zeros end a tar, and are all of one without members.
  if (/\.tar$/i.test(pathOf(name)) && head.every((byte) => byte === 0)) return 'tar';
  const isTar = /\.(tgz|tar\.gz)$/i.test(pathOf(name)) || !/\.gz$/i.test(pathOf(name));
  return startsGzip(head) && isTar ? 'tar' : null;
}

/** Packings that are not read, by the bytes that a file begins with. */
const otherPackings: readonly [string, string][] = [
  ['BZh', 'bzip2'],
  ['\xfd7zXZ\0', 'xz'],
  ['\x28\xb5\x2f\xfd', 'zstd'],
  ['7z\xbc\xaf\x27\x1c', '7z'],
  ['Rar!\x1a\x07', 'rar'],
];

/** What a file is packed with, where that is something not read here; null otherwise. */
export async function otherPacking(path: string): Promise<string | null> {
  const head = (await headOf(path, 8)).toString('latin1');
  return otherPackings.find(([magic]) => head.startsWith(magic))?.[1] ?? null;
}

/** Whether a file is gzip by its first bytes, whatever it is called. */
export async function isGzip(path: string): Promise<boolean> {
  return startsGzip(await headOf(path, 2));
}

const startsGzip = (head: Buffer): boolean => head[0] === 0x1f && head[1] === 0x8b;

/** The first bytes of a file; of a shorter one with zeros behind them. */
async function headOf(path: string, bytes: number): Promise<Buffer> {
  const file = await open(path);
  try {
    const head = Buffer.alloc(bytes);
    await file.read(head, 0, bytes, 0);
    return head;
  } finally {
    await file.close();
  }
}

/** The path of a URL, or the path itself. */
export function pathOf(name: string): string {
  return URL.canParse(name) ? decodeURIComponent(new URL(name).pathname) : name;
}

function plainEntry(file: FetchedSource['files'][number], limits: SourceLimits): Entry {
  const bytes = () => createReadStream(file.path, { highWaterMark: 1 << 18 });
  if (!file.plain) {
    const path = pathOf(file.name).replace(/^.*\//, '');
    return unpackedEntry({ path, size: null, problem: null, open: async () => bytes() }, file.name, limits);
  }
  return {
    path: file.name,
    size: null,
    problem: file.plain.problem,
    open: async () => joined(bytes(), unchanged(file.path, file.sha256)),
  };
}

/**
 * An entry whose name ends in `.gz` as what is packed in it, without that ending; any other as it is. `name` is how errors call
 * it. Reading it throws UserError data-invalid for what is damaged or unpacks to more than the limits.
 */
export function unpackedEntry(entry: Entry, name: string, limits: SourceLimits): Entry {
  if (!/\.gz$/i.test(entry.path)) return entry;
  return {
    ...entry,
    path: entry.path.slice(0, -3),
    size: null,
    async open() {
      const [unpacked, out] = [createGunzip(), bounded(name, limits.unpacked)];
      unpacked.on('error', (cause) => out.destroy(damaged(name, cause)));
      return joined(joined(await entry.open(), unpacked), out);
    },
  };
}

/** One stream after the other; an error of the first arrives at the reader of the second. */
function joined(first: Readable, second: Transform): Readable {
  first.on('error', (error) => second.destroy(error));
  second.on('close', () => first.destroy());
  return first.pipe(second);
}

/** Fails when the bytes are not those that were hashed when the folder was looked at. */
function unchanged(path: string, sha256: string): Transform {
  const hash = createHash('sha256');
  return new Transform({
    transform(chunk, _encoding, done) {
      hash.update(chunk);
      done(null, chunk);
    },
    flush(done) {
      const same = hash.digest('hex') === sha256;
      done(same ? null : new UserError('data-invalid', `${path} changed while it was read`, changedHint));
    },
  });
}

/** What to do about a file that somebody writes to. */
export const changedHint = 'let nobody write there while data is collected, and run the command again';

/** Fails when more than `most` bytes come. */
function bounded(name: string, most: number): Transform {
  let bytes = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes <= most) return done(null, chunk);
      done(new UserError('data-invalid', `${name} unpacks to more than ${most} bytes (limits.unpacked)`));
    },
  });
}

/** All bytes of an entry; null when there are more than `most`. */
export async function bytesOf(entry: Entry, most: number): Promise<Buffer | null> {
  if (entry.size !== null && entry.size > most) return null;
  const chunks: Buffer[] = [];
  let bytes = 0;
  const stream = await entry.open();
  for await (const chunk of stream) {
    bytes += (chunk as Buffer).length;
    if (bytes > most) {
      stream.destroy();
      return null;
    }
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks, bytes);
}
