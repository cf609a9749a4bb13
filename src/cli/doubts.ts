import { UserError } from '../core/error.ts';
import type { Zone } from '../store/types.ts';

/**
 * Adds what is not known without the trusted zone to the reasons why something may be in use that is not seen here. Throws
 * UserError input-missing when there are such reasons and something is to be removed.
 */
export function judgeDoubts(doubts: string[], trusted: Zone | null, remove: boolean): void {
  if (!trusted) doubts.push('the trusted zone cannot be read: decisions and what is live are not known');
  if (!remove || doubts.length === 0) return;
  throw new UserError(
    'input-missing',
    `what is in use is not all known here:\n${doubts.map((doubt) => `  ${doubt}`).join('\n')}`,
    'put that right, or run without --delete to see what would go',
  );
}
