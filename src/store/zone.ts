import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import type { Artifact } from '../core/artifact.ts';
import { canonicalJson, type Digest, digestBytes } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { keepNewest } from '../core/keep.ts';
import { ownerName } from '../exec/owner.ts';
import { openBlobCache } from './cache.ts';
import {
  cutFile,
  decodeInPlace,
  encodeInPlace,
  type InPlace,
  type OpenOutside,
  readInPlace,
} from './in-place.ts';
import { artifactKey, blobKey, checkKey, inPlaceKey } from './key.ts';
import { hashFile, saveStream, verified } from './stream.ts';
import {
  type Entry,
  type FileObjectStore,
  type LocalZone,
  type ObjectStore,
  type Range,
  refreshAfter,
  type Zone,
} from './types.ts';

/** How many files of one artifact travel at once. */
const atOnce = 8;
/** Beyond this many bytes, a store may need several requests for one. */
const largeBlob = 16 << 20;
const largeAtOnce = 2;

/**
 * A zone of a store, under the zone's name: blobs at `objects/sha256/<2 digits>/<64 digits>`, manifests at
 * `artifacts/<2 digits>/<64 digits>.json`, records at `records/<key>.json` (the ending lets one record's key be the folder of
 * another's also on MinIO, which would not list what is below an object). With `cache`, blobs that were read are kept in that
 * folder, and checked again each time they are read from there; with `manifests`, that many of the last manifests in memory. `place` puts copies of blobs in their
 * place instead of the store; `outside` opens the buckets of blobs that are stored in place, which cannot be read without it.
 */
