import { setImmediate as pause } from 'node:timers/promises';
import { type Digest, digestJson, isDigest } from '../core/digest.ts';
import { UpstreamError, UserError } from '../core/error.ts';
import type { DatasetConfig } from '../core/project.ts';
import type { Zone } from '../store/types.ts';
import type { SeenScope } from './first-seen.ts';

/** The side of each item by the first 32 hexadecimal digits of its id. */
export type Sides = ReadonlyMap<string, 'train' | 'test'>;

/** Name of the file of a data version that says which side every item is on, also those of other versions before it. */
export const sidesFile = 'sides.txt';

/** Under which an item stands in {@link Sides}. */
export const sidesKey = (id: Digest): string => id.slice(7, 39);

/** The lines of {@link sidesFile}, in the order of the ids: the same sides give the same bytes on either side. */
export function encodeSides(sides: Sides): string {
  return [...sides.keys()]
    .sort()
    .map((key) => `${key} ${sides.get(key)}\n`)
    .join('');
}

function decodeSides(text: string, digest: Digest): Map<string, 'train' | 'test'> {
  const sides = new Map<string, 'train' | 'test'>();
  for (const [line, key, side] of text.matchAll(/([0-9a-f]{32}) (train|test)\n|[^\n]*\n?/g)) {
    if (line === '') continue;
    if (key === undefined) throw new UserError('artifact-corrupt', `${digest} is no ${sidesFile}`);
    sides.set(key, side as 'train' | 'test');
  }
  return sides;
}

/**
 * Reads the sides that `split.after` names: from the zone that is written, or else from the work zone. What the withheld side
 * was made of before is compared with the result ({@link recordSides}), so that a made-up list moves no withheld item. Throws
 * UserError input-missing when it is nowhere.
 */
export async function readSides(zones: readonly Zone[], after: Digest): Promise<Sides> {
  for (const zone of zones) {
    if (await zone.hasBlob(after)) return decodeSides((await zone.readBlob(after)).toString('utf8'), after);
  }
  throw new UserError(
    'input-missing',
    `split.after ${after} is not in the store`,
    `it is the digest of ${sidesFile} of the data version before, which cdl ingest tells; collect that one again first`,
  );
}

/** What decides the sides of new items; `after`, validation and stratify do not. */
function definition({ split, clean, item }: DatasetConfig): Digest {
  const { key, test, group_by, group_near } = split;
  return digestJson({
    item,
    key,
    test,
    group_by: group_by ?? null,
    group_near: group_near ?? null,
    clean: clean ?? [],
  });
}

const keyOf = ({ project, dataset }: SeenScope, config: DatasetConfig): string =>
  `sides/${project}/${dataset}/${definition(config).slice(7)}`;

function recordedDigest(value: unknown): Digest | null {
  const sides = (value as { sides?: unknown } | null)?.sides;
  return isDigest(sides) ? sides : null;
}

/**
 * The sides of all items that versions of a data set had so far, as `split.after` of the next one; null where each item is by
 * itself and keeps its side anyway, or nothing was collected yet.
 */
export async function recordedSides(
  zone: Zone,
  scope: SeenScope,
  config: DatasetConfig,
): Promise<Digest | null> {
  const sides = recordedDigest((await zone.readRecord(keyOf(scope, config)))?.value);
  return sides !== null && (await zone.hasBlob(sides)) ? sides : null;
}

/** So often another job may be faster. */
const tries = 20;

/**
 * Remembers the sides of a version in its zone, and makes sure that no item which an earlier version had is on another side
 * now. Throws UserError data-invalid, which says what to write as `split.after`, when one is.
 */
export async function recordSides(
  zone: Zone,
  scope: SeenScope,
  config: DatasetConfig,
  digest: Digest,
): Promise<void> {
  const key = keyOf(scope, config);
  for (let attempt = 0; attempt < tries; attempt++) {
    const record = await zone.readRecord(key);
    const before = recordedDigest(record?.value);
    if (before === digest) return;
    const now = await readSides([zone], digest);
    // What was recorded and is gone cannot be held against anybody.
    const known: Sides = before && (await zone.hasBlob(before)) ? await readSides([zone], before) : new Map();
    let moved = 0;
    for (const [id, side] of now) if (known.has(id) && known.get(id) !== side) moved += 1;
    if (moved > 0) {
      throw new UserError(
        'data-invalid',
        `${moved} items of ${scope.dataset} would change sides: what came since joins them with others`,
        `say split: { after: ${before} }, which keeps every item where it was; another split.key begins anew`,
      );
    }
    const all = new Map([...known, ...now]);
    const { digest: sides } =
      all.size === now.size ? { digest } : await zone.putBlob(Buffer.from(encodeSides(all), 'utf8'));
    if (sides === before) return;
    const condition = record ? { ifMatch: record.etag } : ({ ifAbsent: true } as const);
    if ((await zone.writeRecord(key, { v: 1, sides }, condition)) === 'stored') return;
    await pause();
  }
  throw new UpstreamError('store', `others keep writing ${key}`, { retryable: true });
}
