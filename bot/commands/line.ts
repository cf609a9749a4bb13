import { type Digest, shortDigest } from '../../src/index.ts';

/** The line a validator copies: the first digits name everything that was seen. */
export function approveLine(review: Digest, overrule = false): string {
  return `/approve ${shortDigest(review)}${overrule ? ' --override "why this is acceptable"' : ''}`;
}
