import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { UserError } from '../core/error.ts';
import { changedHint } from './entries.ts';
import type { FetchedSource } from './sources.ts';

/** No single file of a source may unpack to more than this many bytes. */
const largestFile = 1 << 30;

/**
 * Hands the wanted files of a source to `use`, each whole, one at a time and in no particular order. Files of an archive
 * (an npm package, or a single `.tgz`/`.tar.gz`/`.tar`) are named by their path in it, others by the end of their path or
 * URL; `.gz` files are unpacked. Throws UserError file-missing for one that is not there, data-invalid for a file that is
 * larger than it may be or damaged.
 */
export async function readFiles(
  fetched: FetchedSource,
  wanted: readonly string[],
  use: (name: string, bytes: Buffer) => void,
): Promise<void> {
  const archives = fetched.files.filter(
    (file) =>
      !file.plain && (fetched.source.npm !== undefined || /\.(tgz|tar|tar\.gz)$/.test(pathOf(file.name))),
  );
  const missing = new Set(wanted);
  for (const file of archives) await readArchive(file, missing, use);
  for (const name of [...missing]) {
    const plain = fetched.files.filter((file) => !archives.includes(file));
    const found =
      plain.find((file) => file.name === name) ??
      plain.find((file) => pathOf(file.name).split('/').slice(-name.split('/').length).join('/') === name);
    if (!found) continue;
    missing.delete(name);
    const bytes = await readPlain(found.path, found.name, found.plain ? found.sha256 : null);
    use(name, bytes);
  }
  if (missing.size > 0) {
    const names = fetched.files.map((file) => file.name).join(', ');
    throw new UserError('file-missing', `the source ${names} has no ${[...missing].join(', ')}`);
  }
}

/** The path of a URL, or the path itself. */
function pathOf(name: string): string {
  return URL.canParse(name) ? decodeURIComponent(new URL(name).pathname) : name;
}

async function readPlain(path: string, name: string, sha256: string | null): Promise<Buffer> {
  const bytes = await readFile(path);
  if (sha256 !== null && createHash('sha256').update(bytes).digest('hex') !== sha256)
    throw new UserError('data-invalid', `${path} changed while it was read`, changedHint);
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    return await promisify(gunzip)(bytes, { maxOutputLength: largestFile });
  } catch (cause) {
    throw new UserError(
      'data-invalid',
      `${name} cannot be unpacked: ${(cause as Error).message}`,
      undefined,
      {
        cause,
      },
    );
  }
}

/** Nothing is written to disk, so no path in the archive can lead anywhere; links and devices are passed over. */
async function readArchive(
  file: FetchedSource['files'][number],
  missing: Set<string>,
  use: (name: string, bytes: Buffer) => void,
): Promise<void> {
  const { Parser } = await import('tar');
  let failure: unknown = null;
  const parser = new Parser({
    strict: true,
    maxMetaEntrySize: 1 << 20,
    filter: (path) => missing.has(path),
    onReadEntry: (entry) => {
      if (!missing.has(entry.path) || (entry.type !== 'File' && entry.type !== 'OldFile')) {
        entry.resume();
        return;
      }
      if (entry.size > largestFile) {
        failure ??= new UserError('data-invalid', `${entry.path} in ${file.name} has ${entry.size} bytes`);
        entry.resume();
        return;
      }
      const chunks: Buffer[] = [];
      entry.on('data', (chunk) => chunks.push(Buffer.from(chunk)));
      entry.on('end', () => {
        try {
          if (failure === null && missing.delete(entry.path)) use(entry.path, Buffer.concat(chunks));
        } catch (error) {
          failure ??= error;
        }
      });
    },
  });
  try {
    await new Promise<void>((resolve, reject) => {
      parser.on('end', resolve);
      parser.on('error', reject);
      pipeline(createReadStream(file.path, { highWaterMark: 1 << 18 }), async (source) => {
        for await (const chunk of source as AsyncIterable<Buffer>) {
          if (failure !== null || missing.size === 0) break;
          if (!parser.write(chunk)) await new Promise((drained) => parser.once('drain', drained));
        }
        if (failure !== null || missing.size === 0) resolve();
        else parser.end();
      }).catch(reject);
    });
  } catch (cause) {
    throw new UserError(
      'data-invalid',
      `${file.name} cannot be unpacked: ${(cause as Error).message}`,
      undefined,
      {
        cause,
      },
    );
  }
  if (failure !== null) throw failure;
}
