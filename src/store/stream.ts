import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { pipeline as join, type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';

/**
 * The same bytes, failing with UserError artifact-corrupt instead of ending when they are not those that `digest` names.
 * `where` is for the message. An error of the source, and its premature end, arrive too; destroying one destroys the other.
 */
export function verified(source: Readable, digest: Digest, where: string): Readable {
  const hash = createHash('sha256');
  const check = new Transform({
    transform(chunk, _encoding, done) {
      hash.update(chunk);
      done(null, chunk);
    },
    flush(done) {
      const actual = `sha256:${hash.digest('hex')}`;
      done(
        actual === digest
          ? null
          : new UserError('artifact-corrupt', `${where} has the content of ${actual}, not of ${digest}`),
      );
    },
  });
  // The error reaches the reader through `check`; without a callback it would be thrown a second time, at nobody.
  join(source, check, () => undefined);
  return check;
}

/** Digest and size in bytes of a local file, read as a stream. Throws UserError file-missing. */
export async function hashFile(path: string): Promise<{ digest: Digest; size: number }> {
  const hash = createHash('sha256');
  let size = 0;
  try {
    for await (const chunk of createReadStream(path)) {
      hash.update(chunk);
      size += chunk.length;
    }
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') {
      throw new UserError('file-missing', `${path} does not exist`, undefined, { cause });
    }
    throw cause;
  }
  return { digest: `sha256:${hash.digest('hex')}`, size };
}

/** Writes a stream to a new file; the caller removes what a failure left. */
export async function saveStream(source: Readable, path: string): Promise<void> {
  await pipeline(source, createWriteStream(path, { flags: 'wx' }));
}
