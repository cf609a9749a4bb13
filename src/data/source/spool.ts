import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { UserError } from '../../core/error.ts';
import { asUnreachable, Unreachable } from './attempts.ts';
import { plainUrl } from './plain-url.ts';

/** A server that sends nothing for this long (milliseconds) is taken for gone. */
const silence = 60_000;

/** The error of a file that is larger than its source may be. */
export function tooLarge(name: string, found: string, most: number): UserError {
  return new UserError(
    'data-invalid',
    `${plainUrl(name)} has ${found} bytes, more than the ${most} of limits.file; nothing of it was kept`,
    'check that it is the file that is meant, and raise limits.file of its source in cdl.yaml',
  );
}

/** Something that is written to a file. */
export interface Incoming {
  name: string;
  body: Readable;
  /** Bytes that the file already has, from an attempt before. */
  start: number;
  /** What the file will have in the end, in bytes; null when the sender does not say. */
  total: number | null;
}

/**
 * Appends what comes to a file (from `start` on; 0 begins anew) and gives the sha256 of all of it. Throws UserError
 * data-invalid beyond `most` bytes, Unreachable when it ends early or a minute passes without a byte; what came till then
 * stays in the file.
 */
export async function spool(
  incoming: Incoming,
  path: string,
  most: number,
  signal: AbortSignal,
  onBytes?: (bytes: number, total: number | null) => void,
): Promise<string> {
  const { name, body, start, total } = incoming;
  if (total !== null && total > most) {
    body.destroy();
    throw tooLarge(name, String(total), most);
  }
  const stall = () => body.destroy(new Unreachable(`no byte for ${silence / 1000} s`, true));
  const halt = () => body.destroy(signal.reason instanceof Error ? signal.reason : new Error('stopped'));
  let timer = setTimeout(stall, silence);
  signal.addEventListener('abort', halt, { once: true });
  try {
    signal.throwIfAborted();
    const hash = createHash('sha256');
    if (start > 0) await hashInto(hash, path, start);
    // Written here and not by a pipeline: one that fails throws away what it has not written yet.
    const file = await open(path, start > 0 ? 'r+' : 'w');
    let bytes = start;
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        clearTimeout(timer);
        // Counted, too: a server need not say how much comes, or say it truly.
        if (bytes + chunk.length > most) throw tooLarge(name, `at least ${bytes + chunk.length}`, most);
        hash.update(chunk);
        await writeAll(file, chunk, bytes);
        bytes += chunk.length;
        onBytes?.(bytes, total);
        timer = setTimeout(stall, silence);
      }
    } finally {
      await file.close();
    }
    signal.throwIfAborted();
    if (total !== null && bytes !== total)
      throw new Unreachable(`the connection ended after ${bytes} of ${total} bytes`, true);
    return hash.digest('hex');
  } catch (error) {
    if (error instanceof Unreachable || error instanceof UserError) throw error;
    throw asUnreachable(error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', halt);
    body.destroy();
  }
}

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    done += (await file.write(chunk, done, chunk.length - done, position + done)).bytesWritten;
  }
}

async function hashInto(hash: Hash, path: string, end: number): Promise<void> {
  for await (const chunk of createReadStream(path, { end: end - 1, highWaterMark: 1 << 20 })) {
    hash.update(chunk as Buffer);
  }
}
