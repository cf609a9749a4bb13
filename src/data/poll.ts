import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { z } from 'zod';
import type { PinChange } from '../core/data-news.ts';
import { UpstreamError, UserError } from '../core/error.ts';
import type { SourceConfig } from '../core/project.ts';
import { defaultLimits } from '../core/project-read.ts';
import { Unreachable } from './source/attempts.ts';
import { asFolder } from './source/folder.ts';
import { ask } from './source/http.ts';
import type { FetchOptions } from './source/options.ts';
import { plainUrl } from './source/plain-url.ts';
import { sourceNames } from './sources.ts';

/** What a server said of a URL when it was last read: with it an unchanged file costs one request without a body. */
const memorySchema = z.record(
  z.string(),
  z.strictObject({ etag: z.string().nullable(), modified: z.string().nullable(), sha256: z.string() }),
);

/** See {@link memorySchema}. */
export type PollMemory = z.output<typeof memorySchema>;

/** Reads a memory; an unreadable one is an empty one, and everything is read again. */
export function parseMemory(value: unknown): PollMemory {
  const parsed = memorySchema.safeParse(value);
  return parsed.success ? parsed.data : {};
}

/** What looking at the sources found. Sources that could not be looked at are named; they are no news. */
export interface Polled {
  changes: PinChange[];
  memory: PollMemory;
  /** One line for each file or package that was looked at. */
  seen: { name: string; state: 'unchanged' | 'new' | 'not pinned' | 'unreachable'; detail: string }[];
}

/** How sources are reached. What buckets, repositories and registries have that is new goes into the cache. */
export type PollOptions = FetchOptions & Required<Pick<FetchOptions, 'root' | 'npmRegistry' | 'signal'>>;

/**
 * Looks at every source for something newer than its pin: bytes of another sha256 behind a URL, a path or in a bucket, a
 * later version of an npm package (its dist-tag `latest`), a later version tag of a git repository, or a tag that was
 * moved. `withheld` is for sources of the test side. Downloads only what a server does not call unchanged (RFC 9110, 13.1.2). What is not pinned has no news.
 */
export async function pollSources(
  sources: readonly SourceConfig[],
  memory: PollMemory,
  usual: PollOptions,
  withheld: PollOptions = usual,
): Promise<Polled> {
  const polled: Polled = { changes: [], memory: {}, seen: [] };
  for (const [source, config] of sources.entries()) {
    const options = config.side === 'test' ? withheld : usual;
    for (const [file, name] of sourceNames(config).entries()) {
      if (config.sha256 === undefined) {
        polled.seen.push({ name: plainUrl(name), state: 'not pinned', detail: 'pin it with cdl data pin' });
        continue;
      }
      const at = { source, file, name };
      try {
        const changes =
          config.npm !== undefined
            ? await pollPackage(config, at, options)
            : config.s3 !== undefined || config.git !== undefined
              ? await pollRemote(config, at, memory, polled, options)
              : await pollFile(config, at, memory, polled, options);
        polled.changes.push(...changes);
        polled.seen.push({
          name: plainUrl(name),
          state: changes.length > 0 ? 'new' : 'unchanged',
          detail: changes.map((change) => shorten(change.to)).join(', '),
        });
      } catch (error) {
        if (options.signal.aborted || !isOutside(error)) throw error;
        if (memory[name]) polled.memory[name] = memory[name];
        polled.seen.push({ name: plainUrl(name), state: 'unreachable', detail: error.message });
      }
    }
  }
  return polled;
}

/** Whether the source is at fault, not this program: only that may be passed over for the other sources. */
const isOutside = (error: unknown): error is Error =>
  error instanceof UserError ||
  error instanceof UpstreamError ||
  error instanceof Unreachable ||
  // Of the system or of a connection that broke off; Node's own complaints about how it is called begin with ERR_.
  (error instanceof Error && 'code' in error && !String(error.code).startsWith('ERR_'));

const shorten = (pin: string) => (/^[0-9a-f]{64}$/.test(pin) ? pin.slice(0, 12) : pin);

/** Where a pin is, and what is called so. */
interface At {
  source: number;
  file: number;
  name: string;
}

