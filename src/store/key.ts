import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { isInsidePath } from '../core/path.ts';
import type { Range, Zone } from './types.ts';

// Control characters and the two non-characters have no form in the XML that S3 lists keys in.
const unprintable = /[\p{Cc}\p{Cs}\uFFFE\uFFFF]/u;

/**
 * Refuses a key that some driver could not hold: a relative path of non-empty parts without `.`, `..`, backslash or control
 * characters, in well-formed Unicode, at most 900 bytes. Throws UserError usage.
 */
export function checkKey(key: string): void {
  if (!isInsidePath(key) || unprintable.test(key) || Buffer.byteLength(key) > 900) {
    throw new UserError(
      'usage',
      `${JSON.stringify(key)} is no key for an object in the store`,
      'use a relative path of at most 900 bytes without "..", backslash or control characters',
    );
  }
}

/** Orders keys as S3 does: by the bytes of their UTF-8 form (not by UTF-16 units, as `<` would). */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** Refuses a part of an object that is none. Throws UserError usage. */
export function checkRange({ offset, length }: Range): void {
  if (Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0) return;
  throw new UserError('usage', `${length} bytes from ${offset} on are no part of an object`);
}

/** The key of a blob in its zone's store. */
export function blobKey(zone: Zone['name'], digest: Digest): string {
  return `${zone}/objects/sha256/${digest.slice(7, 9)}/${digest.slice(7)}`;
}

/** The key of a manifest in its zone's store. */
export function artifactKey(zone: Zone['name'], digest: Digest): string {
  return `${zone}/artifacts/${digest.slice(7, 9)}/${digest.slice(7)}.json`;
}

/** The key of what says where a blob's bytes are, when they are not in its zone's store. */
export function inPlaceKey(zone: Zone['name'], digest: Digest): string {
  return `${zone}/in-place/sha256/${digest.slice(7, 9)}/${digest.slice(7)}`;
}
