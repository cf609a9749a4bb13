import { createHash } from 'node:crypto';
import { UserError } from '../core/error.ts';

/** A source of numbers, uniform in [0, 1). */
export type Random = () => number;

/**
 * A generator that is fully determined by `parts` (for example seed, purpose, epoch), so that a resumed training needs
 * no saved generator state: the position in the training is the position of the randomness.
 *
 * sfc32 of PractRand (Chris Doty-Humphrey), seeded by sha256; 53 random bits a number.
 */
export function seededRandom(...parts: (string | number)[]): Random {
  const key = createHash('sha256').update(JSON.stringify(parts)).digest();
  let a = key.readInt32LE(0);
  let b = key.readInt32LE(4);
  let c = key.readInt32LE(8);
  let counter = key.readInt32LE(12);
  const next = (): number => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
}

/** The numbers 0 … count−1 in random order (Fisher and Yates, Durstenfeld's form). */
export function permutation(count: number, random: Random): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last--) {
    const pick = Math.floor(random() * (last + 1));
    const kept = order[last]!;
    order[last] = order[pick]!;
    order[pick] = kept;
  }
  return order;
}

/**
 * Runs `work` with `Math.random` replaced by `random`.
 *
 * TensorFlow.js seeds every initialiser and dropout mask that got no seed from `Math.random`; there is no other door.
 * `work` must be synchronous, so no other code can ever see the replacement. Throws a UserError when it is not.
 */
export function withRandom<T>(random: Random, what: string, work: () => T): T {
  const original = Math.random;
  Math.random = random;
  try {
    const result = work();
    if (result instanceof Promise) {
      throw new UserError('code-invalid', `${what} returned a promise; it has to be synchronous`);
    }
    return result;
  } finally {
    Math.random = original;
  }
}
