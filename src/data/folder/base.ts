import { readFileSync, statSync } from 'node:fs';
import type { Artifact } from '../../core/artifact.ts';
import { type Digest, digestBytes } from '../../core/digest.ts';
import { UserError } from '../../core/error.ts';
import { artifactKey } from '../../store/key.ts';
import type { LocalZone } from '../../store/types.ts';
import type { TreeEntry } from './entry.ts';
import { type Seen, StatCache } from './stat-cache.ts';
import { type FolderVersion, folderVersion, LocalIndex } from './version.ts';
import type { Walked } from './walk.ts';

/** A version to start from, and what is known of each of its entries on disk, in the order of their paths. */
export interface Base {
  version: FolderVersion;
  /** The next entry as it was last seen; one that was never seen is `racy`. */
  next(): Seen | null;
  /** See {@link StatCache.same}; the part it is in is `current`. */
  same(found: Walked): number;
  readonly current: number;
  entry(seen: Seen): TreeEntry;
  index: LocalIndex;
  /** The part of the stat cache that goes with a part of the index, where it may be copied as it is. */
  seenPart(part: number): Buffer | null;
  /** The first entries of a part once more, as {@link next} gave them. */
  first(part: number, count: number): Seen[];
  close(): void;
}

/** A folder version whose objects are all in this machine's store; null when it is none, or some are not. */
export async function localVersion(zone: LocalZone, digest: Digest): Promise<FolderVersion | null> {
  let text: string;
  try {
    text = readFileSync(zone.store.pathOf(artifactKey(zone.name, digest)), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  // Who wrote the bytes with this digest has checked that they are a manifest.
  if (digestBytes(text) !== digest) {
    throw new UserError('artifact-corrupt', `the manifest ${digest} in ${zone.store.url} has other bytes`);
  }
  const version = folderVersion(digest, JSON.parse(text) as Artifact);
  return version && isWhole(zone, version) ? version : null;
}

/** Whether every object of a version is in this machine's store, in its full size. */
function isWhole(zone: LocalZone, version: FolderVersion): boolean {
  const there = (digest: Digest, size: number) =>
    statSync(zone.blobPath(digest), { throwIfNoEntry: false })?.size === size;
  return (
    version.parts.every(({ digest, size }) => there(digest, size)) &&
    [...version.blobs].every(([sha256, { size }]) => there(`sha256:${sha256}`, size))
  );
}

/** Starts from what the stat cache at a path is of, else from `previous`, else from nothing. */
export async function openBase(
  zone: LocalZone,
  statCache: string,
  previous: Digest | null,
): Promise<Base | null> {
  const cache = StatCache.open(statCache);
  if (cache) {
    const version = await localVersion(zone, `sha256:${cache.version}`);
    if (version) return fromCache(zone, version, cache);
    cache.close();
  }
  const version = previous === null ? null : await localVersion(zone, previous);
  return version && fromIndex(zone, version);
}

function fromCache(zone: LocalZone, version: FolderVersion, cache: StatCache): Base {
  const index = new LocalIndex(zone, version);
  return {
    version,
    index,
    next: () => cache.next(),
    same: (found) => cache.same(found),
    get current() {
      return cache.current;
    },
    entry: (seen) => index.part(seen.part).entries[seen.index]!,
    seenPart: (part) => cache.part(part).bytes,
    first: (part, count) => cache.first(part, count),
    close: () => cache.close(),
  };
}

/** Without a stat cache: where things are stored is known, but every file has to be read. */
export function fromIndex(zone: LocalZone, version: FolderVersion): Base {
  const index = new LocalIndex(zone, version);
  const unseen = { size: -1, mtime: -1, ctime: -1, ino: -1, racy: true };
  const all = (function* (): Generator<Seen> {
    for (let part = 0; part < version.parts.length; part++) {
      for (const [at, entry] of index.part(part).entries.entries()) {
        const exec = entry.kind === 'file' && entry.exec;
        yield { ...unseen, path: entry.path, kind: entry.kind, exec, part, index: at };
      }
    }
  })();
  return {
    version,
    index,
    next: () => all.next().value ?? null,
    same: () => -1,
    current: -1,
    entry: (seen) => index.part(seen.part).entries[seen.index]!,
    seenPart: () => null,
    first: () => [],
    close: () => {},
  };
}
