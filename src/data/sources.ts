import { createReadStream } from 'node:fs';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { UserError } from '../core/error.ts';
import type { SourceConfig } from '../core/project.ts';
import { defaultLimits } from '../core/project-read.ts';
import { hashOfFile } from './hash.ts';
import { persistently, Unreachable } from './source/attempts.ts';
import type { BucketPlace } from './source/bucket.ts';
import { openSourceCache, type SourceCache } from './source/cache.ts';
import { type Downloaded, discard, download } from './source/download.ts';
import { asFolder, listFolder } from './source/folder.ts';
import { inOrder } from './source/in-order.ts';
import { decodeListing, encodeListing, type ListedFile, listingDigest } from './source/listing.ts';
import { downloadsAtOnce, type FetchOptions } from './source/options.ts';
import { plainUrl } from './source/plain-url.ts';
import { spool } from './source/spool.ts';

export type { FetchOptions, FetchProgress } from './source/options.ts';

/** Verified local copies of a source's files, in the order of the source. */
export interface FetchedSource {
  /** With the sha256 that its bytes have, also where cdl.yaml pins none. */
  source: SourceConfig;
  files: {
    name: string;
    path: string;
    sha256: string;
    /** A file of a folder, which is read where it lies: never an archive; with why it cannot be an item. */
    plain?: { problem: string | null };
  }[];
}

/**
 * The first source that can be had, from the cache when its bytes are there. Throws UserError source-mismatch when bytes
 * are not those of the pin (nothing is kept, no further source is tried: that is not an outage), source-unreachable
 * naming every source with its reason when none can be reached.
 */
export async function fetchFirst(
  sources: readonly SourceConfig[],
  options: FetchOptions,
): Promise<FetchedSource> {
  const reasons: string[] = [];
  for (const source of sources) {
    try {
      return await fetchSource(source, options);
    } catch (error) {
      if (!(error instanceof UserError) || error.code !== 'source-unreachable') throw error;
      reasons.push(error.message);
    }
  }
  throw new UserError('source-unreachable', reasons.join('\n'));
}

/** As {@link fetchFirst}, for one source. Several of its files are downloaded at once. */
export async function fetchSource(source: SourceConfig, options: FetchOptions): Promise<FetchedSource> {
  const names = sourceNames(source);
  const pins = pinsOf(source);
  if (pins !== null && pins.length !== names.length) {
    throw new UserError(
      'config-invalid',
      `source ${names[0]}: ${names.length} files but ${pins.length} sha256; give one for each, in order`,
    );
  }
  const cache = await openSourceCache(options.cacheFolder);
  const parts = await inOrder(names, downloadsAtOnce, options.signal, (name, index, signal) =>
    fetchNamed(cache, source, name, pins?.[index] ?? null, { ...options, signal }),
  );
  const found = parts.map((part) => part.sha256);
  const one = typeof source.sha256 === 'string' || (pins === null && found.length === 1);
  return {
    source: { ...source, sha256: one ? found[0]! : found },
    files: parts.flatMap((part) => part.files),
  };
}

/** What one name of a source stands for: a file, or all files of a folder, which one sha256 pins together. */
async function fetchNamed(
  cache: SourceCache,
  source: SourceConfig,
  name: string,
  pin: string | null,
  options: FetchOptions,
): Promise<{ sha256: string; files: FetchedSource['files'] }> {
  const most = (source.limits ?? defaultLimits).file;
  const again = <T>(action: () => Promise<T>) => persistently(name, options, action);
  if (source.file) {
    const folder = await asFolder(name, options.root ?? '.');
    if (folder)
      return asFiles(name, pin, options, await again(() => listFolder(name, folder, most, options)));
  }
  const isFolder = source.git !== undefined || (source.s3 !== undefined && name.split('?')[0]!.endsWith('/'));
  if (!isFolder) {
    // The copy in the cache would hide that a file here is another one by now.
    const local =
      source.file && options.recorded ? await hashOfFile(resolve(options.root ?? '.', name)) : null;
    if (local !== null && local !== pin) throw mismatch(name, local, pin!, options);
    const got = await obtain(cache, source, name, pin, options);
    return { sha256: got.sha256, files: [{ name, ...got }] };
  }
  const known = pin === null ? null : await cachedListing(cache, pin);
  if (known) return asFiles(name, pin, options, known);
  const fetched = await again(() =>
    source.git
      ? import('./source/git.ts').then(({ fetchGit }) => fetchGit(source.git!, cache, most, options))
      : fetchBelow(name, cache, source, options),
  );
  const made = asFiles(name, pin, options, fetched);
  const text = cache.temporary();
  await writeFile(text, encodeListing(fetched.listed));
  await cache.adopt(text, made.sha256);
  return made;
}

/** All objects below a prefix of a bucket. */
async function fetchBelow(
  name: string,
  cache: SourceCache,
  source: SourceConfig,
  options: FetchOptions,
): Promise<Listed> {
  const { bucketError, fetchPrefix, objectUrl, openPlace } = await import('./source/bucket.ts');
  const place = await openPlace(name, options).catch((error: unknown) => {
    throw bucketError(error);
  });
  return fetchPrefix(name, place, options, (key, signal) => {
    return obtain(
      cache,
      source,
      objectUrl(name, key),
      null,
      { ...options, signal, onProgress: () => {} },
      { ...place, key },
    );
  });
}

