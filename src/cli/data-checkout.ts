import { join, resolve } from 'node:path';
import { type Digest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { plural } from '../core/plural.ts';
import { localVersion } from '../data/folder/base.ts';
import { checkoutVersion } from '../data/folder/checkout.ts';
import { readPointers, setPointer } from '../data/folder/pointers.ts';
import { openFilePool } from '../data/folder/pool.ts';
import { fetchArtifact } from '../data/folder/transfer.ts';
import { blobKey } from '../store/index.ts';
import { type Desk, pointedPath, resolveRef, resolveVersion } from './data-desk.ts';
import { noteSharing } from './data-share.ts';
import type { CommandInput } from './types.ts';

/**
 * `cdl data checkout [VERSION…]`: folders as they are in these versions, without any as this commit has them; with `--to`,
 * one version anywhere else.
 */
export async function checkout(input: CommandInput, desk: Desk, what: readonly string[]): Promise<number> {
  const { to, force, ref } = input.options as { to?: string; force?: boolean; ref?: string };
  const all = what.length > 0 || ref !== undefined ? what : [...readPointers(desk.root).keys()];
  const wanted: { digest: Digest; at: string | null }[] = [];
  if (ref !== undefined) wanted.push({ digest: await resolveRef(desk, ref), at: null });
  for (const name of all)
    wanted.push({ digest: await resolveVersion(desk, name), at: pointedPath(desk, name) });
  if (to !== undefined && wanted.length !== 1) throw new UserError('usage', '--to goes with one version');
  const pool = openFilePool();
  const rows = [];
  try {
    for (const { digest, at } of wanted) {
      rows.push(await one(input, desk, digest, { at, to, force: force === true }, pool));
    }
  } finally {
    await pool.close();
  }
  const text = rows.map(
    (row) =>
      `${row.path}  ${shortDigest(row.version)}  ${plural(row.written, 'file')} written, ${row.kept} there already, ${row.removed} removed`,
  );
  input.console.print(text.join('\n') || 'this commit has no versions: cdl data add <path>', {
    versions: rows,
  });
  return 0;
}

async function one(
  input: CommandInput,
  desk: Desk,
  digest: Digest,
  options: { at: string | null; to: string | undefined; force: boolean },
  pool: ReturnType<typeof openFilePool>,
) {
  if (desk.hasRemote) {
    const remote = await desk.remote();
    if ((await fetchArtifact(desk.local, remote, digest)).length > 0) await noteSharing(desk, remote);
  }
  const { signal } = input.console;
  const version = options.to === undefined ? await localVersion(desk.local, digest) : null;
  if (!version) return elsewhere(input, desk, digest, options.to, pool);
  // Where this commit says; the name it was added under otherwise.
  const name = options.at ?? version.name;
  const path = join(desk.root, desk.nameOf(join(desk.root, name)));
  const done = await checkoutVersion({
    version,
    zone: desk.local,
    path,
    statCache: desk.statCache(name),
    force: options.force,
    pool,
    signal,
    progress: (share) => input.console.progress(name, share),
  });
  await setPointer(desk.root, name, digest);
  return { path: name, version: digest, ...done };
}

/** Anything that is not a folder version whole on this machine: into another folder, or the reason why it cannot be had. */
async function elsewhere(
  input: CommandInput,
  desk: Desk,
  digest: Digest,
  to: string | undefined,
  pool: ReturnType<typeof openFilePool>,
) {
  const { openListing } = await import('../data/folder/reader.ts');
  const { exportListing } = await import('../data/folder/export.ts');
  const listing = await openListing(desk.reader, digest);
  if (!(await desk.local.hasArtifact(digest))) {
    throw new UserError(
      'artifact-missing',
      `objects of ${digest} are not on this machine`,
      'set CDL_WORK_STORE to the store that has them, or give --store',
    );
  }
  if (to === undefined) {
    throw new UserError(
      'usage',
      `${listing.artifact.name} is a ${listing.artifact.kind}, which has no folder of its own`,
      `say where: cdl data checkout ${shortDigest(digest)} --to <folder>`,
    );
  }
  const path = resolve(input.cwd, to);
  // Files are written out of files: what is stored in place is here as long as that takes.
  const passing = await fetchArtifact(desk.local, desk.local, digest);
  const { signal } = input.console;
  const written = await exportListing({ listing, zone: desk.local, path, pool, signal });
  for (const one of passing) await desk.local.store.delete(blobKey('work', one));
  return { path: to, version: digest, written, kept: 0, removed: 0 };
}
