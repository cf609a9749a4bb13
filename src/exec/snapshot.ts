import { copyFile, lstat, mkdtemp, rm, stat, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '../core/error.ts';
import { run } from './run.ts';

/** A worktree as one commit. */
export interface Snapshot {
  commit: string;
  /** Whether it holds what no commit of the user holds; otherwise `commit` is HEAD itself. */
  isNew: boolean;
  /** Files that git did not know before, and that went along. */
  untracked: string[];
}

/** Where commits of worktrees are kept: no branch, no tag, nothing that is fetched or pushed by itself. */
export const snapshotRefs = 'refs/cdl/snapshots';

/** Snapshots that stay. */
export const mostSnapshots = 100;

/** What new files may weigh together, in bytes: more than that is data, or a folder that was forgotten in .gitignore. */
const mostNew = 256 * 2 ** 20;

async function git(root: string, args: readonly string[], env?: NodeJS.ProcessEnv): Promise<string> {
  const result = await run('git', args, { cwd: root, ...(env && { env }) });
  if (result.code === 0) return result.stdout.toString();
  throw new UserError('file-missing', `git ${args[0]} in ${root}: ${result.stderr.toString().trim()}`);
}

/** Who and when, for a commit that is the same whenever the same worktree is taken: its parent's time, and nobody's name. */
const nobody = { name: 'cdl', email: 'cdl@localhost' };

/**
 * Makes a commit of the worktree: tracked files as they are now, and new ones that git does not ignore. Branch, index and
 * files stay as they are; the commit is on {@link snapshotRefs}. The same worktree on the same commit gives the same id.
 * Where nothing differs from HEAD, that is the answer. `env` is the whole environment of git.
 *
 * Throws UserError file-missing without a first commit, and input-missing when the new files weigh too much.
 */
export async function takeSnapshot(root: string, env: NodeJS.ProcessEnv): Promise<Snapshot> {
  const head = await run('git', ['rev-parse', '--verify', '--quiet', 'HEAD^{commit}'], { cwd: root, env });
  if (head.code !== 0) {
    throw new UserError(
      'file-missing',
      `${root} has no commit yet`,
      "make a first one: git add --all && git commit -m 'start'",
    );
  }
  const parent = head.stdout.toString().trim();
  const listed = await git(root, ['ls-files', '-z', '--others', '--exclude-standard', '--full-name'], env);
  const untracked = listed.split('\0').filter(Boolean);
  await checkWeight(root, untracked);
  const folder = await mkdtemp(join(tmpdir(), 'cdl-index-'));
  try {
    // A copy of the index knows which files did not change, so that only the others are read.
    const index = join(folder, 'index');
    const own = (await git(root, ['rev-parse', '--path-format=absolute', '--git-path', 'index'], env)).trim();
    const known = await stat(own).catch(() => null);
    if (known) {
      await copyFile(own, index);
      // Git looks again at files as young as the index itself (gitformat-index, racy git): the copy must be no younger.
      await utimes(index, known.atimeMs / 1000, Math.floor(known.mtimeMs / 1000));
    }
    const apart = { ...env, GIT_INDEX_FILE: index };
    await git(root, ['add', '--all', '--', ':/'], apart);
    const tree = (await git(root, ['write-tree'], apart)).trim();
    if (tree === (await git(root, ['rev-parse', `${parent}^{tree}`], env)).trim()) {
      return { commit: parent, isNew: false, untracked: [] };
    }
    const date = `@${(await git(root, ['show', '--no-patch', '--format=%ct', parent], env)).trim()} +0000`;
    const commit = await git(root, ['commit-tree', tree, '-p', parent, '-m', 'snapshot of a worktree'], {
      ...env,
      GIT_AUTHOR_NAME: nobody.name,
      GIT_AUTHOR_EMAIL: nobody.email,
      GIT_AUTHOR_DATE: date,
      GIT_COMMITTER_NAME: nobody.name,
      GIT_COMMITTER_EMAIL: nobody.email,
      GIT_COMMITTER_DATE: date,
    });
    const id = commit.trim();
    await git(root, ['update-ref', `${snapshotRefs}/${id}`, id], env);
    await forgetOldest(root, `${snapshotRefs}/${id}`, env);
    return { commit: id, isNew: true, untracked };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Lets go of the snapshots of the oldest commits: what a training saw is kept with its run. Git itself removes the objects. */
async function forgetOldest(root: string, own: string, env: NodeJS.ProcessEnv): Promise<void> {
  const listed = ['for-each-ref', '--sort=-committerdate', '--format=%(refname)', snapshotRefs];
  const others = (await git(root, listed, env)).split('\n').filter((ref) => ref !== '' && ref !== own);
  const old = others.slice(mostSnapshots - 1);
  if (old.length > 0) {
    // Where another run does the same at this moment, this one's part fails; the next makes up for it.
    const input = old.map((ref) => `delete ${ref}\n`).join('');
    await run('git', ['update-ref', '--stdin'], { cwd: root, env, input });
  }
}

async function checkWeight(root: string, untracked: readonly string[]): Promise<void> {
  const sizes = await Promise.all(
    untracked.map(async (path) => ({
      path,
      size: (await lstat(join(root, path)).catch(() => null))?.size ?? 0,
    })),
  );
  const total = sizes.reduce((sum, { size }) => sum + size, 0);
  if (total <= mostNew) return;
  const [largest] = sizes.sort((a, b) => b.size - a.size);
  throw new UserError(
    'input-missing',
    `the files that git does not know yet weigh ${Math.round(total / 2 ** 20)} MiB, the largest is ${largest!.path}`,
    'write what is not code into .gitignore; data is for cdl data add',
  );
}

/** A clone of its own at a commit of the repository, in a folder that does not exist yet; it borrows the objects. */
export async function cloneAt(root: string, commit: string, folder: string): Promise<void> {
  await git(root, ['clone', '--quiet', '--shared', '--no-checkout', '--', root, folder]);
  await git(folder, ['checkout', '--quiet', '--detach', commit]);
}
