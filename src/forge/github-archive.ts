import { UserError } from '../core/error.ts';
import { readBody } from './http.ts';

/**
 * One file out of a zip; null when it is not there. Throws UserError artifact-corrupt for what is no zip, and for a file
 * longer than `limit` bytes, whatever the directory of the zip says about its length. `what` names the zip in messages.
 */
export async function readArchive(
  archive: Buffer,
  path: string,
  limit: number,
  what: string,
): Promise<Buffer | null> {
  const { fromBuffer } = await import('yauzl');
  type ZipFile = import('yauzl').ZipFile;
  const broken = (cause: unknown) =>
    new UserError('artifact-corrupt', `${what} is not a zip that can be read`, undefined, { cause });
  const zip = await new Promise<ZipFile>((resolve, reject) => {
    fromBuffer(archive, { lazyEntries: true, strictFileNames: true }, (error, opened) =>
      opened ? resolve(opened) : reject(broken(error)),
    );
  });
  const entry = await new Promise<import('yauzl').Entry | null>((resolve, reject) => {
    zip.on('entry', (one: import('yauzl').Entry) => {
      if (one.fileName === path) resolve(one);
      else zip.readEntry();
    });
    zip.on('end', () => resolve(null));
    zip.on('error', (error: unknown) => reject(broken(error)));
    zip.readEntry();
  });
  if (!entry) return null;
  const tooLong = new UserError('artifact-corrupt', `${path} in ${what} is longer than ${limit} bytes`);
  if (entry.uncompressedSize > limit) throw tooLong;
  const stream = await new Promise<NodeJS.ReadableStream>((resolve, reject) => {
    zip.openReadStream(entry, (error, opened) => (opened ? resolve(opened) : reject(broken(error))));
  });
  const bytes = await readBody(stream as import('node:stream').Readable, limit).catch((error: unknown) => {
    throw broken(error);
  });
  if (!bytes) throw tooLong;
  return bytes;
}
