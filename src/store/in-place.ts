import { hash } from 'node:crypto';
import { open as openFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { UpstreamError, UserError } from '../core/error.ts';
import type { ObjectStore, Piece, Range } from './types.ts';

/** A blob whose bytes lie elsewhere: pieces of it are objects of buckets, what is between them is here. */
export interface InPlace {
  size: number;
  /** By ascending offset; they do not overlap. */
  pieces: readonly Piece[];
  /** All bytes that are in no piece, one after the other. */
  rest: Buffer;
}

/** Opens the bucket of a piece for reading, and says its key there. Throws UserError when this process may not look there. */
export type OpenOutside = (at: string) => Promise<{ store: ObjectStore; key: string }>;

/** Pieces up to this size (bytes) are fetched ahead, so many at once. */
const small = 1 << 20;
const ahead = 8;

/** Cuts a local file at its pieces. Throws UserError data-invalid when a piece is no part of it. */
export async function cutFile(path: string, size: number, pieces: readonly Piece[]): Promise<InPlace> {
  const file = await openFile(path);
  try {
    const rest: Buffer[] = [];
    let at = 0;
    for (const piece of [...pieces, { offset: size, size: 0 }]) {
      const gap = Buffer.alloc(piece.offset - at);
      await file.read(gap, 0, gap.length, at);
      rest.push(gap);
      at = piece.offset + piece.size;
    }
    return { size, pieces, rest: Buffer.concat(rest) };
  } finally {
    await file.close();
  }
}

/** One line of JSON, then the bytes between the pieces. */
export function encodeInPlace({ size, pieces, rest }: InPlace): Buffer {
  return Buffer.concat([Buffer.from(`${JSON.stringify({ v: 1, size, pieces })}\n`), rest]);
}

/** Reads what {@link encodeInPlace} wrote. Throws UserError artifact-corrupt for anything else; `where` is for the message. */
export function decodeInPlace(bytes: Buffer, where: string): InPlace {
  const end = bytes.indexOf(10);
  const bad = () => new UserError('artifact-corrupt', `${where} does not say where its bytes are`);
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  let head: { v?: unknown; size?: unknown; pieces?: unknown } | null;
  try {
    head = JSON.parse(bytes.toString('utf8', 0, Math.max(0, end)));
  } catch {
    throw bad();
  }
  const { v, size, pieces } = head ?? {};
  if (v !== 1 || !isCount(size) || !Array.isArray(pieces)) throw bad();
  const rest = bytes.subarray(end + 1);
  let left = rest.length;
  let before = 0;
  for (const piece of pieces as (Partial<Piece> | null)[]) {
    const { offset, size, sha256 = '', at, etag } = piece ?? {};
    const isPiece =
      isCount(offset) && isCount(size) && /^[0-9a-f]{64}$/.test(sha256) && typeof at === 'string';
    if (!isPiece || typeof etag !== 'string' || offset < before) throw bad();
    left -= offset - before;
    before = offset + size;
  }
  if (left !== size - before) throw bad();
  return { size, pieces: pieces as Piece[], rest };
}

/**
 * A blob's bytes, or a part of them, out of the buckets. Each piece has to be the object it was: throws UserError
 * source-mismatch naming the one that changed, source-unreachable for one that is gone.
 */
export function readInPlace(blob: InPlace, open: OpenOutside, range?: Range): Readable {
  const from = Math.min(range?.offset ?? 0, blob.size);
  const until = Math.min(from + (range?.length ?? blob.size), blob.size);
  return Readable.from(chunksOf(blob, open, from, until), { objectMode: false });
}

type Part = Buffer | { piece: Piece; from: number; length: number };

/** What lies between two offsets, in order. */
function partsOf({ size, pieces, rest }: InPlace, from: number, until: number): Part[] {
  const parts: Part[] = [];
  let at = 0;
  let taken = 0;
  const clip = (offset: number, length: number) => {
    const start = Math.max(from, offset);
    return { start: start - offset, length: Math.min(until, offset + length) - start };
  };
  for (const piece of [...pieces, { offset: size, size: 0 } as Piece]) {
    const gap = clip(at, piece.offset - at);
    if (gap.length > 0) parts.push(rest.subarray(taken + gap.start, taken + gap.start + gap.length));
    taken += piece.offset - at;
    at = piece.offset + piece.size;
    const { start, length } = clip(piece.offset, piece.size);
    if (length > 0) parts.push({ piece, from: start, length });
  }
  return parts;
}

async function* chunksOf(
  blob: InPlace,
  open: OpenOutside,
  from: number,
  until: number,
): AsyncGenerator<Buffer> {
  const parts = partsOf(blob, from, until);
  const coming = new Map<number, Promise<Buffer>>();
  let next = 0;
  try {
    for (const [index, part] of parts.entries()) {
      for (; next < parts.length && coming.size < ahead; next++) {
        const one = parts[next]!;
        if (Buffer.isBuffer(one) || one.length > small) continue;
        const whole = openPart(one, open).then(buffer);
        // Failures are told when its turn comes.
        whole.catch(() => {});
        coming.set(next, whole);
      }
      if (Buffer.isBuffer(part)) yield part;
      else if (coming.has(index)) {
        const bytes = await coming.get(index)!;
        coming.delete(index);
        yield checked(part, bytes);
      } else yield* streamed(part, open);
    }
  } finally {
    await Promise.allSettled(coming.values());
  }
}

async function openPart(part: Exclude<Part, Buffer>, open: OpenOutside): Promise<Readable> {
  const { piece, from, length } = part;
  const { store, key } = await open(piece.at);
  const isWhole = length === piece.size;
  const found = await store.open(key, isWhole ? undefined : { offset: from, length });
  if (!found) {
    throw new UserError(
      'source-unreachable',
      `${piece.at}, which a data version refers to, is not there`,
      hint,
    );
  }
  if (found.entry.etag !== piece.etag || found.entry.size !== piece.size) {
    found.body.destroy();
    throw changed(piece);
  }
  return found.body;
}

const hint =
  'bring the object back as it was (a bucket with versions still has it), or collect what is there now: cdl data pin, then cdl ingest';

const changed = ({ at, sha256 }: Piece) =>
  new UserError(
    'source-mismatch',
    `${at} has changed since a data version refers to it (sha256 ${sha256})`,
    hint,
  );

function checked({ piece, length }: Exclude<Part, Buffer>, bytes: Buffer): Buffer {
  if (bytes.length !== length)
    throw new UpstreamError('store', `${piece.at} came cut short`, { retryable: true });
  if (length === piece.size && hash('sha256', bytes, 'hex') !== piece.sha256) throw changed(piece);
  return bytes;
}

/** A large piece as it comes; whoever reads the whole blob verifies that. */
async function* streamed(part: Exclude<Part, Buffer>, open: OpenOutside): AsyncGenerator<Buffer> {
  let left = part.length;
  for await (const chunk of await openPart(part, open)) {
    left -= (chunk as Buffer).length;
    yield chunk as Buffer;
  }
  if (left !== 0) throw new UpstreamError('store', `${part.piece.at} came cut short`, { retryable: true });
}
