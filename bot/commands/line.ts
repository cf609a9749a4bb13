import { type Digest, shortDigest } from '../../src/index.ts';

/**
 * The line a validator copies: the first digits name everything that was seen. It does not begin with `/approve`: GitLab
 * takes a line that does for its quick action (doc: user/project/quick_actions), and a comment of nothing else never
 * becomes a note that we could hear.
 */
export function approveLine(review: Digest, overrule = false): string {
  return `cdl /approve ${shortDigest(review)}${overrule ? ' --override "why this is acceptable"' : ''}`;
}
