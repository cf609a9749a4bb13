import { chmod, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { projectFile } from '../core/project.ts';
import type { SelectedFile } from '../exec/code.ts';
import { run } from '../exec/run.ts';
import type { Zone } from '../store/types.ts';
import type { Ctx } from './types.ts';

/**
 * Keeps all that a training saw of the repository, `cdl.yaml` and the model's code, in the store: with it a run can be made
 * again whatever becomes of its commit, and when there never was one. Files that did not change are stored once.
 */
export async function keepSource(
  zone: Zone,
  ctx: Ctx,
  model: string,
  code: readonly SelectedFile[],
): Promise<Digest> {
  const others = code.filter(({ path }) => path !== projectFile);
  // As the step read it, committed or not.
  const all = [{ path: projectFile, bytes: await readFile(join(ctx.root, projectFile)) }, ...others];
  const files = await Promise.all(
    all.map(async ({ path, bytes }) => ({ path, ...(await zone.putBlob(bytes)) })),
  );
  const executable = others.filter(({ mode }) => mode === '100755').map(({ path }) => path);
  return zone.putArtifact({ kind: 'source', name: model, files, parents: [], meta: { executable } });
}

/**
 * Writes what {@link keepSource} kept into a folder that does not exist yet, as the worktree of a repository without a
 * commit. Throws UserError artifact-missing, and artifact-corrupt for what could not have been kept.
 */
export async function openSource(zone: Zone, digest: Digest, folder: string): Promise<void> {
  const { kind, files, meta } = await zone.getArtifact(digest);
  // Jobs of any branch write here: a repository's own files would be commands to git.
  const strange = files.find(({ path }) => path.split('/').some((part) => /^\.git\W*$|^git~/i.test(part)));
  if (kind !== 'source' || strange) {
    throw new UserError(
      'artifact-corrupt',
      `${digest} is no source of a run${strange ? `: it holds ${strange.path}` : ''}`,
    );
  }
  await zone.saveArtifact(digest, folder);
  const executable = new Set(Array.isArray(meta.executable) ? meta.executable : []);
  for (const { path } of files) if (executable.has(path)) await chmod(join(folder, path), 0o755);
  for (const args of [
    ['init', '--quiet'],
    ['add', '--all', '--force'],
  ]) {
    const result = await run('git', args, { cwd: folder });
    if (result.code !== 0) {
      throw new UserError('file-missing', `git ${args[0]} in ${folder}: ${result.stderr.toString().trim()}`);
    }
  }
}
