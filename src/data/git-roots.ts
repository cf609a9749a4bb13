import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../core/error.ts';
import { lockFile } from '../core/lock.ts';
import { projectFile } from '../core/project.ts';
import { run } from '../exec/run.ts';
import { pointerFile } from './folder/pointers.ts';
import { digestsIn } from './gc.ts';

/** What git and this checkout hold on to, and why that may not be all of it. */
export interface GitRoots {
  digests: Set<string>;
  /** Whatever reads like a version of a model, `fashion/v3`: what a model of some branch starts from. */
  versions: Set<string>;
  /** Branches and tags of remotes that were not fetched, a shallow clone: reasons not to remove anything. */
  doubts: string[];
}

async function git(root: string, args: readonly string[], input?: string): Promise<Buffer> {
  const result = await run('git', args, { cwd: root, ...(input !== undefined && { input }) });
  if (result.code === 0) return result.stdout;
  throw new UserError('file-missing', `git ${args[0]} in ${root}: ${result.stderr.toString().trim()}`);
}

/**
 * Every sha256, and every `name/v3`, in `cdl.lock`, `cdl.data.lock` and `cdl.yaml`, in every commit that a branch, tag, stash or reflog of this clone reaches, in
 * the working tree, and in what the last steps here handed on. Read as text, so that a lock with conflict markers counts
 * too. With `remotes`, it is asked whether their branches and tags are all here.
 */
export async function readGitRoots(root: string, remotes: boolean): Promise<GitRoots> {
  const digests = new Set<string>();
  const versions = new Set<string>();
  const read = (text: string) => {
    digestsIn(text, digests);
    for (const [one] of text.matchAll(/(?<![\w/-])[a-z0-9][a-z0-9_-]*\/v\d{1,9}(?!\d)/g)) versions.add(one);
  };
  const doubts: string[] = [];
  const paths = [lockFile, pointerFile, projectFile].map((name) => `:(glob)**/${name}`);
  // Each change of such a file, with the object before and after; -m tells those of merges too.
  const raw = [
    'log',
    '--all',
    '--reflog',
    '--full-history',
    '--format=',
    '--raw',
    '--no-abbrev',
    '--no-renames',
    '-m',
    '--root',
  ];
  const listed = await git(root, [...raw, '--', ...paths]);
  const oids = [...new Set(listed.toString().match(/(?<= )[0-9a-f]{40,64}(?= )/g) ?? [])].filter(
    (oid) => !/^0+$/.test(oid),
  );
  if (oids.length > 0) {
    read((await git(root, ['cat-file', '--batch'], `${oids.join('\n')}\n`)).toString('latin1'));
  }
  for (const name of [lockFile, pointerFile, projectFile]) {
    read(await readFile(join(root, name), 'latin1').catch(() => ''));
  }
  for (const name of await readdir(join(root, '.cdl')).catch(() => [])) {
    if (name.endsWith('.json')) digestsIn(await readFile(join(root, '.cdl', name), 'latin1'), digests);
  }
  for (const name of await readdir(join(root, '.cdl', 'data')).catch(() => [])) {
    if (!name.endsWith('.stat')) continue;
    const bytes = await readFile(join(root, '.cdl', 'data', name));
    if (bytes.length >= 40) digests.add(bytes.toString('hex', 8, 40));
  }
  if ((await git(root, ['rev-parse', '--is-shallow-repository'])).toString().trim() === 'true') {
    doubts.push('this is a shallow clone: git fetch --unshallow');
  }
  const names = remotes ? (await git(root, ['remote'])).toString().split('\n').filter(Boolean) : [];
  for (const name of names) doubts.push(...(await unfetched(root, name)));
  return { digests, versions, doubts };
}

async function unfetched(root: string, remote: string): Promise<string[]> {
  const asked = await run('git', ['ls-remote', '--heads', '--tags', remote], { cwd: root });
  if (asked.code !== 0)
    return [`${remote} does not answer: ${asked.stderr.toString().trim().split('\n')[0]}`];
  const lines = asked.stdout.toString().split('\n').filter(Boolean);
  const known = await git(
    root,
    ['cat-file', '--batch-check'],
    lines.map((line) => `${line.slice(0, line.indexOf('\t'))}\n`).join(''),
  );
  const missing = known
    .toString()
    .split('\n')
    .flatMap((line, index) => (line.endsWith(' missing') ? [lines[index]!.split('\t')[1]!] : []));
  if (missing.length === 0) return [];
  return [`${remote} has ${missing.slice(0, 5).join(', ')}, which are not here: git fetch --all --tags`];
}
