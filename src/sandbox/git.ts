import { access, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { run } from '../exec/run.ts';
import type { TreeFile } from '../forge/git-trees.ts';
import { remembered } from './git-memory.ts';
import { type Commit, readingOf, type Signature } from './git-read.ts';

/** The object name git uses for "nothing" in pushes and hooks. */
export const zeroSha = '0'.repeat(40);

/** Git said no; `stderr` is its own explanation. */
export class GitError extends Error {
  override readonly name = 'GitError';
  readonly stderr: string;

  constructor(args: readonly string[], stderr: string) {
    super(`git ${args.join(' ')}: ${stderr.trim()}`);
    this.stderr = stderr.trim();
  }
}

export type { Commit, Signature };

/** One file of a comparison. Paths and modes as git has them; `diff` is the unified diff without the header. */
export interface FileDiff {
  oldPath: string;
  newPath: string;
  oldMode: string;
  newMode: string;
  kind: 'added' | 'deleted' | 'renamed' | 'modified';
  diff: string;
}

/** The environment of every git call: nothing of the person's own configuration reaches the sandbox. */
export function gitEnv(extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    LC_ALL: 'C.UTF-8',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_TERMINAL_PROMPT: '0',
    HOME: '/nonexistent',
    ...extra,
  };
}

/** Runs git in a repository and gives its output. Throws a GitError when it fails. */
export async function git(
  repository: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; input?: string | Uint8Array } = {},
): Promise<Buffer> {
  const result = await run('git', args, {
    cwd: repository,
    env: gitEnv(options.env),
    ...(options.input === undefined ? {} : { input: options.input }),
  });
  if (result.code !== 0) throw new GitError(args, result.stderr.toString('utf8'));
  return result.stdout;
}

/** Like {@link git}, as text without the last newline. */
export async function gitText(
  repository: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; input?: string | Uint8Array } = {},
): Promise<string> {
  return (await git(repository, args, options)).toString('utf8').replace(/\n$/, '');
}

/**
 * What a ref that is a file of its own points at; null when there is none, undefined when only git can tell. A process costs
 * a thousand times more.
 */
async function looseRef(repository: string, ref: string): Promise<string | null | undefined> {
  if (!/^refs\/\w[\w/-]*$/.test(ref)) return undefined;
  const text = await readFile(join(repository, ref), 'utf8').catch(() => '');
  if (/^[0-9a-f]{40}\n$/.test(text)) return text.trim();
  if (text !== '') return undefined;
  const isPacked = await access(join(repository, 'packed-refs')).then(
    () => true,
    () => false,
  );
  return isPacked ? undefined : null;
}

/** The commit a branch, tag or commit id names; null when there is none. */
export async function resolveCommit(repository: string, revision: string): Promise<string | null> {
  if (revision === '' || revision.startsWith('-')) return null;
  // No branch or tag is called like a commit (GitLab refuses such names).
  if (isId(revision)) return (await readCommit(repository, revision))?.id ?? null;
  return (await looseRef(repository, `refs/heads/${revision}`)) ?? askCommit(repository, revision);
}

const isId = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

async function askCommit(repository: string, revision: string): Promise<string | null> {
  for (const name of [`refs/heads/${revision}`, `refs/tags/${revision}`, revision]) {
    const found = await run(
      'git',
      ['rev-parse', '--verify', '--quiet', '--end-of-options', `${name}^{commit}`],
      {
        cwd: repository,
        env: gitEnv(),
      },
    );
    if (found.code === 0) return found.stdout.toString('utf8').trim();
  }
  return null;
}

/** The commit of exactly this full ref; null when there is none. */
export async function resolveRef(repository: string, ref: string): Promise<string | null> {
  const branch = ref.startsWith('refs/tags/') ? undefined : await looseRef(repository, ref);
  if (branch !== undefined) return branch;
  const found = await run(
    'git',
    ['rev-parse', '--verify', '--quiet', '--end-of-options', `${ref}^{commit}`],
    {
      cwd: repository,
      env: gitEnv(),
    },
  );
  return found.code === 0 ? found.stdout.toString('utf8').trim() : null;
}

/** Moves a ref from `old` (null: must not exist) to `to` (null: delete). False when it was not at `old` any more. */
export async function updateRef(
  repository: string,
  ref: string,
  to: string | null,
  old: string | null,
): Promise<boolean> {
  const moved = to === null ? undefined : await moveLoose(repository, ref, to, old);
  if (moved !== undefined) return moved;
  const args =
    to === null ? ['update-ref', '-d', ref, old ?? zeroSha] : ['update-ref', ref, to, old ?? zeroSha];
  const result = await run('git', args, { cwd: repository, env: gitEnv() });
  return result.code === 0;
}

/**
 * Moves a ref that is a file of its own, as git does it: with a lock beside it that git respects, too
 * (gitrepository-layout, refs). Undefined when that is for git.
 */
async function moveLoose(
  repository: string,
  ref: string,
  to: string,
  old: string | null,
): Promise<boolean | undefined> {
  if (!/^refs(\/\w[\w-]*)+$/.test(ref)) return undefined;
  const path = join(repository, ref);
  const lock = `${path}.lock`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(lock, `${to}\n`, { flag: 'wx' });
  } catch {
    // Somebody holds it, or a folder is in the way.
    return undefined;
  }
  // As long as the lock is there it is ours.
  const release = () => rm(lock, { force: true });
  const now = await looseRef(repository, ref);
  if (now !== old) {
    await release();
    return now === undefined ? undefined : false;
  }
  try {
    await rename(lock, path);
    return true;
  } catch {
    await release();
    return undefined;
  }
}

const logFormat = '%H%x00%T%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B%x01';

