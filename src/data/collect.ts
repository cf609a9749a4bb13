import { UserError } from '../core/error.ts';
import type { SourceConfig } from '../core/project.ts';
import type { Zone } from '../store/types.ts';
import { readFirstSeen, recordFirstSeen, type SeenScope } from './first-seen.ts';
import { type FetchedSource, type FetchOptions, fetchFirst, pinsOf } from './sources.ts';

/** A source that was fetched; `pinned` is false where cdl.yaml does not say which bytes it must have. */
export interface Collected {
  fetched: FetchedSource;
  pinned: boolean;
}

/**
 * The first source that can be had, as {@link fetchFirst}. What a source without a pin gives is recorded when it is first
 * seen, and from then on must be the same: throws UserError source-mismatch, which says what to do, when it is not.
 */
export async function collect(
  zone: Zone,
  scope: SeenScope,
  sources: readonly SourceConfig[],
  options: FetchOptions,
): Promise<Collected> {
  const reasons: string[] = [];
  for (const source of sources) {
    const pinned = pinsOf(source) !== null;
    const seen = pinned ? null : await readFirstSeen(zone, scope, source);
    const wanted = seen ? { ...source, sha256: seen } : source;
    try {
      const fetched = await fetchFirst([wanted], { ...options, ...(seen && { recorded: true }) });
      if (pinned) return { fetched, pinned };
      const counts = await recordFirstSeen(zone, scope, source, pinsOf(fetched.source)!);
      if (counts.join() === pinsOf(fetched.source)!.join()) return { fetched, pinned };
      // Another job was first, and had other bytes: these are fetched again, to say so.
      const again = { ...source, sha256: counts };
      return { fetched: await fetchFirst([again], { ...options, recorded: true }), pinned };
    } catch (error) {
      if (!(error instanceof UserError) || error.code !== 'source-unreachable') throw error;
      reasons.push(error.message);
    }
  }
  throw new UserError('source-unreachable', reasons.join('\n'));
}