export function createZone(
  name: Zone['name'],
  store: ObjectStore,
  options: {
    cache?: string;
    manifests?: number;
    place?: (key: string, body: Readable) => Promise<void>;
    outside?: OpenOutside;
  } = {},
): Zone {
  const manifests = new Map<Digest, Artifact>();
  const cache = options.cache === undefined ? null : openBlobCache(options.cache);
  const blobAt = (digest: Digest) => blobKey(name, digest);
  const artifactAt = (digest: Digest) => artifactKey(name, digest);
  const inPlaceAt = (digest: Digest) => inPlaceKey(name, digest);
  const records = `${name}/records/`;
  const nameOfRecord = (key: string) => key.slice(records.length).replace(/\.json$/, '');
  const recordKey = (key: string) => {
    checkKey(key);
    return `${records}${key}.json`;
  };

  async function has(digest: Digest, size: number): Promise<boolean> {
    const entry = await store.stat(blobAt(digest));
    return entry ? entry.size === size : (await inPlace(digest))?.size === size;
  }

  /** Whether an object is there to be relied on: an old one is made young. */
  async function keep(entry: Entry | null, size: number): Promise<boolean> {
    if (entry?.size !== size) return false;
    if (isYoung(entry)) return true;
    refreshed += 1;
    return store.touch(entry.key);
  }
  /** How often something old was relied on again. */
  let refreshed = 0;

  /** Stores what is not there yet; an object of the wrong size is a damaged one and is replaced. */
  async function putContent(key: string, size: number, body: () => Readable | Uint8Array | string) {
    const there = await store.stat(key);
    if (await keep(there, size)) return;
    await store.put(key, body(), there ? {} : { ifAbsent: true });
  }

  async function inPlace(digest: Digest): Promise<InPlace | null> {
    const body = await store.get(inPlaceAt(digest));
    return body && decodeInPlace(await buffer(body), `${store.url} ${inPlaceAt(digest)}`);
  }

  const outside: OpenOutside =
    options.outside ??
    (async (at) => {
      throw new UserError('store-denied', `${at}: this process reads no buckets beside the store`);
    });

  /** A blob or a part of it, from the store or from where it is; not verified. */
  async function openBytes(digest: Digest, range?: Range): Promise<Readable> {
    const body = await store.get(blobAt(digest), range);
    if (body) return body;
    const elsewhere = await inPlace(digest);
    if (!elsewhere) throw missing(digest, 'blob');
    return readInPlace(elsewhere, outside, range);
  }

  async function openRemote(digest: Digest): Promise<Readable> {
    return verified(await openBytes(digest), digest, `${store.url} ${blobAt(digest)}`);
  }

  function missing(digest: Digest, what: string): UserError {
    return new UserError('artifact-missing', `${what} ${digest} is not in the ${name} zone of ${store.url}`);
  }

  /** What lies elsewhere may lie somewhere else by now: the newest word counts. */
  async function putInPlace(digest: Digest, bytes: Buffer): Promise<void> {
    await store.put(inPlaceAt(digest), bytes);
  }

  const zone: Zone = {
    name,
    store,

    async putBlob(body) {
      if (body instanceof Readable) {
        const folder = await mkdtemp(join(tmpdir(), 'cdl-blob-'));
        try {
          const path = join(folder, 'blob');
          await saveStream(body, path);
          return await zone.putFile(path);
        } finally {
          await rm(folder, { recursive: true, force: true });
        }
      }
      const digest = digestBytes(body);
      const size = Buffer.byteLength(body);
      await putContent(blobAt(digest), size, () => body);
      return { digest, size };
    },

    async putFile(path) {
      const { digest, size } = await hashFile(path);
      // Checked again while it is sent: a file that changes meanwhile must not end up under the old digest.
      await putContent(blobAt(digest), size, () => verified(createReadStream(path), digest, path));
      return { digest, size };
    },

    async putInPlace(path, pieces) {
      if (pieces.length === 0) return zone.putFile(path);
      const { digest, size } = await hashFile(path);
      if (await keep(await store.stat(blobAt(digest)), size)) return { digest, size };
      await putInPlace(digest, encodeInPlace(await cutFile(path, size, pieces)));
      return { digest, size };
    },

    async piecesOf(digest) {
      return (await inPlace(digest))?.pieces ?? null;
    },

    async openBlob(digest) {
      if (!cache) return openRemote(digest);
      const path = await cache.fetch(digest, () => openRemote(digest));
      return verified(createReadStream(path), digest, path);
    },

    async openBlobPart(digest, range) {
      return openBytes(digest, range);
    },

    async readBlob(digest) {
      return buffer(await zone.openBlob(digest));
    },

    async saveBlob(digest, path) {
      await mkdir(dirname(path), { recursive: true });
      const temporary = join(dirname(path), `.${basename(path).slice(0, 100)}.${ownerName()}`);
      try {
        await saveStream(await zone.openBlob(digest), temporary);
        await rename(temporary, path);
      } finally {
        await rm(temporary, { force: true });
      }
    },

    linkBlob: (digest, options) => store.link(blobAt(digest), options),

    async hasBlob(digest) {
      return ((await store.stat(blobAt(digest))) ?? (await store.stat(inPlaceAt(digest)))) !== null;
    },

    async putArtifact(artifact) {
      const { artifactDigest, encodeArtifact } = await import('../core/artifact.ts');
      const digest = artifactDigest(artifact);
      const body = encodeArtifact(artifact);
      await putContent(artifactAt(digest), Buffer.byteLength(body), () => body);
      return digest;
    },

    async getArtifact(digest) {
      const read = manifests.get(digest);
      if (read) return read;
      const body = await store.get(artifactAt(digest));
      if (!body) throw missing(digest, 'artifact');
      const { decodeArtifact } = await import('../core/artifact.ts');
      const artifact = decodeArtifact(await text(body), digest);
      const { manifests: most = 0 } = options;
      return most > 0 ? keepNewest(manifests, most, digest, artifact) : artifact;
    },

    async isFresh(digest) {
      const entry = await store.stat(artifactAt(digest));
      return entry !== null && isYoung(entry);
    },

    async hasArtifact(digest) {
      if (!(await store.stat(artifactAt(digest)))) return false;
      const { files } = await zone.getArtifact(digest);
      let complete = true;
      await eachOf(files, async (file) => {
        complete &&= await has(file.digest, file.size);
      });
      return complete;
    },

    async saveArtifact(digest, folder) {
      const artifact = await zone.getArtifact(digest);
      await mkdir(folder, { recursive: true });
      await eachOf(artifact.files, (file) => zone.saveBlob(file.digest, join(folder, file.path)));
      return artifact;
    },

    async copyArtifact(from, digest) {
      const artifact = await from.getArtifact(digest);
      // Nothing else is stored in place.
      const isData = artifact.kind === 'dataset';
      const copy = async (file: Artifact['files'][number]) => {
        const key = blobAt(file.digest);
        if (await keep(await store.stat(key), file.size)) return;
        const elsewhere = isData ? await from.store.get(inPlaceKey(from.name, file.digest)) : null;
        if (elsewhere) return putInPlace(file.digest, await buffer(elsewhere));
        const body = await from.openBlob(file.digest);
        if (options.place) await options.place(key, body);
        else await putContent(key, file.size, () => body);
      };
      // Large ones go in several requests each, and are held in memory a piece at a time: a few of them are enough.
      const isLarge = ({ size }: { size: number }) => size > largeBlob;
      for (;;) {
        const before = refreshed;
        await Promise.all([
          eachOf(artifact.files.filter(isLarge), copy, largeAtOnce),
          eachOf(
            artifact.files.filter((file) => !isLarge(file)),
            copy,
          ),
        ]);
        // The manifest comes last: whoever sees it sees its files.
        await zone.putArtifact(artifact);
        // What was old may have been removed as garbage at the moment it was made young (see ObjectStore.delete).
        if (refreshed === before || (await zone.hasArtifact(digest))) return;
      }
    },

    async readRecord(key) {
      const found = await store.open(recordKey(key));
      if (!found) return null;
      const body = await text(found.body);
      try {
        return { value: JSON.parse(body), etag: found.entry.etag };
      } catch (cause) {
        throw new UserError(
          'artifact-corrupt',
          `the record ${key} in the ${name} zone of ${store.url} is not JSON`,
          undefined,
          { cause },
        );
      }
    },

    async writeRecord(key, value, conditions) {
      return store.put(recordKey(key), `${canonicalJson(value)}\n`, conditions);
    },

    touchRecord: (key) => store.touch(recordKey(key)),

    async deleteRecord(key, modified) {
      const entry = await store.stat(recordKey(key));
      if (!entry) return false;
      // Where S3 lists it tells milliseconds, of one object alone seconds.
      return store.delete(recordKey(key), modified === undefined ? undefined : { before: modified + 1 });
    },

    async *listRecords(prefix): AsyncGenerator<Entry> {
      for await (const entry of store.list(records + prefix)) {
        const key = nameOfRecord(entry.key);
        if (key.startsWith(prefix)) yield { ...entry, key };
      }
    },

    async *listRecordKeys(prefix): AsyncGenerator<string> {
      for await (const object of store.listKeys(records + prefix)) {
        const key = nameOfRecord(object);
        if (key.startsWith(prefix)) yield key;
      }
    },
  };
  return zone;
}

