import { UserError } from '../core/error.ts';
import type { OpenOutside } from './in-place.ts';
import type { LocalZone, ObjectStore } from './types.ts';

export type { OpenOutside } from './in-place.ts';
export { artifactKey, blobKey, inPlaceKey } from './key.ts';
export type { Entry, LocalZone, ObjectStore, Piece, PutResult, Range, Zone } from './types.ts';
export { createZone } from './zone.ts';

/** Opens (and makes, when absent) the work zone of a store in a folder of this machine. Throws as {@link openStore}. */
export async function openLocalZone(
  folder: string,
  options: { outside?: OpenOutside } = {},
): Promise<LocalZone> {
  const [{ openFileStore }, { createLocalZone }] = await Promise.all([
    import('./file.ts'),
    import('./zone.ts'),
  ]);
  return createLocalZone(await openFileStore(folder), options);
}

/** What an `s3:` store wants to know of its caller. `ca` is a PEM certificate to trust besides the usual ones. */
export interface StoreCredentials {
  accessKey: string;
  secretKey: string;
  sessionToken?: string;
  ca?: string;
}

/**
 * Opens the store at a URL: `file:///folder`, `file:folder` (relative to the working directory) or
 * `s3://bucket/prefix?endpoint=https://host:port&region=us-east-1&path-style=true`; endpoint, region and path style default
 * to Amazon's. Throws UserError config-invalid (URL), environment-missing (credentials), store-unsupported (no
 * compare-and-swap), store-denied; UpstreamError when the store does not answer.
 */
export async function openStore(url: string, credentials: StoreCredentials | null): Promise<ObjectStore> {
  if (url.startsWith('file:')) {
    const { fileURLToPath } = await import('node:url');
    const { openFileStore } = await import('./file.ts');
    const folder = url.startsWith('file://') ? fileURLToPath(url) : decodeURIComponent(url.slice(5));
    if (folder === '') throw new UserError('config-invalid', `the store ${url} names no folder`);
    return openFileStore(folder);
  }
  if (url.startsWith('s3://')) {
    if (!credentials) {
      throw new UserError('environment-missing', `the store ${url} needs an access key and a secret key`);
    }
    const { openS3Store, parseS3Url } = await import('./s3.ts');
    return openS3Store({ ...parseS3Url(url), ...credentials });
  }
  throw new UserError(
    'config-invalid',
    `the store ${JSON.stringify(url)} is of an unknown kind`,
    'use file:///folder or s3://bucket/prefix?endpoint=https://host:port',
  );
}

/**
 * Opens the bucket that an `s3:` URL names, for reading alone (nothing is written to try it out), and the key or prefix in
 * it. Without credentials: as anybody. Throws as {@link openStore}.
 */
export async function openBucket(
  url: string,
  credentials: StoreCredentials | null,
): Promise<{ store: ObjectStore; key: string }> {
  const { openS3Store, parseS3Url } = await import('./s3.ts');
  const { prefix, ...place } = parseS3Url(url);
  const known = credentials ?? { accessKey: '', secretKey: '' };
  return { store: await openS3Store({ ...place, prefix: '', ...known, readOnly: true }), key: prefix };
}
