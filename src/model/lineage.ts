import type { ArtifactKind } from '../core/artifact.ts';
import type { Digest } from '../core/digest.ts';
import type { Zone } from '../store/types.ts';
import { artifactIfThere } from '../store/zone.ts';

/** One artifact in a lineage. `kind` and `label` are null for one that is not in the store (any more). */
export interface LineageNode {
  digest: Digest;
  kind: ArtifactKind | null;
  label: string | null;
  /** Where a data set was read from, as its version tells. */
  sources: string[];
  parents: Digest[];
}

/** What some artifacts were made of, down to the first: each artifact once, in the order of the way down. */
export async function readLineage(zone: Zone, roots: readonly Digest[]): Promise<LineageNode[]> {
  const nodes = new Map<Digest, LineageNode>();
  const open = [...roots];
  for (let digest = open.shift(); digest !== undefined; digest = open.shift()) {
    if (nodes.has(digest)) continue;
    const artifact = await artifactIfThere(zone, digest);
    nodes.set(digest, {
      digest,
      kind: artifact?.kind ?? null,
      label: artifact?.name ?? null,
      sources: artifact ? sourcesOf(artifact.meta) : [],
      parents: artifact?.parents ?? [],
    });
    if (artifact) open.push(...artifact.parents);
  }
  return [...nodes.values()];
}

function sourcesOf(meta: Readonly<Record<string, unknown>>): string[] {
  const names = (meta.source as { names?: unknown } | undefined)?.names;
  return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : [];
}
