import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import { Readable } from 'node:stream';
import { z } from 'zod';
import type { PinChange } from '../core/data-news.ts';
import { UpstreamError, UserError } from '../core/error.ts';
import type { SourceConfig } from '../core/project.ts';
import { defaultLimits } from '../core/project-read.ts';

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
  seen: { name: string; state: 'unchanged' | 'new' | 'unreachable'; detail: string }[];
}

/** How sources are reached. */
export interface PollOptions {
  root: string;
  npmRegistry: string;
  signal: AbortSignal;
}

/**
 * Looks at every source for something newer than its pin: bytes of another sha256 behind a URL or path, a later version
 * of an npm package (its dist-tag `latest`). Downloads only what a server does not call unchanged (RFC 9110, 13.1.2).
 */
export async function pollSources(
  sources: readonly SourceConfig[],
  memory: PollMemory,
  options: PollOptions,
): Promise<Polled> {
  const polled: Polled = { changes: [], memory: {}, seen: [] };
  for (const [source, config] of sources.entries()) {
    const names = config.npm !== undefined ? [config.npm] : (config.https ?? config.file ?? []);
    for (const [file, name] of names.entries()) {
      try {
        const changes =
          config.npm === undefined
            ? await pollFile(config, { source, file, name }, memory, polled, options)
            : await pollPackage(config, { source, name }, options);
        polled.changes.push(...changes);
        polled.seen.push({
          name,
          state: changes.length > 0 ? 'new' : 'unchanged',
          detail: changes.map((change) => shorten(change.to)).join(', '),
        });
      } catch (error) {
        if (options.signal.aborted || !(error instanceof Error)) throw error;
        if (memory[name]) polled.memory[name] = memory[name];
        polled.seen.push({ name, state: 'unreachable', detail: error.message });
      }
    }
  }
  return polled;
}

const shorten = (pin: string) => (/^[0-9a-f]{64}$/.test(pin) ? pin.slice(0, 12) : pin);

async function pollFile(
  config: SourceConfig,
  at: { source: number; file: number; name: string },
  memory: PollMemory,
  polled: Polled,
  options: PollOptions,
): Promise<PinChange[]> {
  const { source, file, name } = at;
  const single = typeof config.sha256 === 'string';
  const from = typeof config.sha256 === 'string' ? config.sha256 : config.sha256?.[file];
  if (from === undefined) return [];
  const to =
    config.file !== undefined
      ? await hashOf(createReadStream(resolve(options.root, name)), most(config), options.signal)
      : await hashOfUrl(name, most(config), memory, polled, options);
  if (to === from) return [];
  return [{ source, file: single ? null : file, kind: 'sha256', from, to }];
}

/** Bytes of one file of a source at most. */
const most = (config: SourceConfig) => (config.limits ?? defaultLimits).file;

/** Throws UserError data-invalid, and reads no further, when more than `limit` bytes come. */
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
  const response = await fetch(url, {
    headers,
    signal: AbortSignal.any([options.signal, AbortSignal.timeout(patience)]),
  });
  if (response.status === 304 && known) {
    polled.memory[url] = known;
    return known.sha256;
  }
  if (!response.ok || !response.body) {
    await response.body?.cancel();
    throw new UpstreamError('source', `answered ${response.status}`, {
      retryable: response.status >= 500,
      status: response.status,
    });
  }
  const body = Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]);
  const sha256 = await hashOf(body, limit, options.signal);
  const { headers: said } = response;
  polled.memory[url] = { etag: said.get('etag'), modified: said.get('last-modified'), sha256 };
  return sha256;
}

const packumentSchema = z.object({
  'dist-tags': z.object({ latest: z.string() }),
  versions: z.record(z.string(), z.object({ dist: z.object({ tarball: z.url() }) })),
});

async function pollPackage(
  config: SourceConfig,
  at: { source: number; name: string },
  options: PollOptions,
): Promise<PinChange[]> {
  const split = at.name.lastIndexOf('@');
  const [name, version] = [at.name.slice(0, split), at.name.slice(split + 1)];
  const base = options.npmRegistry.endsWith('/') ? options.npmRegistry : `${options.npmRegistry}/`;
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(patience)]);
  const response = await fetch(`${base}${name.replace('/', '%2f')}`, {
    headers: { accept: 'application/vnd.npm.install-v1+json' },
    signal,
  });
  if (!response.ok) {
    await response.body?.cancel();
    throw new UpstreamError('npm', `answered ${response.status}`, { retryable: response.status >= 500 });
  }
  const document = packumentSchema.parse(await response.json());
  const latest = document['dist-tags'].latest;
  // An older `latest` is a maintainer taking a release back: news too, and people decide.
  if (latest === version || typeof config.sha256 !== 'string') return [];
  const tarball = document.versions[latest]?.dist.tarball;
  if (tarball === undefined) throw new UpstreamError('npm', `has no ${name}@${latest}`, { retryable: false });
  const body = await fetch(tarball, { signal: options.signal });
  if (!body.ok || !body.body)
    throw new UpstreamError('npm', `${tarball} answered ${body.status}`, { retryable: body.status >= 500 });
  const to = await hashOf(
    Readable.fromWeb(body.body as Parameters<typeof Readable.fromWeb>[0]),
    most(config),
    options.signal,
  );
  return [
    { source: at.source, kind: 'npm', from: at.name, to: `${name}@${latest}` },
    { source: at.source, file: null, kind: 'sha256', from: config.sha256, to },
  ];
}
