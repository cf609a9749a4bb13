import { readFile, stat, writeFile } from 'node:fs/promises';
import { UpstreamError, UserError } from '../../core/error.ts';
import { type ObjectStore, openBucket } from '../../store/index.ts';
import { Unreachable } from './attempts.ts';
import { type Downloaded, discard } from './download.ts';
import { inOrder } from './in-order.ts';
import type { ListedFile } from './listing.ts';
import { downloadsAtOnce, type FetchOptions } from './options.ts';
import { spool } from './spool.ts';

/** What an `s3:` source names: one object, or (a name that ends in `/`) all below a prefix. */
export interface BucketPlace {
  store: ObjectStore;
  key: string;
  isFolder: boolean;
}

/** Opens the bucket of an `s3:` source for reading; nothing is written there. Without credentials: as anybody. */
export async function openPlace(name: string, options: FetchOptions): Promise<BucketPlace> {
  const ca = options.network?.ca;
  const credentials = options.s3 ?? { accessKey: '', secretKey: '' };
  const { store, key } = await openBucket(name, { ...(ca && { ca }), ...credentials });
  return { store, key, isFolder: key === '' || new URL(name).pathname.endsWith('/') };
}

/** The URL of another object of the bucket that a URL names. */
export function objectUrl(url: string, key: string): string {
  const at = new URL(url);
  at.pathname = `/${key.split('/').map(encodeURIComponent).join('/')}`;
  return at.href;
}

/** One attempt to have one object; a part of it is added to while its ETag is the same. Throws Unreachable, UserError. */
export async function downloadObject(
  name: string,
  place: Pick<BucketPlace, 'store' | 'key'>,
  part: string,
  most: number,
  options: FetchOptions,
): Promise<Downloaded> {
  const signal = options.signal ?? new AbortController().signal;
  try {
    const entry = await place.store.stat(place.key);
    if (!entry) throw new Unreachable(`there is no object ${place.key}`, false);
    const have = (await stat(part).catch(() => null))?.size ?? 0;
    const known = await readFile(`${part}.json`, 'utf8').catch(() => '');
    let start = known === entry.etag && have < entry.size ? have : 0;
    let opened = await place.store.open(
      place.key,
      start > 0 ? { offset: start, length: entry.size - start } : undefined,
    );
    if (start > 0 && opened?.entry.etag !== entry.etag) {
      opened?.body.destroy();
      start = 0;
      opened = await place.store.open(place.key);
    }
    if (!opened) throw new Unreachable(`there is no object ${place.key} any more`, false);
    if (start === 0) {
      await discard(part);
      await writeFile(part, '');
      await writeFile(`${part}.json`, opened.entry.etag);
    }
    const { size } = opened.entry;
    const incoming = { name, body: opened.body, start, total: size };
    const sha256 = await spool(incoming, part, most, signal, (bytes) =>
      options.onProgress?.({ what: name, bytes, total: size }),
    );
    return { sha256, resumed: start > 0 };
  } catch (error) {
    throw bucketError(error);
  }
}

/** What a failure of the store means for a source. */
export function bucketError(error: unknown): unknown {
  if (error instanceof UpstreamError)
    return new Unreachable(error.message, error.retryable, { cause: error });
  if (error instanceof UserError && error.code === 'store-denied') {
    return new UserError(
      'store-denied',
      error.message,
      'give credentials that may read there as CDL_SOURCE_ACCESS_KEY and CDL_SOURCE_SECRET_KEY',
      { cause: error },
    );
  }
  return error;
}

/** Every object below a prefix, downloaded into the cache a few at once; one whose part is there goes on from it. */
export async function fetchPrefix(
  name: string,
  place: BucketPlace,
  options: FetchOptions,
  download: (key: string, signal: AbortSignal) => Promise<{ sha256: string; path: string }>,
): Promise<{ listed: ListedFile[]; paths: string[] }> {
  const before = place.key === '' ? '' : `${place.key}/`;
  const found: string[] = [];
  try {
    for await (const { key } of place.store.list(before)) {
      options.signal?.throwIfAborted();
      // What consoles make to show a folder.
      if (!key.endsWith('/')) found.push(key);
    }
  } catch (error) {
    throw bucketError(error);
  }
  if (found.length === 0) throw new Unreachable('there is no object below it', false);
  let done = 0;
  const files = await inOrder(found, downloadsAtOnce * 2, options.signal, async (key, _, signal) => {
    const got = await download(key, signal);
    options.onProgress?.({ what: name, bytes: ++done, total: found.length, counts: 'objects' });
    return { listed: { path: key.slice(before.length), sha256: got.sha256 }, path: got.path };
  });
  return { listed: files.map((file) => file.listed), paths: files.map((file) => file.path) };
}
