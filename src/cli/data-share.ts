import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Digest, digestBytes, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { plural } from '../core/plural.ts';
import { localVersion } from '../data/folder/base.ts';
import { readPointers } from '../data/folder/pointers.ts';
import { moveRef, readRef } from '../data/folder/refs.ts';
import { copyVersions, fetchArtifact } from '../data/folder/transfer.ts';
import { folderVersion } from '../data/folder/version.ts';
import type { Zone } from '../store/types.ts';
import { type Desk, resolveVersion } from './data-desk.ts';
import type { CommandInput } from './types.ts';

function needsRemote(desk: Desk): void {
  if (desk.hasRemote) return;
  throw new UserError(
    'environment-missing',
    'there is no store to share versions through',
    'set CDL_WORK_STORE, or give --store file:///folder or s3://bucket/prefix?endpoint=https://host:port',
  );
}

/**
 * Notes in the shared store that this repository's locks name what is there; once a clone, unless `again`. Who may only read
 * there cannot.
 */
export async function noteSharing(desk: Desk, remote: Zone, again = false): Promise<void> {
  const noted = join(desk.root, '.cdl', 'data', `${digestBytes(remote.store.url).slice(7, 39)}.noted`);
  if (!again && existsSync(noted)) return;
  const { noteRepository } = await import('../data/repositories.ts');
  try {
    await noteRepository(remote, desk.root);
  } catch (error) {
    if (!(error instanceof UserError && error.code === 'store-denied')) throw error;
    return;
  }
  mkdirSync(dirname(noted), { recursive: true });
  writeFileSync(noted, '');
}

const wantedOf = (desk: Desk, what: readonly string[]): string[] =>
  what.length > 0 ? [...what] : [...readPointers(desk.root).keys()];

/** `cdl data push [VERSION…]`: versions with those before them to the shared store, and their refs forward. */
export async function push(input: CommandInput, desk: Desk, what: readonly string[]): Promise<number> {
  needsRemote(desk);
  const remote = await desk.remote();
  const { ref, force } = input.options as { ref?: string; force?: boolean };
  const wanted = wantedOf(desk, what);
  if (ref !== undefined && wanted.length !== 1) throw new UserError('usage', '--ref goes with one version');
  const send = async (one: string) => {
    const version = await resolveVersion(desk, one);
    const copied = await copyVersions(desk.local, remote, version);
    // The manifest of a version that is here whole need not be looked through again.
    const { name } = (await localVersion(desk.local, version)) ?? (await desk.local.getArtifact(version));
    const known = [desk.local, remote];
    const moved = await moveRef(remote, ref ?? name, version, { force: force === true, known });
    return { name, ref: ref ?? name, version, copied, moved: moved === 'moved' };
  };
  const rows: Awaited<ReturnType<typeof send>>[] = [];
  for (const one of wanted) rows.push(await send(one));
  // Nothing that is so young is garbage, so that this is early enough.
  const isNew = rows.some(({ copied, moved }) => copied > 0 || moved);
  if (rows.length > 0) await noteSharing(desk, remote, isNew);
  const text = rows.map(
    (row) =>
      `${row.name}  ${shortDigest(row.version)}  ${row.copied === 0 ? 'there already' : `${plural(row.copied, 'version')} sent`}${row.moved ? `, ref ${row.ref} moved` : ''}`,
  );
  input.console.print(text.join('\n') || 'this commit has no versions: cdl data add <path>', {
    pushed: rows,
  });
  return 0;
}

/** `cdl data pull [VERSION…]`: the objects of versions to this machine, and their refs forward; folders stay as they are. */
export async function pull(input: CommandInput, desk: Desk, what: readonly string[]): Promise<number> {
  needsRemote(desk);
  const remote = await desk.remote();
  const rows: { name: string; version: Digest; ref: Digest | null }[] = [];
  const versions: Digest[] = [];
  for (const one of wantedOf(desk, what)) versions.push(await resolveVersion(desk, one));
  for (const version of versions) await fetchArtifact(desk.local, remote, version);
  if (versions.length > 0) await noteSharing(desk, remote);
  for (const version of versions) {
    const artifact = await desk.local.getArtifact(version);
    const { name } = artifact;
    const ref = folderVersion(version, artifact) ? await readRef(remote, name) : null;
    rows.push({ name, version, ref: ref?.version ?? null });
  }
  const text = rows.map((row) => {
    const newer =
      row.ref !== null && row.ref !== row.version
        ? `, the ref ${row.name} is at ${shortDigest(row.ref)}`
        : '';
    return `${row.name}  ${shortDigest(row.version)}  is here${newer}`;
  });
  input.console.print(text.join('\n') || 'this commit has no versions', { pulled: rows });
  return 0;
}
