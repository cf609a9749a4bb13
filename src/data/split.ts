import { createHmac, createSecretKey } from 'node:crypto';

/**
 * A number in [0, 1) for an item that depends on its bytes and the key alone: the first 64 bits of HMAC-SHA256(key, bytes)
 * (RFC 2104) as a fraction, rounded to a double.
 *
 * So exact duplicates always share a side, and an item never changes side when others come or go.
 */
export function createSplitter(key: string): (bytes: Uint8Array) => number {
  const secret = createSecretKey(Buffer.from(key, 'utf8'));
  return (bytes) => {
    const digest = createHmac('sha256', secret).update(bytes).digest();
    return digest.readUInt32BE(0) / 2 ** 32 + digest.readUInt32BE(4) / 2 ** 64;
  };
}

/** The side of an item of a data set: `test` when its number is below the withheld share. */
export function sideOf(fraction: number, share: number): 'train' | 'test' {
  return fraction < share ? 'test' : 'train';
}
