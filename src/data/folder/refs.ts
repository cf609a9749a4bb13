import { type Digest, isDigest } from '../../core/digest.ts';
import { UserError } from '../../core/error.ts';
import type { Zone } from '../../store/types.ts';
import { folderVersion } from './version.ts';

/** Key of a ref's record: a name that people share, and the newest version under it. */
export const refKey = (name: string): string => `data-refs/${encodeURIComponent(name)}`;

/** Who made a version, when (ISO 8601) and what for: told beside it, for the same content is the same version. */
export interface Note {
  who: string;
  at: string;
  message: string;
}

/** Key of the record with a version's note. */
export const noteKey = (version: Digest): string => `data-notes/${version.slice(7)}`;

/** Says who made a version; the first to make it stays. */
export async function writeNote(zone: Zone, version: Digest, note: Note): Promise<void> {
  await zone.writeRecord(noteKey(version), { v: 1, ...note }, { ifAbsent: true });
}

/** The note of a version, or null. */
export async function readNote(zone: Zone, version: Digest): Promise<Note | null> {
  const record = await zone.readRecord(noteKey(version));
  const { who, at, message } = (record?.value ?? {}) as Record<string, unknown>;
  const isNote = typeof who === 'string' && typeof at === 'string' && typeof message === 'string';
  return isNote ? { who, at, message } : null;
}

/** The version of a ref with the etag to swap it against, or null. Throws UserError artifact-corrupt. */
export async function readRef(zone: Zone, name: string): Promise<{ version: Digest; etag: string } | null> {
  const record = await zone.readRecord(refKey(name));
  if (!record) return null;
  const { version } = record.value as { version?: unknown };
  if (!isDigest(version))
    throw new UserError('artifact-corrupt', `the ref ${name} in ${zone.store.url} is not one`);
  return { version, etag: record.etag };
}

/** The refs of a zone by name. */
export async function listRefs(zone: Zone): Promise<Map<string, Digest>> {
  const refs = new Map<string, Digest>();
  for await (const key of zone.listRecordKeys('data-refs/')) {
    const name = decodeURIComponent(key.slice('data-refs/'.length));
    const ref = await readRef(zone, name);
    if (ref) refs.set(name, ref.version);
  }
  return refs;
}

/** How many versions back a ref may be moved forward from. */
const reach = 10_000;

/** Whether `older` is `newer` or one of the versions before it, as far as their manifests are in one of the zones. */
export async function isBefore(zones: readonly Zone[], older: Digest, newer: Digest): Promise<boolean> {
  let at: Digest | null = newer;
  for (let step = 0; at !== null && step < reach; step++) {
    if (at === older) return true;
    at = await previousOf(zones, at);
  }
  return false;
}

async function previousOf(zones: readonly Zone[], version: Digest): Promise<Digest | null> {
  for (const zone of zones) {
    try {
      return folderVersion(version, await zone.getArtifact(version))?.meta.previous ?? null;
    } catch (error) {
      if (!(error instanceof UserError && error.code === 'artifact-missing')) throw error;
    }
  }
  return null;
}

/**
 * Moves a ref forward to a version, by compare-and-swap: of two at once, one wins and the other looks again. Throws UserError
 * baseline-moved when the ref has gone another way meanwhile (`force` overrules that, not the swap).
 */
export async function moveRef(
  zone: Zone,
  name: string,
  version: Digest,
  options: { force: boolean; known: readonly Zone[] },
): Promise<'moved' | 'same'> {
  for (;;) {
    const ref = await readRef(zone, name);
    if (ref?.version === version) return 'same';
    if (ref && !options.force && !(await isBefore(options.known, ref.version, version))) {
      throw new UserError(
        'baseline-moved',
        `the ref ${name} in ${zone.store.url} is at ${ref.version}, which is not a version before ${version}`,
        `look at what is there (cdl data diff ${ref.version.slice(7, 19)} ${version.slice(7, 19)}), then take that version first (cdl data checkout --ref ${name}) or use another --ref`,
      );
    }
    const written = await zone.writeRecord(
      refKey(name),
      { v: 1, version },
      ref ? { ifMatch: ref.etag } : { ifAbsent: true },
    );
    if (written === 'stored') return 'moved';
  }
}
