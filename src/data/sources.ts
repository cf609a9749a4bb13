import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { UserError } from '../core/error.ts';
import type { SourceConfig } from '../core/project.ts';
import { defaultLimits } from '../core/project-read.ts';
import { isOwnerGone, ownerName } from '../exec/owner.ts';
import { hashOfFile } from './hash.ts';

/** How far a download is; `total` in bytes is null when the server does not say. */
export interface FetchProgress {
  what: string;
  bytes: number;
  total: number | null;
}

/** Where downloads go and what they may use. */
export interface FetchOptions {
  /** Verified files are kept in its `sources/`, by sha256. */
  cacheFolder: string;
  /** Relative paths of `file:` sources start here. */
  root?: string;
  /** Base URL of the npm registry; the caller knows npm's own configuration. */
  npmRegistry?: string;
  signal?: AbortSignal;
  onProgress?: (progress: FetchProgress) => void;
  /** First pause before a retry, in milliseconds; doubles each time. Default 500. */
  retryDelay?: number;
}

/** Verified local copies of a source's files, in the order of the source. */
export interface FetchedSource {
  source: SourceConfig;
  files: {
    name: string;
    path: string;
    sha256: string;
    /** A file of a folder, which is read where it lies: never an archive; with why it cannot be an item. */
    plain?: { problem: string | null };
  }[];
}

/** Why one attempt did not succeed; `retryable` when the same attempt may work a moment later. */
class Unreachable extends Error {
  readonly retryable: boolean;
  constructor(message: string, retryable: boolean, options?: ErrorOptions) {
    super(message, options);
    this.retryable = retryable;
  }
}

const attempts = 4;
/** A server that sends nothing for this long (milliseconds) is taken for gone. */
const stall = 60_000;

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

/** As {@link fetchFirst}, for one source. */
export async function fetchSource(source: SourceConfig, options: FetchOptions): Promise<FetchedSource> {
  const names = sourceNames(source);
  const pins = typeof source.sha256 === 'string' ? [source.sha256] : source.sha256;
  if (pins.length !== names.length) {
    throw new UserError(
      'config-invalid',
      `source ${names[0]}: ${names.length} files but ${pins.length} sha256; give one for each, in order`,
    );
  }
  const files: FetchedSource['files'] = [];
  for (const [index, name] of names.entries()) {
    const sha256 = pins[index]!;
    files.push({ name, sha256, path: await obtain(source, name, sha256, options) });
  }
  return { source, files };
}

/** The sources a side is made of: those declared for it, or all where none is declared for a side. */
export function sourcesOfSide(sources: readonly SourceConfig[], side: 'train' | 'test'): SourceConfig[] {
  return sources.filter((source) => (source.side ?? side) === side);
}

/** What a source's files are called: the npm specifier, the URLs or the paths. */
export function sourceNames(source: SourceConfig): string[] {
  return source.npm !== undefined ? [source.npm] : (source.https ?? source.file ?? []);
}

async function obtain(
  source: SourceConfig,
  name: string,
  sha256: string,
  options: FetchOptions,
): Promise<string> {
  const folder = join(options.cacheFolder, 'sources');
  const path = join(folder, sha256);
  // Hashing again is cheap beside parsing, and a damaged cache must not become somebody's data set.
  if ((await hashOfFile(path)) === sha256) return path;
  await mkdir(folder, { recursive: true });
  await removeLeftovers(folder);
  const temporary = `${path}.${ownerName()}`;
  try {
    const actual = await persistently(name, options, () => download(source, name, temporary, options));
    if (actual !== sha256) {
      throw new UserError(
        'source-mismatch',
        `${name} has sha256 ${actual}, but cdl.yaml pins ${sha256}; nothing of it was kept`,
      );
    }
    await rename(temporary, path);
    return path;
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Tries again after a failure that may pass, with doubling pauses. */
async function persistently<T>(name: string, options: FetchOptions, action: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      options.signal?.throwIfAborted();
      return await action();
    } catch (error) {
      if (options.signal?.aborted) {
        throw new UserError('interrupted', `the download of ${name} was stopped`, undefined, {
          cause: error,
        });
      }
      if (!(error instanceof Unreachable)) throw error;
      if (!error.retryable || attempt === attempts) {
        throw new UserError('source-unreachable', `${name}: ${error.message}`, undefined, { cause: error });
      }
      // Aborted while it waits, the next round says so.
      await delay((options.retryDelay ?? 500) * 2 ** (attempt - 1), undefined, {
        signal: options.signal,
      }).catch(() => undefined);
    }
  }
}

/** What downloads of processes that were killed have left behind. */
async function removeLeftovers(folder: string): Promise<void> {
  for (const entry of await readdir(folder)) {
    const dot = entry.indexOf('.');
    if (dot < 0) continue;
    const path = join(folder, entry);
    const info = await stat(path).catch(() => null);
    if (info && isOwnerGone(entry.slice(dot + 1), info.mtimeMs)) await rm(path, { force: true });
  }
}