/** The files of a folder and where they lie, in the same order. */
interface Listed {
  listed: ListedFile[];
  paths: string[];
}

function asFiles(name: string, pin: string | null, options: FetchOptions, { listed, paths }: Listed) {
  const sha256 = listingDigest(listed);
  if (pin !== null && sha256 !== pin) throw mismatch(name, sha256, pin, options);
  const files = listed.map((file, at) => ({
    name: file.path,
    path: paths[at]!,
    sha256: 'sha256' in file ? file.sha256 : '',
    plain: { problem: 'problem' in file ? file.problem : null },
  }));
  return { sha256, files };
}

/** The files of a listing that is in the cache with all of them; null when something is not there. */
async function cachedListing(cache: SourceCache, pin: string): Promise<Listed | null> {
  const path = await cache.find(pin);
  if (path === null) return null;
  const listed = decodeListing(await readFile(path, 'utf8'));
  const paths: string[] = [];
  for (const file of listed) {
    const found = 'sha256' in file ? await cache.find(file.sha256) : '';
    if (found === null) return null;
    paths.push(found);
  }
  return { listed, paths };
}

/** What cdl.yaml pins of a source, one for each of its names; null for a source that is not pinned. */
export function pinsOf(source: SourceConfig): string[] | null {
  return source.sha256 === undefined ? null : [source.sha256].flat();
}

/** The sources a side is made of: those declared for it, or all where none is declared for a side. */
export function sourcesOfSide(sources: readonly SourceConfig[], side: 'train' | 'test'): SourceConfig[] {
  return sources.filter((source) => (source.side ?? side) === side);
}

/** The part of a source that says where it is. */
export type SourcePlace = Pick<SourceConfig, 'npm' | 'https' | 'file' | 's3' | 'git'>;

/** What a source's parts are called, each with a sha256 of its own: the npm specifier, URLs, paths, `repository@ref:path`. */
export function sourceNames(source: SourcePlace): string[] {
  if (source.npm !== undefined) return [source.npm];
  if (source.git) {
    const { url, ref, path } = source.git;
    return [`${url}@${ref}${path === '' ? '' : `:${path}`}`];
  }
  return source.https ?? source.s3 ?? source.file ?? [];
}

/** One file of a source. What is not that of its pin is thrown away whole. */
async function obtain(
  cache: SourceCache,
  source: SourceConfig,
  name: string,
  pin: string | null,
  options: FetchOptions,
  place?: Pick<BucketPlace, 'store' | 'key'>,
): Promise<{ sha256: string; path: string }> {
  const most = (source.limits ?? defaultLimits).file;
  const make = async (part: string): Promise<string> => {
    let got = 0;
    let before = 0;
    const watched: FetchOptions = {
      ...options,
      onProgress(progress) {
        got = Math.max(got, progress.bytes);
        options.onProgress?.(progress);
      },
    };
    const further = () => {
      const is = got > before;
      before = got;
      return is;
    };
    for (let anew = false; ; anew = true) {
      const { sha256, resumed } = await persistently(
        name,
        options,
        () => attempt(source, name, pin, part, most, watched, place),
        further,
      );
      if (pin === null || sha256 === pin) return sha256;
      await discard(part);
      // Parts of two different files, perhaps: only a whole one can be called wrong.
      if (resumed && !anew) continue;
      throw mismatch(name, sha256, pin, options);
    }
  };
  return cache.obtain(pin ?? name, pin, make, options.signal);
}

/** The error of bytes that are not those of the pin, or of what was recorded when they were first seen. */
function mismatch(name: string, actual: string, pin: string, options: FetchOptions): UserError {
  const has = `${plainUrl(name)} has sha256 ${actual}, but`;
  if (!options.recorded) {
    return new UserError('source-mismatch', `${has} cdl.yaml pins ${pin}; nothing of it was kept`);
  }
  return new UserError(
    'source-mismatch',
    `${has} ${pin} was recorded when this data set was first collected; nothing of it was kept`,
    'a data version never changes: run cdl data pin and commit cdl.yaml to take up what is there now',
  );
}

async function attempt(
  source: SourceConfig,
  name: string,
  pin: string | null,
  part: string,
  most: number,
  options: FetchOptions,
  place?: Pick<BucketPlace, 'store' | 'key'>,
): Promise<Downloaded> {
  if (source.s3 !== undefined) {
    const { downloadObject, openPlace } = await import('./source/bucket.ts');
    return downloadObject(name, place ?? (await openPlace(name, options)), part, most, options);
  }
  if (source.https !== undefined) return download({ url: name, pin, part, most }, options);
  if (source.npm !== undefined) {
    const { downloadPackage } = await import('./source/npm.ts');
    return { sha256: await downloadPackage(name, part, most, options), resumed: false };
  }
  return { sha256: await copyFile(name, part, most, options), resumed: false };
}

async function copyFile(name: string, part: string, most: number, options: FetchOptions): Promise<string> {
  const path = resolve(options.root ?? '.', name);
  const info = await stat(path).catch((cause: unknown) => {
    throw new Unreachable(`there is no file ${path}`, false, { cause });
  });
  return spool(
    { name, body: createReadStream(path, { highWaterMark: 1 << 20 }), start: 0, total: info.size },
    part,
    most,
    options.signal ?? new AbortController().signal,
    (bytes, total) => options.onProgress?.({ what: name, bytes, total }),
  );
}
