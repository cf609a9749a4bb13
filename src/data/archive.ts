import { constants } from 'node:buffer';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { UserError } from '../core/error.ts';
import { defaultLimits, type SourceLimits } from '../core/project-read.ts';
import { countUnpacked, damaged } from './archive-guard.ts';
import { archiveKind, bytesOf, changedHint, isGzip, pathOf, readEntries } from './entries.ts';
import { type FetchedSource, sourceNames } from './sources.ts';

/** Tensors are held in memory: no single file of them may have more than a buffer can, whatever `limits:` says. */
const largestFile = constants.MAX_LENGTH;

type SourceFile = FetchedSource['files'][number];

/**
 * Hands the wanted files of a source to `use`, each whole, one at a time and in no particular order. Files of an archive
 * (an npm package, or a single `.tgz`/`.tar.gz`/`.tar`/zip) are named by their path in it, others by the end of their path
 * or URL; `.gz` files are unpacked. Throws UserError file-missing for one that is not there, data-invalid for a file that is
 * damaged, or larger than memory or the `limits:` of the source allow.
 */
export async function readFiles(
  fetched: FetchedSource,
  wanted: readonly string[],
  use: (name: string, bytes: Buffer) => void,
): Promise<void> {
  const limits = fetched.source.limits ?? defaultLimits;
  const missing = new Set(wanted);
  const plain: SourceFile[] = [];
  for (const file of fetched.files) {
    if (file.plain?.problem) continue;
    if (!(await isArchive(file, fetched.source.npm !== undefined))) plain.push(file);
    else await readArchive({ ...fetched, files: [file] }, missing, use);
  }
  for (const name of [...missing]) {
    const found =
      plain.find((file) => file.name === name) ??
      plain.find((file) => pathOf(file.name).split('/').slice(-name.split('/').length).join('/') === name);
    if (!found) continue;
    missing.delete(name);
    use(name, await readPlain(found, limits));
  }
  if (missing.size > 0) {
    const names = sourceNames(fetched.source).join(', ');
    throw new UserError('file-missing', `the source ${names} has no ${[...missing].join(', ')}`);
  }
}

/** A single gzip file without the ending of a tar is one file of tensors here. */
async function isArchive(file: SourceFile, isPackage: boolean): Promise<boolean> {
  if (file.plain) return false;
  if (isPackage || /\.(tgz|tar|tar\.gz)$/i.test(pathOf(file.name))) return true;
  return (await archiveKind(file.path, file.name)) === 'zip';
}

async function readArchive(
  fetched: FetchedSource,
  missing: Set<string>,
  use: (name: string, bytes: Buffer) => void,
): Promise<void> {
  const [{ name }] = fetched.files as [SourceFile];
  if (missing.size === 0) return;
  for await (const entry of readEntries(fetched)) {
    if (!missing.has(entry.path) || entry.problem !== null) continue;
    const bytes = await bytesOf(entry, largestFile);
    if (bytes === null) throw tooLarge(`${entry.path} in ${name}`);
    missing.delete(entry.path);
    use(entry.path, bytes);
    if (missing.size === 0) return;
  }
}

const tooLarge = (what: string) =>
  new UserError(
    'data-invalid',
    `${what} has more than ${largestFile} bytes, and tensors are held in memory`,
    'split it into several files, or collect the items one by one: item: file or item: image',
  );

/** The bytes of a file that is no archive, unpacked when they are gzip, whatever it is called. */
async function readPlain(file: SourceFile, limits: SourceLimits): Promise<Buffer> {
  const { path, name } = file;
  const { size } = await stat(path);
  if (size > largestFile) throw tooLarge(name);
  const packed = await isGzip(path);
  const hash = createHash('sha256');
  const count = packed ? countUnpacked(name, size, limits) : () => {};
  const source = createReadStream(path, { highWaterMark: 1 << 20 });
  const changed = () => new UserError('data-invalid', `${path} changed while it was read`, changedHint);
  // What is not packed goes to its place at once: gathered first, it would be in memory twice.
  const whole = packed ? null : Buffer.allocUnsafeSlow(size);
  const chunks: Buffer[] = [];
  let bytes = 0;
  const take = async (from: Readable) => {
    for await (const chunk of from as AsyncIterable<Buffer>) {
      const at = bytes;
      bytes += chunk.length;
      count(chunk.length);
      if (bytes > (whole?.length ?? largestFile)) throw whole ? changed() : tooLarge(name);
      if (!whole) chunks.push(chunk);
      else {
        whole.set(chunk, at);
        hash.update(chunk);
      }
    }
  };
  try {
    if (packed) {
      const unpacked = createGunzip();
      source.on('error', (error) => unpacked.destroy(error));
      // The folder was looked at as it lies there: packed.
      source.on('data', (chunk) => hash.update(chunk));
      await take(source.pipe(unpacked));
    } else await take(source);
  } catch (cause) {
    throw damaged(name, cause);
  } finally {
    source.destroy();
  }
  if ((whole && bytes < size) || (file.plain && hash.digest('hex') !== file.sha256)) throw changed();
  return whole ?? Buffer.concat(chunks, bytes);
}
