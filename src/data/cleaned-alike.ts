import type { CleanStep } from '../core/project-data-rules.ts';
import { cleanItem } from './clean.ts';
import type { RawItem } from './raw-item.ts';

/**
 * What an item becomes by the declared steps of `clean:`, as a short text (half of its sha256): items with the same one are
 * equal once they are cleaned, and must not be parted by the split. Steps of the project's own code, and those after them,
 * are not looked at: the split comes before them. Neither is pseudonymising, which keeps different values different.
 */
export function cleanedAlike(item: RawItem, steps: readonly CleanStep[]): string {
  let now = item;
  for (const step of steps) {
    if (typeof step === 'object' && 'run' in step) break;
    if (typeof step === 'object' && 'pseudonymise' in step) continue;
    const made = cleanItem(now, step, null);
    if ('reason' in made) break;
    now = made.item;
  }
  return Buffer.from(now.id.slice(7, 39), 'hex').toString('latin1');
}