/** Streams one file to `path`, hashing on the way. Returns its sha256. */
async function download(
  source: SourceConfig,
  name: string,
  path: string,
  options: FetchOptions,
): Promise<string> {
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  let timer = setTimeout(() => stop.abort(), stall);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), stall);
  };
  try {
    const most = (source.limits ?? defaultLimits).file;
    const { body, total } = await openSource(source, name, options, signal);
    const tooLarge = (found: string) =>
      new UserError(
        'data-invalid',
        `${name} has ${found} bytes, more than the ${most} of limits.file; nothing of it was kept`,
        'check that it is the file that is meant, and raise limits.file of its source in cdl.yaml',
      );
    if (total !== null && total > most) {
      body.destroy();
      throw tooLarge(String(total));
    }
    const hash = createHash('sha256');
    let bytes = 0;
    const meter = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        alive();
        hash.update(chunk);
        bytes += chunk.length;
        // Counted, too: a server need not say how much comes, or say it truly.
        if (bytes > most) return done(tooLarge(`at least ${bytes}`));
        options.onProgress?.({ what: name, bytes, total });
        done(null, chunk);
      },
    });
    await pipeline(body, meter, createWriteStream(path, { flags: 'w' }), { signal });
    if (total !== null && bytes !== total) {
      throw new Unreachable(`the connection ended after ${bytes} of ${total} bytes`, true);
    }
    return hash.digest('hex');
  } catch (error) {
    if (error instanceof Unreachable || error instanceof UserError) throw error;
    if (stop.signal.aborted) throw new Unreachable(`no byte for ${stall / 1000} s`, true, { cause: error });
    throw asUnreachable(error);
  } finally {
    clearTimeout(timer);
  }
}

/** Failures of the network are retried; a full disk, say, is neither retried nor taken for an outage. */
function asUnreachable(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const cause = error.cause instanceof Error ? error.cause : error;
  const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : '';
  const text = cause.message || code;
  if (/^(ENOTFOUND|ECONNREFUSED|ERR_INVALID_URL|CERT_|ERR_TLS|DEPTH_|SELF_SIGNED|UNABLE_TO)/.test(code)) {
    return new Unreachable(text, false, { cause: error });
  }
  const network =
    /^(EAI_AGAIN|ECONN|EPIPE|ETIMEDOUT|EHOST|ENET|UND_ERR|ERR_STREAM_PREMATURE_CLOSE|HPE_)/.test(code);
  if (network || error instanceof TypeError || error.message === 'terminated') {
    return new Unreachable(text, true, { cause: error });
  }
  return error;
}

interface Opened {
  body: Readable;
  total: number | null;
}

async function openSource(
  source: SourceConfig,
  name: string,
  options: FetchOptions,
  signal: AbortSignal,
): Promise<Opened> {
  if (source.file !== undefined) {
    const path = resolve(options.root ?? '.', name);
    const info = await stat(path).catch((cause: unknown) => {
      throw new Unreachable(`there is no file ${path}`, false, { cause });
    });
    return { body: createReadStream(path), total: info.size };
  }
  const url =
    source.npm === undefined
      ? name
      : await npmTarball(name, options.npmRegistry ?? 'https://registry.npmjs.org/', signal);
  const response = await request(url, {}, signal);
  const encoded = response.headers.has('content-encoding');
  const length = response.headers.get('content-length');
  if (!response.body) throw new Unreachable(`${url} answered without a body`, true);
  return {
    // The web stream of fetch and the one of node:stream/web are the same thing under two declarations.
    body: Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]),
    total: length === null || encoded ? null : Number(length),
  };
}

async function request(url: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
  const response = await fetch(url, { headers, signal, redirect: 'follow' });
  if (response.ok) return response;
  await response.body?.cancel();
  const retryable = response.status >= 500 || response.status === 429 || response.status === 408;
  throw new Unreachable(`${url} answered ${response.status} ${response.statusText}`.trim(), retryable);
}

/** The tarball's URL from the package's abbreviated metadata (npm/registry, docs/responses/package-metadata.md). */
async function npmTarball(specifier: string, registry: string, signal: AbortSignal): Promise<string> {
  const at = specifier.lastIndexOf('@');
  const [name, version] = [specifier.slice(0, at), specifier.slice(at + 1)];
  if (at <= 0 || version === '') {
    throw new UserError('config-invalid', `npm source "${specifier}" is not package@version`);
  }
  const base = registry.endsWith('/') ? registry : `${registry}/`;
  const url = `${base}${name.replace('/', '%2f')}`;
  const response = await request(url, { accept: 'application/vnd.npm.install-v1+json' }, signal);
  const document: unknown = await response.json().catch(() => null);
  const versions = property(document, 'versions');
  const tarball = property(property(property(versions, version), 'dist'), 'tarball');
  if (typeof tarball !== 'string') throw new Unreachable(`${url} has no version ${version}`, false);
  return tarball;
}

function property(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined;
}