const isYoung = (entry: Entry): boolean => Date.now() - entry.modified < refreshAfter;

/** The work zone of a store in a folder of this machine. */
export function createLocalZone(store: FileObjectStore, options: { outside?: OpenOutside } = {}): LocalZone {
  const place = async (key: string, body: Readable) => {
    const path = store.temporary();
    try {
      await saveStream(body, path);
      await store.adopt(path, key);
    } finally {
      await rm(path, { force: true });
    }
  };
  return {
    ...createZone('work', store, { place, ...options }),
    store,
    blobPath: (digest) => store.pathOf(blobKey('work', digest)),
    temporary: () => store.temporary(),
    async adopt(path, digest) {
      await store.adopt(path, blobKey('work', digest));
    },
  };
}

/** Runs `action` for every item, a few at once; the first failure stops the rest from starting. */
async function eachOf<T>(
  items: readonly T[],
  action: (item: T) => Promise<void>,
  lanes: number = atOnce,
): Promise<void> {
  const rest = items.values();
  let failed = false;
  const worker = async () => {
    for (const item of rest) {
      if (failed) return;
      try {
        await action(item);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const workers = Array.from({ length: Math.min(lanes, items.length) }, worker);
  await Promise.allSettled(workers);
  await Promise.all(workers);
}

/** A manifest; null when it is not there (any more). Throws as {@link Zone.getArtifact} does otherwise. */
export async function artifactIfThere(
  zone: Pick<Zone, 'getArtifact'>,
  digest: Digest,
): Promise<Artifact | null> {
  try {
    return await zone.getArtifact(digest);
  } catch (error) {
    if (error instanceof UserError && error.code === 'artifact-missing') return null;
    throw error;
  }
}
