import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { type Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Artifact } from '../../core/artifact.ts';
import type { Digest } from '../../core/digest.ts';
import { UserError } from '../../core/error.ts';
import { blobKey } from '../../store/key.ts';
import { type LocalZone, refreshAfter, type Zone } from '../../store/types.ts';
import { artifactIfThere } from '../../store/zone.ts';
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

/**
 * Copies a version and those before it, oldest first, as far as `from` has them and `to` does not: objects that are there are
 * not sent again. Returns how many versions were copied. A version that `to` has may have been made by somebody else, and its
 * ancestors are then there too.
 */
export async function copyVersions(from: Zone, to: Zone, digest: Digest, depth = Infinity): Promise<number> {
  const wanted: Digest[] = [];
  for (let at: Digest | null = digest; at !== null && wanted.length < depth; ) {
    // Before anything is read: mostly nothing is to be done.
    if (await to.isFresh(at)) break;
    const artifact = await artifactIfThere(from, at);
    if (!artifact) {
      if (wanted.length > 0) break;
      throw new UserError('artifact-missing', `the version ${at} is not in ${from.store.url}`);
    }
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

/** How many bytes of an object may wait to be written. */
const waiting = 1 << 20;

/**
 * Brings an artifact to this machine, those of its objects that are missing, also those that are stored in place;
 * returns which. Each is hashed and written as it comes; only one
 * with the right bytes is kept. Throws UserError artifact-corrupt, artifact-missing.
 */
export async function fetchArtifact(local: LocalZone, remote: Zone, digest: Digest): Promise<Digest[]> {
  const known = await artifactIfThere(local, digest);
  const found = ({ digest }: Artifact['files'][number]) =>
    statSync(local.blobPath(digest), { throwIfNoEntry: false });
  const fetched: Digest[] = [];
  if (known?.files.every((file) => found(file)?.size === file.size) && (await local.isFresh(digest)))
    return fetched;
  // What was here may be what nothing held on to, and garbage be collected at this moment.
  const keep = async (file: Artifact['files'][number]): Promise<boolean> => {
    const there = found(file);
    if (there?.size !== file.size) return false;
    return Date.now() - there.mtimeMs < refreshAfter || local.store.touch(blobKey(local.name, file.digest));
  };
  const artifact = known ?? (await remote.getArtifact(digest));
  const rest = artifact.files.values();
  const lane = async () => {
    for (const file of rest) {
      if (await keep(file)) continue;
      await fetchBlob(local, remote, file);
      fetched.push(file.digest);
    }
  };
  const lanes = Array.from({ length: atOnce }, lane);
  await Promise.allSettled(lanes);
  await Promise.all(lanes);
  await local.putArtifact(artifact);
  const note = known && fetched.length === 0 ? null : await readNote(remote, digest);
  if (note) await writeNote(local, digest, note);
  return fetched;
}

async function fetchBlob(
  local: LocalZone,
  remote: Zone,
  { digest, size }: Artifact['files'][number],
): Promise<void> {
  const path = local.temporary();
  try {
    const sha256 = await saveHashed(await remote.openBlobPart(digest, { offset: 0, length: size }), path);
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

/** Writes a stream to a new file; the sha256 of its bytes, in hexadecimal digits. */
async function saveHashed(source: Readable, path: string): Promise<string> {
  const hash = createHash('sha256');
  const file = await open(path, 'wx');
  const write = async (chunks: Buffer[]) => {
    for (const chunk of chunks) hash.update(chunk);
    let rest = chunks;
    for (let left = chunks.reduce((sum, chunk) => sum + chunk.length, 0); left > 0; ) {
      const { bytesWritten } = await file.writev(rest);
      left -= bytesWritten;
      if (left > 0) rest = [Buffer.concat(rest).subarray(bytesWritten)];
    }
  };
  try {
    await pipeline(
      source,
      new Writable({
        highWaterMark: waiting,
        write: (chunk: Buffer, _encoding, done) => void write([chunk]).then(() => done(), done),
        writev: (all, done) => void write(all.map(({ chunk }) => chunk as Buffer)).then(() => done(), done),
      }),
    );
  } finally {
    await file.close();
  }
  return hash.digest('hex');
}
