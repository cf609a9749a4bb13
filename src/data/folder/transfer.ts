import type { Artifact } from '../../core/artifact.ts';
import type { Digest } from '../../core/digest.ts';
import { UserError } from '../../core/error.ts';
import type { LocalZone, Zone } from '../../store/types.ts';
import { readNote, writeNote } from './refs.ts';
import { folderVersion } from './version.ts';

/** Whether a zone has a version whole: its manifest is written last, so the manifest tells. */
export async function hasVersion(zone: Zone, digest: Digest): Promise<boolean> {
  try {
    await zone.getArtifact(digest);
    return true;
  } catch (error) {
    if (error instanceof UserError && error.code === 'artifact-missing') return false;
    throw error;
  }
}

async function manifestIfThere(zone: Zone, digest: Digest): Promise<Artifact | null> {
  try {
    return await zone.getArtifact(digest);
  } catch (error) {
    if (error instanceof UserError && error.code === 'artifact-missing') return null;
    throw error;
  }
}

/**
 * Copies a version and those before it, oldest first, as far as `from` has them and `to` does not: objects that are there are
 * not sent again. Returns how many versions were copied. A version that `to` has may have been made by somebody else, and its
 * ancestors are then there too.
 */
export async function copyVersions(from: Zone, to: Zone, digest: Digest, depth = Infinity): Promise<number> {
  const wanted: Digest[] = [];
  for (let at: Digest | null = digest; at !== null && wanted.length < depth; ) {
    const artifact = await manifestIfThere(from, at);
    if (!artifact) {
      if (wanted.length > 0) break;
      throw new UserError('artifact-missing', `the version ${at} is not in ${from.store.url}`);
    }
    if (await to.isFresh(at)) break;
    wanted.push(at);
    at = folderVersion(at, artifact)?.meta.previous ?? null;
  }
  for (const version of wanted.reverse()) {
    await to.copyArtifact(from, version);
    const note = await readNote(from, version);
    if (note) await writeNote(to, version, note);
  }
  return wanted.length;
}

/** Brings the objects of an artifact to this machine, those that are missing. */
export async function fetchArtifact(local: LocalZone, remote: Zone, digest: Digest): Promise<void> {
  if (!(await local.hasArtifact(digest).catch(absent))) await local.copyArtifact(remote, digest);
}

function absent(error: unknown): false {
  if (error instanceof UserError && error.code === 'artifact-missing') return false;
  throw error;
}
