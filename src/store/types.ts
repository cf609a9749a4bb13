import type { Readable } from 'node:stream';
import type { Artifact } from '../core/artifact.ts';
import type { Digest } from '../core/digest.ts';

/**
 * What a store knows of one object. `etag` is opaque; pass it to `ifMatch`. `size` in bytes, `modified` in milliseconds since
 * 1970 by the store's clock (S3 tells whole seconds).
 */
export interface Entry {
  key: string;
  size: number;
  etag: string;
  modified: number;
}

/**
 * An object that is relied on again is made young when it is older than this, in milliseconds. Garbage is collected only
 * when it is at least twice as old, so that whoever refers to an object has as long again to say so.
 */
export const refreshAfter = 24 * 60 * 60 * 1000;

/** A part of an object, in bytes. What lies beyond the object's end is left out, as RFC 9110 §14.1.2 has it. */
export interface Range {
  offset: number;
  length: number;
}

/** A part of a blob that is an object of a bucket, which stays where it is. */
export interface Piece {
  /** Where in the blob it begins, and how many bytes it has. */
  offset: number;
  size: number;
  /** Of the object's bytes, 64 hexadecimal digits. */
  sha256: string;
  /** `s3://bucket/key?endpoint=…` */
  at: string;
  /** The object's ETag when it was looked at. */
  etag: string;
}

/** What {@link ObjectStore.put} did: wrote, found the key taken (`ifAbsent`), or found other content (`ifMatch`). */
export type PutResult = 'stored' | 'exists' | 'changed';

/**
 * The smallest object store that carries compare-and-swap. Keys are `/`-separated relative paths (no key may be the
 * folder of another: MinIO would keep both and list one). Absent is null;
 * throwing (UpstreamError, or UserError store-denied) means the store failed. A put is atomic: readers see all or nothing.
 */
export interface ObjectStore {
  /** Where it is, without credentials. */
  readonly url: string;
  /** The whole object, or a part of it. */
  get(key: string, range?: Range): Promise<Readable | null>;
  /** As {@link get}, with the entry (of the whole object) these very bytes belong to: a separate `stat` may tell of later ones. */
  open(key: string, range?: Range): Promise<{ entry: Entry; body: Readable } | null>;
  stat(key: string): Promise<Entry | null>;
  /** Every object whose key starts with `prefix`, in ascending key order. */
  list(prefix: string): AsyncIterable<Entry>;
  /** The keys alone, for which no object need be looked at where that takes time. */
  listKeys(prefix: string): AsyncIterable<string>;
  /** Makes an object as young as if it had been put now, without sending its bytes; false when there is none. */
  touch(key: string): Promise<boolean>;
  /**
   * A URL that shows one object to whoever has it, for so many seconds (at most a week) and as this media type, whether the
   * object is there or not; null where there is no such thing.
   */
  link(key: string, options: { seconds: number; type: string }): Promise<string | null>;
  /**
   * Deletes; an absent key is no error. With `before` only what was put or touched before that time (milliseconds since 1970):
   * false when it is younger. S3 cannot do both in one: there it is looked at first, and what is touched between the two goes.
   */
  delete(key: string, options?: { before: number }): Promise<boolean>;
  put(
    key: string,
    body: Readable | Uint8Array | string,
    options?: { ifAbsent?: true; ifMatch?: string },
  ): Promise<PutResult>;
}

/** A store whose objects are files on this machine. */
export interface FileObjectStore extends ObjectStore {
  /** The file that holds an object, or would. Nobody may write to it. */
  pathOf(key: string): string;
  /** A path for a new file that may be adopted; what a killed process left there is removed when the store is opened. */
  temporary(): string;
  /** Makes a file at a {@link temporary} path an object (read-only from then on), unless one of the same size is
   * there, which is made young when it is old. Not synced to the disk: what a power cut damages shows in its size or digest, and is stored again. */
  adopt(path: string, key: string): Promise<PutResult>;
}

