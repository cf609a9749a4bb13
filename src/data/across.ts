import { join } from 'node:path';
import type { Digest } from '../core/digest.ts';
import type { SourceConfig } from '../core/project.ts';
import type { Zone } from '../store/types.ts';
import { itemIds, openDataset } from './dataset.ts';
import { indexOfVersion } from './version-index.ts';

/** Whether the two sides come from sources of their own, so that no split keeps copies on one side. */
export const hasSourcesOfSides = (sources: readonly SourceConfig[]): boolean =>
  sources.some(({ side }) => side !== undefined);

/**
 * How many items of one stored version another has too, by their bytes; versions that were made of others are compared as
 * they were collected. `folder` is for tensors while they are read. Throws UserError artifact-missing, artifact-corrupt.
 */
export async function countShared(
  one: { zone: Zone; digest: Digest },
  other: { zone: Zone; digest: Digest },
  folder: string,
): Promise<{ shared: number; count: number }> {
  const known = new Set(await idsOf(other, join(folder, 'other')));
  const ids = await idsOf(one, join(folder, 'one'));
  return { shared: ids.filter((id) => known.has(id)).length, count: ids.length };
}

async function idsOf({ zone, digest }: { zone: Zone; digest: Digest }, folder: string): Promise<string[]> {
  const { parents, files } = await zone.getArtifact(digest);
  if (parents[0]) return idsOf({ zone, digest: parents[0] }, folder);
  if (files.some(({ path }) => path === 'index.jsonl'))
    return (await indexOfVersion(zone, digest)).map(({ id }) => id.slice(7));
  await zone.saveArtifact(digest, folder);
  return itemIds(await openDataset(folder));
}
