import type { Readable } from 'node:stream';
import type { Artifact } from '../../core/artifact.ts';
import type { Digest } from '../../core/digest.ts';
import { UserError } from '../../core/error.ts';
import { artifactKey } from '../../store/key.ts';
import type { Range, Zone } from '../../store/types.ts';

/** Versions in several places, the nearest first; a place is opened when the ones before do not have what is asked for. */
export interface DataReader {
  manifest(digest: Digest): Promise<Artifact>;
  /** A whole object, verified. */
  readBlob(digest: Digest): Promise<Buffer>;
  openBlob(digest: Digest): Promise<Readable>;
  /** A part of an object, not verified. */
  openPart(digest: Digest, range: Range): Promise<Readable>;
  /** Manifests whose digest begins like this (hexadecimal digits), at most ten of a place. */
  find(prefix: string): Promise<Digest[]>;
}

/** Reads from places in their order. What none of them has is UserError artifact-missing. */
export function openDataReader(places: readonly (() => Promise<Zone>)[]): DataReader {
  async function first<T>(action: (zone: Zone) => Promise<T>): Promise<T> {
    let missing: unknown = new UserError('artifact-missing', 'there is no store to read from');
    for (const open of places) {
      try {
        return await action(await open());
      } catch (error) {
        if (!(error instanceof UserError && error.code === 'artifact-missing')) throw error;
        missing = error;
      }
    }
    throw missing;
  }
  return {
    manifest: (digest) => first((zone) => zone.getArtifact(digest)),
    readBlob: (digest) => first((zone) => zone.readBlob(digest)),
    openBlob: (digest) => first((zone) => zone.openBlob(digest)),
    openPart: (digest, range) => first((zone) => zone.openBlobPart(digest, range)),
    async find(prefix) {
      const found = new Set<Digest>();
      for (const open of places) {
        const zone = await open();
        const like = artifactKey(zone.name, `sha256:${prefix}`).replace(/\.json$/, '');
        let count = 0;
        for await (const key of zone.store.listKeys(like)) {
          found.add(`sha256:${key.slice(key.lastIndexOf('/') + 1).replace(/\.json$/, '')}`);
          if (++count === 10) break;
        }
        if (found.size > 0) break;
      }
      return [...found];
    },
  };
}
