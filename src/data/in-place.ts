import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Artifact } from '../core/artifact.ts';
import type { Digest } from '../core/digest.ts';
import type { Piece, Zone } from '../store/types.ts';
import { parseIndexLine } from './shards.ts';
import { bucketError, objectUrl, openPlace } from './source/bucket.ts';
import type { FetchOptions } from './source/options.ts';
import { type FetchedSource, sourceNames } from './sources.ts';

/** Where items lie that stay there, by their id. */
export type Places = ReadonlyMap<Digest, Pick<Piece, 'at' | 'etag'>>;

/**
 * Where the files of an `s3:` source with `in_place` are, by their sha256. They are listed once more for that, since what
 * came out of the cache has no ETag; one that has changed in between shows when it is read.
 */
export async function placesOf(fetched: FetchedSource, options: FetchOptions): Promise<Places> {
  const places = new Map<Digest, Pick<Piece, 'at' | 'etag'>>();
  if (!fetched.source.in_place) return places;
  for (const name of sourceNames(fetched.source)) {
    try {
      const { store, key, isFolder } = await openPlace(name, options);
      const before = key === '' ? '' : `${key}/`;
      const etags = new Map<string, string>();
      if (isFolder) {
        for await (const entry of store.list(before)) etags.set(entry.key.slice(before.length), entry.etag);
      } else {
        const entry = await store.stat(key);
        if (entry) etags.set(name, entry.etag);
      }
      for (const file of fetched.files) {
        const etag = etags.get(file.name);
        const at = isFolder ? objectUrl(name, before + file.name) : name;
        if (etag !== undefined) places.set(`sha256:${file.sha256}`, { at, etag });
      }
    } catch (error) {
      throw bucketError(error);
    }
  }
  return places;
}

/** Where the items of a stored version lie, as far as they are in no shard of its own. */
export async function placesOfVersion(zone: Zone, artifact: Artifact): Promise<Places> {
  const places = new Map<Digest, Pick<Piece, 'at' | 'etag'>>();
  for (const { path, digest } of artifact.files) {
    if (!isShard(path)) continue;
    for (const { sha256, at, etag } of (await zone.piecesOf(digest)) ?? []) {
      places.set(`sha256:${sha256}`, { at, etag });
    }
  }
  return places;
}

const isShard = (path: string) => /(^|\/)shard-\d+\.tar$/.test(path);

/** Stores the files that `writeShards` made, and others beside them; items that have a place stay there. */
export async function storeFiles(
  zone: Zone,
  folder: string,
  paths: readonly string[],
  places: Places,
): Promise<Artifact['files']> {
  const pieces = new Map<string, Piece[]>();
  for (const index of places.size > 0 ? paths.filter((path) => /(^|\/)index\.jsonl$/.test(path)) : []) {
    const beside = index.slice(0, -'index.jsonl'.length);
    for await (const text of createInterface({ input: createReadStream(join(folder, index)) })) {
      const { id, shard, offset, size } = parseIndexLine(text, index);
      const place = places.get(id);
      if (!place) continue;
      const list = pieces.get(beside + shard) ?? [];
      pieces.set(beside + shard, list);
      list.push({ offset, size, sha256: id.slice(7), ...place });
    }
  }
  const files: Artifact['files'] = [];
  for (const path of paths) {
    files.push({ path, ...(await zone.putInPlace(join(folder, path), pieces.get(path) ?? [])) });
  }
  return files;
}