/** Commits in `git log` order for the given revisions and options. Throws a GitError for unknown revisions. */
export async function log(repository: string, args: readonly string[]): Promise<Commit[]> {
  const text = await gitText(repository, ['log', `--format=${logFormat}`, ...args]);
  return text
    .split('\x01')
    .map((part) => part.replace(/^\n/, ''))
    .filter((part) => part !== '')
    .map((part) => {
      const [
        id = '',
        tree = '',
        parents = '',
        an = '',
        ae = '',
        ad = '',
        cn = '',
        ce = '',
        cd = '',
        body = '',
      ] = part.split('\0');
      return {
        id,
        tree,
        parents: parents === '' ? [] : parents.split(' '),
        author: { name: an, email: ae, date: ad },
        committer: { name: cn, email: ce, date: cd },
        message: body.endsWith('\n') ? body : `${body}\n`,
      };
    });
}

/** One commit; null when the revision names none. */
export async function readCommit(repository: string, revision: string): Promise<Commit | null> {
  const id = isId(revision) ? revision : await resolveCommit(repository, revision);
  if (id === null) return null;
  return remembered(repository, 'log', [id], async () => {
    const there = await readingOf(repository, gitEnv()).commit(id);
    if (there) return there;
    // Git says no when there is no such object, or when it is a file.
    const found = await log(repository, ['-1', id]).catch((error: unknown) => {
      if (error instanceof GitError) return [];
      throw error;
    });
    return found[0] ?? null;
  });
}

/** A blob's id, mode and bytes at a path of a commit; null when there is no file. */
export async function readBlob(
  repository: string,
  commit: string,
  path: string,
): Promise<{ id: string; mode: string; bytes: Buffer } | null> {
  const entry = await gitText(repository, ['ls-tree', '-z', commit, '--', path]);
  const match = /^(\d{6}) blob ([0-9a-f]{40})\t([^\0]*)\0?$/.exec(entry);
  if (!match?.[1] || !match[2] || match[3] !== path) return null;
  return { id: match[2], mode: match[1], bytes: await git(repository, ['cat-file', 'blob', match[2]]) };
}

/** Every file of a commit, named by its full object name, in git's order; empty when there is none. */
export async function listFiles(repository: string, commit: string): Promise<TreeFile[]> {
  return (await readingOf(repository, gitEnv()).trees.files(commit)) ?? [];
}

/** The best common ancestor; null for unrelated histories. */
export async function mergeBase(repository: string, a: string, b: string): Promise<string | null> {
  return remembered(repository, 'merge-base', [a, b], async () => {
    const walked = await readingOf(repository, gitEnv()).history.mergeBase(a, b);
    if (walked !== undefined) return walked;
    const result = await run('git', ['merge-base', a, b], { cwd: repository, env: gitEnv() });
    return result.code === 0 ? result.stdout.toString('utf8').trim() : null;
  });
}

/** Whether `ancestor` is reachable from `commit`; both named by their ids. */
export async function isAncestor(repository: string, ancestor: string, commit: string): Promise<boolean> {
  return (await mergeBase(repository, ancestor, commit)) === ancestor;
}

/** What changed between two trees, file by file, with rename detection. */
export async function diff(repository: string, from: string, to: string): Promise<FileDiff[]> {
  const files = await remembered(repository, 'diff', [from, to], () => askDiff(repository, from, to));
  return files ?? [];
}

async function askDiff(repository: string, from: string, to: string): Promise<FileDiff[]> {
  const all = await gitText(repository, [
    ...['diff', '-M', '--full-index', '--no-color', '--no-abbrev', '--raw', '--patch', '-z'],
    from,
    to,
  ]);
  // An empty field ends the raw part.
  const end = all.indexOf('\0\0');
  const [raw, text] = end < 0 ? [all, ''] : [all.slice(0, end), all.slice(end + 2)];
  const bodies = text === '' ? [] : text.split(/^(?=diff --git )/m);
  const fields = raw.split('\0');
  const files: FileDiff[] = [];
  for (let at = 0; at < fields.length && fields[at]; ) {
    const [oldMode = '', newMode = '', , , status = 'M'] = (fields[at] ?? '').slice(1).split(' ');
    const oldPath = fields[at + 1] ?? '';
    const renamed = status.startsWith('R') || status.startsWith('C');
    const newPath = renamed ? (fields[at + 2] ?? '') : oldPath;
    at += renamed ? 3 : 2;
    const body = bodies[files.length] ?? '';
    const start = body.search(/^@@ /m);
    files.push({
      oldPath,
      newPath,
      oldMode,
      newMode,
      kind: renamed ? 'renamed' : status === 'A' ? 'added' : status === 'D' ? 'deleted' : 'modified',
      diff: start < 0 ? '' : body.slice(start),
    });
  }
  return files;
}

/** Runs work in a new folder that is removed afterwards. */
export async function withTemporaryFolder<T>(name: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), `cdl-${name}-`));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Writes a commit object. `author` and `committer` default to each other's date. */
export async function commitTree(
  repository: string,
  tree: string,
  parents: readonly string[],
  message: string,
  author: Signature,
  committer: Signature,
): Promise<string> {
  return gitText(repository, ['commit-tree', tree, ...parents.flatMap((parent) => ['-p', parent])], {
    input: message,
    env: {
      GIT_AUTHOR_NAME: author.name,
      GIT_AUTHOR_EMAIL: author.email,
      GIT_AUTHOR_DATE: author.date,
      GIT_COMMITTER_NAME: committer.name,
      GIT_COMMITTER_EMAIL: committer.email,
      GIT_COMMITTER_DATE: committer.date,
    },
  });
}