/**
 * One zone (`work/` or `trusted/`) as steps and bot see it: content-addressed blobs and manifests, and small named JSON
 * records. Every read of content is verified against its digest; a mismatch is UserError artifact-corrupt, an absent
 * object UserError artifact-missing.
 */
export interface Zone {
  readonly name: 'work' | 'trusted';
  readonly store: ObjectStore;
  /** Stores bytes (streamed; nothing is written when the blob is already there) and returns their address and size. */
  putBlob(body: Readable | Uint8Array | string): Promise<{ digest: Digest; size: number }>;
  /** Stores a local file without reading it into memory. */
  putFile(path: string): Promise<{ digest: Digest; size: number }>;
  /** As {@link putFile}, but of the pieces only where they are is stored: the blob is the same, and read from there. */
  putInPlace(path: string, pieces: readonly Piece[]): Promise<{ digest: Digest; size: number }>;
  /** The pieces of a blob that is stored in place; null for any other. */
  piecesOf(digest: Digest): Promise<readonly Piece[] | null>;
  /** A stream that fails at its end when the bytes do not match. Do not act on its content before it ended. */
  openBlob(digest: Digest): Promise<Readable>;
  /** A part of a blob, which is not verified: the caller knows the digest of what it asks for. */
  openBlobPart(digest: Digest, range: Range): Promise<Readable>;
  /** The whole blob, verified. */
  readBlob(digest: Digest): Promise<Buffer>;
  /** Writes a blob to `path` (atomic: temporary file, verified, renamed). */
  saveBlob(digest: Digest, path: string): Promise<void>;
  hasBlob(digest: Digest): Promise<boolean>;
  /** As {@link ObjectStore.link}, to a blob. */
  linkBlob(digest: Digest, options: { seconds: number; type: string }): Promise<string | null>;
  putArtifact(artifact: Artifact): Promise<Digest>;
  getArtifact(digest: Digest): Promise<Artifact>;
  /** Whether the manifest is there and so young that nothing it names is about to be collected as garbage. */
  isFresh(digest: Digest): Promise<boolean>;
  /** Whether the manifest and all its files are there (sizes compared, bytes not read). */
  hasArtifact(digest: Digest): Promise<boolean>;
  /** Writes all files of an artifact below a folder, a few at once. */
  saveArtifact(digest: Digest, folder: string): Promise<Artifact>;
  /** Copies an artifact with its files (not its parents) from another zone; verified on the way; idempotent. */
  copyArtifact(from: Zone, digest: Digest): Promise<void>;
  /** A named JSON record with the etag to swap it against. */
  readRecord(key: string): Promise<{ value: unknown; etag: string } | null>;
  writeRecord(
    key: string,
    value: unknown,
    options?: { ifAbsent?: true; ifMatch?: string },
  ): Promise<PutResult>;
  /** Records whose key starts with `prefix`, in the order of their keys with `.json` appended. */
  listRecords(prefix: string): AsyncIterable<Entry>;
  /** Makes a record young again; false when it is not there. */
  touchRecord(key: string): Promise<boolean>;
  /** Removes a record; false when it was written or made young since `modified` (milliseconds since 1970), or is gone. */
  deleteRecord(key: string, modified?: number): Promise<boolean>;
  /** See {@link ObjectStore.listKeys}. */
  listRecordKeys(prefix: string): AsyncIterable<string>;
}

/** A zone whose store is a folder on this machine, for what reads and writes files without going through streams. */
export interface LocalZone extends Zone {
  readonly store: FileObjectStore;
  /** The file of a blob, there or not. It is not verified, and nobody may write to it. */
  blobPath(digest: Digest): string;
  /** See {@link FileObjectStore.temporary}. */
  temporary(): string;
  /** Makes a file at a {@link temporary} path a blob, without reading it: the caller has hashed it. The file is gone then. */
  adopt(path: string, digest: Digest): Promise<void>;
}
