import { type Digest, isDigest } from '../core/digest.ts';
import type { Zone } from '../store/types.ts';

// A data set's version is what its items are, so that the same sources give the same digest whatever was there before. What
// came before it is therefore told beside it, as is who made it.

const newestKey = (project: string, name: string) => `data-made/${project}/${encodeURIComponent(name)}`;
const beforeKey = (version: Digest) => `data-before/${version.slice(7)}`;

async function digestAt(zone: Zone, key: string, field: string) {
  const record = await zone.readRecord(key);
  const value = (record?.value as Record<string, unknown> | undefined)?.[field];
  return { digest: isDigest(value) ? value : null, etag: record?.etag ?? null };
}

/**
 * Says that `ingest` made this version of a data set's side just now, after the one that was the newest until then. A version
 * that was made before keeps its place: what comes before one never changes, so no history has a loop. Of two at once, one is
 * the newest.
 */
export async function noteMade(zone: Zone, project: string, name: string, version: Digest): Promise<void> {
  const key = newestKey(project, name);
  const newest = await digestAt(zone, key, 'version');
  if (newest.digest === version) return;
  await zone.writeRecord(beforeKey(version), { v: 1, previous: newest.digest }, { ifAbsent: true });
  const condition = newest.etag === null ? { ifAbsent: true as const } : { ifMatch: newest.etag };
  await zone.writeRecord(key, { v: 1, version }, condition);
}

/** The newest version that {@link noteMade} was told of; `name` is that of its manifest (`articles-train`). Null without one. */
export async function newestMade(zone: Zone, project: string, name: string): Promise<Digest | null> {
  return (await digestAt(zone, newestKey(project, name), 'version')).digest;
}

/** The version that was the newest when this one was made first; null where none was, or nobody said. */
export async function madeBefore(zone: Zone, version: Digest): Promise<Digest | null> {
  return (await digestAt(zone, beforeKey(version), 'previous')).digest;
}
