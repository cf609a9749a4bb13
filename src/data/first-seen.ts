import { z } from 'zod';
import { digestJson } from '../core/digest.ts';
import { sha256Schema } from '../core/project-names.ts';
import type { Zone } from '../store/types.ts';
import { type SourcePlace, sourceNames } from './sources.ts';

const recordSchema = z.strictObject({
  v: z.literal(1),
  names: z.array(z.string()),
  sha256: z.array(sha256Schema).min(1),
});

/** Whose sources are meant. */
export interface SeenScope {
  project: string;
  dataset: string;
}

/** Where a zone keeps what was first seen of a source that nobody pinned. */
const keyOf = (scope: SeenScope, source: SourcePlace): string =>
  `sources/${scope.project}/${scope.dataset}/${digestJson(sourceNames(source)).slice(7)}`;

/**
 * The sha256 that a source without a pin had when it was first collected here, one for each of its names; null for one that
 * is seen for the first time, or whose record cannot be read (it is then written anew).
 */
export async function readFirstSeen(
  zone: Zone,
  scope: SeenScope,
  source: SourcePlace,
): Promise<string[] | null> {
  const record = await zone.readRecord(keyOf(scope, source));
  const parsed = recordSchema.safeParse(record?.value);
  return parsed.success && parsed.data.sha256.length === sourceNames(source).length
    ? parsed.data.sha256
    : null;
}

/**
 * Records what was seen of a source without a pin, and gives what counts from now on: another job may have been first, and
 * have seen something else.
 */
export async function recordFirstSeen(
  zone: Zone,
  scope: SeenScope,
  source: SourcePlace,
  sha256: readonly string[],
): Promise<string[]> {
  const value = { v: 1, names: sourceNames(source), sha256: [...sha256] };
  const written = await zone.writeRecord(keyOf(scope, source), value, { ifAbsent: true });
  if (written === 'stored') return [...sha256];
  const first = await readFirstSeen(zone, scope, source);
  if (first) return first;
  await zone.writeRecord(keyOf(scope, source), value);
  return [...sha256];
}
