import { statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { Artifact } from '../../core/artifact.ts';
import type { Digest } from '../../core/digest.ts';
import { UserError } from '../../core/error.ts';
import { saveStream } from '../../store/stream.ts';
import type { LocalZone, Zone } from '../../store/types.ts';
import type { FilePool } from './pool.ts';
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

/** How many objects come at once. */
const atOnce = 8;

/**
 * Brings an artifact to this machine, those of its objects that are missing. Each is written as it comes and looked at by a
 * thread meanwhile, so that the network does not wait for it; only one with the right bytes is kept. Throws UserError
 * artifact-corrupt, artifact-missing.
 */
export async function fetchArtifact(
  local: LocalZone,
  remote: Zone,
  digest: Digest,
  pool: FilePool,
): Promise<void> {
  if (await local.hasArtifact(digest).catch(absent)) return;
  const artifact = await remote.getArtifact(digest);
  const rest = artifact.files.values();
  const lane = async () => {
    for (const file of rest) {
      const there = statSync(local.blobPath(file.digest), { throwIfNoEntry: false });
      if (there?.size !== file.size) await fetchBlob(local, remote, file, pool);
    }
  };
  const lanes = Array.from({ length: atOnce }, lane);
  await Promise.allSettled(lanes);
  await Promise.all(lanes);
  await local.putArtifact(artifact);
  const note = await readNote(remote, digest);
  if (note) await writeNote(local, digest, note);
}

async function fetchBlob(
  local: LocalZone,
  remote: Zone,
  { digest, size }: Artifact['files'][number],
  pool: FilePool,
): Promise<void> {
  const path = local.temporary();
  try {
    await saveStream(await remote.openBlobPart(digest, { offset: 0, length: size }), path);
    const sha256 = await pool.hash(path);
    if (digest !== `sha256:${sha256}`) {
      throw new UserError(
        'artifact-corrupt',
        `${digest} in ${remote.store.url} has the content of sha256:${sha256}`,
      );
    }
    await local.adopt(path, digest);
  } finally {
    await rm(path, { force: true });
  }
}

function absent(error: unknown): false {
  if (error instanceof UserError && error.code === 'artifact-missing') return false;
  throw error;
}