/** The pin of one part of a source as a change, when it is not what is there now. */
function pinChange(config: SourceConfig, { source, file }: At, to: string): PinChange[] {
  const single = typeof config.sha256 === 'string';
  const from = typeof config.sha256 === 'string' ? config.sha256 : config.sha256?.[file];
  return from === undefined || to === from
    ? []
    : [{ source, file: single ? null : file, kind: 'sha256', from, to }];
}

/** A bucket or a repository: what says whether it is as it was is asked for first, the bytes only when it is not. */
async function pollRemote(
  config: SourceConfig,
  at: At,
  memory: PollMemory,
  polled: Polled,
  options: PollOptions,
): Promise<PinChange[]> {
  const { currentPin, readMark } = await import('./poll-remote.ts');
  const { mark, newest } = await readMark(config, at.name, options);
  if (newest !== null && config.git) {
    const to = await currentPin({ ...config, git: { ...config.git, ref: newest } }, at.name, options);
    const git = { source: at.source, kind: 'git', from: config.git.ref, to: newest } as const;
    return [git, ...pinChange(config, at, to)];
  }
  const known = Object.hasOwn(memory, at.name) ? memory[at.name] : undefined;
  const sha256 = known?.etag === mark ? known.sha256 : await currentPin(config, at.name, options);
  polled.memory[at.name] = { etag: mark, modified: null, sha256 };
  return pinChange(config, at, sha256);
}

async function pollFile(
  config: SourceConfig,
  at: At,
  memory: PollMemory,
  polled: Polled,
  options: PollOptions,
): Promise<PinChange[]> {
  if (config.file === undefined)
    return pinChange(config, at, await hashOfUrl(at.name, most(config), memory, polled, options));
  const { currentPin } = await import('./poll-remote.ts');
  const isFolder = (await asFolder(at.name, options.root)) !== null;
  const to = isFolder
    ? await currentPin(config, at.name, options)
    : await hashOf(createReadStream(resolve(options.root, at.name)), most(config), options.signal);
  return pinChange(config, at, to);
}

/** Bytes of one file of a source at most. */
const most = (config: SourceConfig) => (config.limits ?? defaultLimits).file;

async function hashOf(body: Readable, limit: number, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of body) {
    signal.throwIfAborted();
    bytes += (chunk as Buffer).length;
    if (bytes > limit) throw new UserError('data-invalid', `has more than ${limit} bytes (limits.file)`);
    hash.update(chunk as Buffer);
  }
  return hash.digest('hex');
}

/** How long a server may take to answer, in milliseconds. */
const patience = 60_000;

async function hashOfUrl(
  url: string,
  limit: number,
  memory: PollMemory,
  polled: Polled,
  options: PollOptions,
): Promise<string> {
  const known = Object.hasOwn(memory, url) ? memory[url] : undefined;
  const headers: Record<string, string> = {
    ...(known?.etag && { 'if-none-match': known.etag }),
    ...(known && !known.etag && known.modified && { 'if-modified-since': known.modified }),
  };
  // Only until it answers: a large file may take its time.
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), patience);
  const signal = AbortSignal.any([options.signal, late.signal]);
  const answer = await ask(url, headers, options, signal, known ? [304] : []).finally(() =>
    clearTimeout(timer),
  );
  if (answer.status === 304 && known) {
    answer.body.resume();
    polled.memory[url] = known;
    return known.sha256;
  }
  const sha256 = await hashOf(answer.body, limit, options.signal);
  polled.memory[url] = { etag: answer.header('etag'), modified: answer.header('last-modified'), sha256 };
  return sha256;
}

/** The registry's newest version, by its tag `latest`; its archive is fetched, with its integrity checked, when it is another. */
async function pollPackage(config: SourceConfig, at: At, options: PollOptions): Promise<PinChange[]> {
  if (typeof config.sha256 !== 'string') return [];
  const { latestVersion, parsePackage } = await import('./source/npm.ts');
  const { name, version } = parsePackage(at.name);
  const latest = await latestVersion(name, options);
  // An older `latest` is a maintainer taking a release back: news too, and people decide.
  if (latest === version) return [];
  const { currentPin } = await import('./poll-remote.ts');
  const npm = `${name}@${latest}`;
  const to = await currentPin({ ...config, npm }, npm, options);
  return [{ source: at.source, kind: 'npm', from: at.name, to: npm }, ...pinChange(config, at, to)];
}
