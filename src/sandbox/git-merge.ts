import { randomUUID } from 'node:crypto';
import { run } from '../exec/run.ts';
import {
  type Commit,
  commitTree,
  git,
  gitEnv,
  gitText,
  listFiles,
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

/** A file as an action leaves it: what stands in the repository already, or new bytes. */
type Entry = { mode: string } & ({ oid: string } | { content: Buffer });

/** Whether git could check out a file of this path beside the others. */
function isFree(path: string, files: ReadonlyMap<string, Entry>): boolean {
  const parts = path.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..' || /^\.git$/i.test(part)))
    return false;
  const isBelowFile = parts.some((_, end) => end > 0 && files.has(parts.slice(0, end).join('/')));
  return !isBelowFile && ![...files.keys()].some((other) => other.startsWith(`${path}/`));
}

/** The files of a commit after the actions. Throws an ActionError when one does not fit. Pure. */
function afterActions(
  before: ReadonlyMap<string, Entry>,
  actions: readonly TreeAction[],
): Map<string, Entry> {
  const files = new Map(before);
  const put = (path: string, entry: Entry) => {
    if (!isFree(path, files)) throw new ActionError('A file path is invalid');
    files.set(path, entry);
  };
  const modeOf = (isExecutable: boolean | null) => (isExecutable ? '100755' : '100644');
  for (const action of actions) {
    const { path } = action;
    const there = files.get(path);
    if (action.action === 'create') {
      if (there) throw new ActionError('A file with this name already exists');
      put(path, { mode: modeOf(action.executable), content: action.content });
      continue;
    }
    if (action.action === 'move') {
      const previous = files.get(action.previousPath);
      if (!previous) throw new ActionError("A file with this name doesn't exist");
      if (there) throw new ActionError('A file with this name already exists');
      files.delete(action.previousPath);
      put(path, action.content === null ? previous : { mode: previous.mode, content: action.content });
      continue;
    }
    if (!there) throw new ActionError("A file with this name doesn't exist");
    if (action.action === 'delete') files.delete(path);
    else if (action.action === 'chmod') files.set(path, { ...there, mode: modeOf(action.executable) });
    else {
      const mode = action.executable === null ? there.mode : modeOf(action.executable);
      files.set(path, { mode, content: action.content });
    }
  }
  return files;
}

/** A time of {@link Signature} as fast-import reads it. */
function rawDate(date: string): string {
  const zone = /([+-]\d\d):?(\d\d)$/.exec(date);
  return `${Math.floor(Date.parse(date) / 1000)} ${zone ? `${zone[1]}${zone[2]}` : '+0000'}`;
}

/**
 * A commit on top of `base` (null: the first) with the actions, made by one process (git fast-import). Throws an ActionError
 * when one does not fit the tree.
 */
export async function commitActions(
  repository: string,
  base: string | null,
  actions: readonly TreeAction[],
  { message, author, by }: { message: string; author: Signature; by: Signature },
): Promise<string> {
  const listed = base === null ? [] : await listFiles(repository, base);
  const before = new Map(listed.map(({ path, mode, oid }): [string, Entry] => [path, { mode, oid }]));
  const after = afterActions(before, actions);
  const quoted = (path: string) => `"${path.replace(/["\\]/g, '\\$&').replaceAll('\n', '\\n')}"`;
  const person = (one: Signature) =>
    `${one.name.replace(/[<>\n\0]/g, '').trim()} <${one.email.replace(/[<>\n\0]/g, '').trim()}> ${rawDate(one.date)}`;
  const data = (bytes: Buffer) => [Buffer.from(`data ${bytes.length}\n`), bytes, Buffer.from('\n')];
  const line = (text: string) => Buffer.from(`${text}\n`);
  const ref = `refs/sandbox/${randomUUID()}`;
  const stream = [
    line(`commit ${ref}\nmark :1\nauthor ${person(author)}\ncommitter ${person(by)}`),
    ...data(Buffer.from(message.endsWith('\n') ? message : `${message}\n`)),
    ...(base === null ? [] : [line(`from ${base}`)]),
    ...[...before.keys()].filter((path) => !after.has(path)).map((path) => line(`D ${quoted(path)}`)),
    ...[...after].flatMap(([path, entry]) => {
      if (entry === before.get(path)) return [];
      if ('oid' in entry) return [line(`M ${entry.mode} ${entry.oid} ${quoted(path)}`)];
      return [line(`M ${entry.mode} inline ${quoted(path)}`), ...data(entry.content)];
    }),
    // The ref that it wants is taken back at once.
    line(`get-mark :1\nreset ${ref}\nfrom ${zeroSha}\n\ndone`),
  ];
  return gitText(repository, ['fast-import', '--quiet', '--done', '--date-format=raw'], {
    input: Buffer.concat(stream),
  });
}

/** The commits of `source` that `target` lacks, newest first. */
export async function commitsBetween(repository: string, target: string, source: string): Promise<Commit[]> {
  const range = () => log(repository, [`${target}..${source}`]);
  return (await remembered(repository, 'between', [target, source], range)) ?? [];
}
