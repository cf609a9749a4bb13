import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { UserError } from '../core/error.ts';
import type { SourceConfig } from '../core/project.ts';
import { defaultLimits } from '../core/project-read.ts';
import { persistently, Unreachable } from './source/attempts.ts';
import { openSourceCache, type SourceCache } from './source/cache.ts';
import { type Downloaded, discard, download } from './source/download.ts';
import { inOrder } from './source/in-order.ts';
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
  const files = await inOrder(names, downloadsAtOnce, options.signal, async (name, index, signal) => {
    const got = await obtain(cache, source, name, pins?.[index] ?? null, { ...options, signal });
    return { name, ...got };
  });
  const found = files.map((file) => file.sha256);
  const one = typeof source.sha256 === 'string' || (pins === null && found.length === 1);
  return { source: { ...source, sha256: one ? found[0]! : found }, files };
}

/** What cdl.yaml pins of a source, one for each of its names; null for a source that is not pinned. */
export function pinsOf(source: SourceConfig): string[] | null {
  return source.sha256 === undefined ? null : [source.sha256].flat();
}

/** The sources a side is made of: those declared for it, or all where none is declared for a side. */
export function sourcesOfSide(sources: readonly SourceConfig[], side: 'train' | 'test'): SourceConfig[] {
  return sources.filter((source) => (source.side ?? side) === side);
}

/** What a source's files are called: the npm specifier, the URLs or the paths. */
export function sourceNames(source: SourceConfig): string[] {
  return source.npm !== undefined ? [source.npm] : (source.https ?? source.file ?? []);
}

/** One file of a source. What is not that of its pin is thrown away whole. */
async function obtain(
  cache: SourceCache,
  source: SourceConfig,
  name: string,
  pin: string | null,
  options: FetchOptions,
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
        () => attempt(source, name, pin, part, most, watched),
        further,
      );
      if (pin === null || sha256 === pin) return sha256;
      await discard(part);
      // Parts of two different files, perhaps: only a whole one can be called wrong.
      if (resumed && !anew) continue;
      throw mismatch(name, sha256, pin);
    }
  };
  return cache.obtain(pin ?? name, pin, make, options.signal);
}

/** The error of bytes that are not those of the pin. */
export function mismatch(name: string, actual: string, pin: string): UserError {
  return new UserError(
    'source-mismatch',
    `${plainUrl(name)} has sha256 ${actual}, but cdl.yaml pins ${pin}; nothing of it was kept`,
  );
}

async function attempt(
  source: SourceConfig,
  name: string,
  pin: string | null,
  part: string,
  most: number,
  options: FetchOptions,
): Promise<Downloaded> {
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
