import { join } from 'node:path';
import type { Digest } from '../core/digest.ts';
import type { SourceConfig } from '../core/project.ts';
import type { Zone } from '../store/types.ts';
import { itemIds, openDataset } from './dataset.ts';
import { createNearIndex } from './near.ts';
import type { RawItem } from './raw-item.ts';
import { readRawItems } from './shards.ts';
import { indexOfVersion } from './version-index.ts';

/** Whether the two sides come from sources of their own, so that no split keeps copies on one side. */
export const hasSourcesOfSides = (sources: readonly SourceConfig[]): boolean =>
  sources.some(({ side }) => side !== undefined);

/** A version in its zone. */
interface Stored {
  zone: Zone;
  digest: Digest;
}

/** How many of so many items another version has too: the same bytes, or (null: not compared) nearly the same text. */
export interface Shared {
  count: number;
  shared: number;
  near: number | null;
}

/**
 * How many items of one stored version another has too; versions that were made of others are compared as they were
 * collected. Texts are nearly the same as `createNearIndex` has it, with this threshold; null: only bytes are compared.
 * `folder` is for what is read. Throws UserError artifact-missing, artifact-corrupt.
 */
export async function countShared(
  one: Stored,
  other: Stored,
  threshold: number | null,
  folder: string,
): Promise<Shared> {
  const known = new Set(await idsOf(other, join(folder, 'other')));
  const ids = await idsOf(one, join(folder, 'one'));
  const shared = ids.filter((id) => known.has(id)).length;
  const near = threshold === null ? null : await countNear(one, other, threshold, known, folder);
  return { shared, count: ids.length, near };
}

/** How many items of one version are alike to some of the other, and not the same as one. */
async function countNear(
  one: Stored,
  other: Stored,
  threshold: number,
  known: ReadonlySet<string>,
  folder: string,
): Promise<number> {
  const index = createNearIndex(threshold);
  for await (const { bytes } of collectedItems(other, join(folder, 'other-items'))) index.add(bytes);
  const first = known.size;
  const isKnown: boolean[] = [];
  for await (const { id, bytes } of collectedItems(one, join(folder, 'one-items'))) {
    index.add(bytes);
    isKnown.push(known.has(id.slice(7)));
  }
  // The smallest index of a group stands for it, and those of the other version come first.
  const groups = index.groups();
  return isKnown.filter((is, at) => !is && groups[first + at]! < first).length;
}

async function* collectedItems({ zone, digest }: Stored, folder: string): AsyncGenerator<RawItem> {
  const { parents } = await zone.getArtifact(digest);
  if (parents[0]) return yield* collectedItems({ zone, digest: parents[0] }, folder);
  await zone.saveArtifact(digest, folder);
  yield* readRawItems(folder);
}

async function idsOf({ zone, digest }: Stored, folder: string): Promise<string[]> {
  const { parents, files } = await zone.getArtifact(digest);
  if (parents[0]) return idsOf({ zone, digest: parents[0] }, folder);
  if (files.some(({ path }) => path === 'index.jsonl'))
    return (await indexOfVersion(zone, digest)).map(({ id }) => id.slice(7));
  await zone.saveArtifact(digest, folder);
  return itemIds(await openDataset(folder));
}
