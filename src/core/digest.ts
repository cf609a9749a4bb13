import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';

/** A content address: `sha256:` and 64 lower-case hexadecimal digits. */
export type Digest = `sha256:${string}`;

const pattern = /^sha256:[0-9a-f]{64}$/;

/** Whether a value is a well-formed {@link Digest}. */
export function isDigest(value: unknown): value is Digest {
  return typeof value === 'string' && pattern.test(value);
}

/** The sha256 of some bytes (or of a string's UTF-8 bytes). */
export function digestBytes(bytes: string | Uint8Array): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** The canonical text of a JSON value (RFC 8785, JSON Canonicalization Scheme). Throws for what JSON cannot hold: NaN, infinities, lone surrogates, big integers, functions, symbols. */
export function canonicalJson(value: unknown): string {
  const text = canonicalize(value);
  if (text === undefined) throw new TypeError('a value without a JSON form cannot be canonicalised');
  return text;
}

/** The sha256 of a value's canonical JSON. */
export function digestJson(value: unknown): Digest {
  return digestBytes(canonicalJson(value));
}

/** The first `length` hexadecimal digits, for people to read and copy. */
export function shortDigest(digest: Digest, length = 12): string {
  return digest.slice(7, 7 + length);
}
