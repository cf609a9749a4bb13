import { run } from '../exec/run.ts';
import {
  type Commit,
  commitTree,
  git,
  gitEnv,
  gitText,
  log,
  mergeBase,
  readCommit,
  type Signature,
  withTemporaryFolder,
  zeroSha,
} from './git.ts';
import { remembered } from './git-memory.ts';

/** The tree of merging two commits (`git merge-tree --write-tree`, git ≥ 2.38); null when they conflict. */
export async function mergedTree(repository: string, ours: string, theirs: string): Promise<string | null> {
  const merged = await remembered(repository, 'merge-tree', [ours, theirs], async () => {
    // A side that has nothing of its own takes the other.
    const base = await mergeBase(repository, ours, theirs);
    const whole = base === ours ? theirs : base === theirs ? ours : null;
    const commit = whole === null ? null : await readCommit(repository, whole);
    if (commit) return { tree: commit.tree };
    const result = await run('git', ['merge-tree', '--write-tree', '--no-messages', ours, theirs], {
      cwd: repository,
      env: gitEnv(),
    });
    return { tree: result.code === 0 ? result.stdout.toString('utf8').trim() : null };
  });
  return merged?.tree ?? null;
}

/** A merge commit of `source` into `target`; null when they conflict. */
export async function mergeCommit(
  repository: string,
  target: string,
  source: string,
  message: string,
  by: Signature,
): Promise<string | null> {
  const tree = await mergedTree(repository, target, source);
  return tree === null ? null : commitTree(repository, tree, [target, source], message, by, by);
}

/** One commit on top of the merge base that holds all changes of `source`, as GitLab squashes; null for unrelated histories. */
export async function squashCommit(
  repository: string,
  target: string,
  source: string,
  message: string,
  author: Signature,
  by: Signature,
): Promise<string | null> {
  const base = await mergeBase(repository, target, source);
  if (base === null) return null;
  return commitTree(repository, `${source}^{tree}`, [base], message, author, by);
}

/** `source` replayed on `target` in a worktree of its own; null when a commit does not apply. */
export async function rebased(
  repository: string,
  target: string,
  source: string,
  by: Signature,
): Promise<string | null> {
  return withTemporaryFolder('rebase', async (folder) => {
    const worktree = `${folder}/tree`;
    const env = { GIT_COMMITTER_NAME: by.name, GIT_COMMITTER_EMAIL: by.email, GIT_COMMITTER_DATE: by.date };
    await git(repository, ['worktree', 'add', '--quiet', '--detach', worktree, source]);
    try {
      const result = await run('git', ['rebase', '--quiet', target], { cwd: worktree, env: gitEnv(env) });
      return result.code === 0 ? await gitText(worktree, ['rev-parse', 'HEAD']) : null;
    } finally {
      await git(repository, ['worktree', 'remove', '--force', worktree]);
    }
  });
}

/** One change of the commits API. `content` is decoded; `executable` null leaves the mode as it is. */
export type TreeAction =
  | { action: 'create' | 'update'; path: string; content: Buffer; executable: boolean | null }
  | { action: 'move'; path: string; previousPath: string; content: Buffer | null }
  | { action: 'delete'; path: string }
  | { action: 'chmod'; path: string; executable: boolean };

/** A problem with one action, in GitLab's words (answered 400). */
export class ActionError extends Error {
  override readonly name = 'ActionError';
}

/** The tree of `base` (null: empty) after the actions. Throws an ActionError when one does not fit the tree. */
export async function applyActions(
  repository: string,
  base: string | null,
  actions: readonly TreeAction[],
): Promise<string> {
  return withTemporaryFolder('index', async (folder) => {
    const env = { GIT_INDEX_FILE: `${folder}/index` };
    if (base !== null) await git(repository, ['read-tree', base], { env });
    const modeOf = async (path: string): Promise<string | null> => {
      const line = await gitText(repository, ['ls-files', '-s', '-z', '--', path], { env });
      const match = /^(\d{6}) [0-9a-f]{40} 0\t([^\0]*)\0$/.exec(line);
      return match?.[2] === path ? (match[1] ?? null) : null;
    };
    const blobOf = async (path: string): Promise<string> =>
      (await gitText(repository, ['ls-files', '-s', '-z', '--', path], { env })).split(' ')[1] ?? '';
    const put = async (path: string, mode: string, blob: string) => {
      try {
        await git(repository, ['update-index', '--add', '--cacheinfo', `${mode},${blob},${path}`], { env });
      } catch {
        throw new ActionError('A file path is invalid');
      }
    };
    // `--force-remove` wants a work tree, which a bare repository has not; mode 0 removes as well.
    const drop = (path: string) =>
      git(repository, ['update-index', '-z', '--index-info'], { env, input: `0 ${zeroSha}\t${path}\0` });
    const store = (content: Buffer) =>
      gitText(repository, ['hash-object', '-w', '--stdin'], { input: content });
    for (const action of actions) {
      const mode = await modeOf(action.path);
      if (action.action === 'create') {
        if (mode !== null) throw new ActionError('A file with this name already exists');
        await put(action.path, action.executable ? '100755' : '100644', await store(action.content));
        continue;
      }
      if (action.action === 'move') {
        const previous = await modeOf(action.previousPath);
        if (previous === null) throw new ActionError("A file with this name doesn't exist");
        if (mode !== null) throw new ActionError('A file with this name already exists');
        const blob =
          action.content === null ? await blobOf(action.previousPath) : await store(action.content);
        await drop(action.previousPath);
        await put(action.path, previous, blob);
        continue;
      }
      if (mode === null) throw new ActionError("A file with this name doesn't exist");
      if (action.action === 'delete') await drop(action.path);
      else if (action.action === 'chmod')
        await put(action.path, action.executable ? '100755' : '100644', await blobOf(action.path));
      else {
        const wanted = action.executable === null ? mode : action.executable ? '100755' : '100644';
        await put(action.path, wanted, await store(action.content));
      }
    }
    return gitText(repository, ['write-tree'], { env });
  });
}

/** The commits of `source` that `target` lacks, newest first. */
export async function commitsBetween(repository: string, target: string, source: string): Promise<Commit[]> {
  const range = () => log(repository, [`${target}..${source}`]);
  return (await remembered(repository, 'between', [target, source], range)) ?? [];
}
