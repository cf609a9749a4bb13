import { constants } from 'node:buffer';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { UserError } from '../core/error.ts';

/** Small writes are gathered to this many bytes; one system call each would be most of the time it takes. */
const gathered = 256 * 1024;

/** A file that is written from its beginning to its end. */
export interface FileWriter {
  write(bytes: Uint8Array | string): Promise<void>;
  close(): Promise<void>;
}

/** Opens a file for many small writes. What is given is copied. Errors arrive at the next write, or at the end. */
export function openWriter(path: string): FileWriter {
  const stream = createWriteStream(path, { highWaterMark: 4 * gathered });
  let failure: unknown = null;
  stream.on('error', (error) => {
    failure = error;
  });
  let chunks: Uint8Array[] = [];
  let size = 0;
  /** Until more may be written, or nothing more ever will be. Leaves no listener behind. */
  const room = () =>
    new Promise<void>((resolve) => {
      const go = () => {
        stream.off('drain', go).off('close', go);
        resolve();
      };
      stream.on('drain', go).on('close', go);
    });
  const flush = async () => {
    if (failure !== null) throw failure;
    const all = Buffer.concat(chunks, size);
    chunks = [];
    size = 0;
    if (all.length > 0 && !stream.write(all)) await room();
  };
  return {
    async write(bytes) {
      const chunk = Buffer.from(bytes as Uint8Array);
      chunks.push(chunk);
      size += chunk.length;
      if (size >= gathered) await flush();
    },
    async close() {
      await flush();
      stream.end();
      if (!stream.closed) await once(stream, 'close').catch(() => undefined);
      if (failure !== null) throw failure;
    },
  };
}

/** Read ahead at most. */
const ahead = 1 << 20;

/**
 * Reads pieces of a file that lie one after the other, many of them with one system call. Gives fewer bytes than asked for at
 * the end of the file only. A piece stays valid: what is read ahead is never written to again.
 */
export function openPieces(file: FileHandle): (length: number, at: number) => Promise<Buffer> {
  let window = Buffer.alloc(0);
  let start = 0;
  return async (length, at) => {
    if (at < start || at + length > start + window.length) {
      const fresh = Buffer.allocUnsafe(Math.max(length, ahead));
      let filled = 0;
      while (filled < fresh.length) {
        const { bytesRead } = await file.read(fresh, filled, fresh.length - filled, at + filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      window = fresh.subarray(0, filled);
      start = at;
    }
    return window.subarray(at - start, at - start + length);
  };
}

/**
 * A whole file in one buffer, also one of more than the 2 GiB that `readFile` takes, `most` bytes at a time. Throws UserError
 * data-invalid for more than a buffer can hold, what the file system does.
 */
export async function readLarge(path: string, most: number = 1 << 30): Promise<Buffer> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    checkHeld(path, size);
    const bytes = Buffer.allocUnsafeSlow(size);
    for (let at = 0; at < size; ) {
      const { bytesRead } = await file.read(bytes, at, Math.min(most, size - at), at);
      if (bytesRead === 0) throw new UserError('data-invalid', `${path} was cut short while it was read`);
      at += bytesRead;
    }
    return bytes;
  } finally {
    await file.close();
  }
}

/** Refuses tensors that are more than one buffer can hold. Throws UserError data-invalid. */
export function checkHeld(what: string, bytes: number): void {
  if (bytes <= constants.MAX_LENGTH) return;
  throw new UserError(
    'data-invalid',
    `${what}: ${bytes} bytes of tensors, and at most ${constants.MAX_LENGTH} can be held in memory`,
    'make several data sets of it, or collect the items one by one: item: file or item: image',
  );
}
