import { UpstreamError } from '../../core/error.ts';
import { run } from '../../exec/run.ts';

/** Reads a bare repository. Objects never change, so what was read once is kept; refs are asked anew. */
export interface Repository {
  /** The text of a file at a commit, null when there is none. */
  readFile(sha: string, path: string): Promise<string | null>;
  /** All file paths at a commit. */
  listFiles(sha: string): Promise<string[]>;
  /** The commit a revision names (`refs/heads/x`, a sha, …), null when unknown. */
  resolve(revision: string): Promise<string | null>;
  /** Tag names. */
  tags(): Promise<string[]>;
  /** Paths that differ between two commits; `mergeBase` compares with where they parted. Null when they cannot be compared. */
  changedFiles(from: string, to: string, mergeBase: boolean): Promise<string[] | null>;
  /** Where two lines of history parted, null when they never met. */
  mergeBase(one: string, other: string): Promise<string | null>;
  commit(sha: string): Promise<{ message: string; author: string; timestamp: string } | null>;
  updateRef(ref: string, sha: string): Promise<void>;
  deleteRef(ref: string): Promise<void>;
}

/** Opens a bare repository folder for reading by git. */
export function openRepository(folder: string): Repository {
  const files = new Map<string, Promise<string | null>>();
  const lists = new Map<string, Promise<string[]>>();
  const git = async (...args: string[]): Promise<string | null> => {
    const result = await run('git', ['--git-dir', folder, ...args]);

    return result.code === 0 ? result.stdout.toString('utf8') : null;
  };
  const must = async (...args: string[]): Promise<void> => {
    if ((await git(...args)) === null) {
      throw new UpstreamError('git', `${args.join(' ')} failed in ${folder}`, { retryable: false });
    }
  };
  const lines = (text: string | null, separator: string): string[] =>
    (text ?? '').split(separator).filter((line) => line !== '');
  return {
    readFile(sha, path) {
      const key = `${sha}:${path}`;
      const kept = files.get(key) ?? git('cat-file', 'blob', key);
      files.set(key, kept);
      return kept;
    },
    listFiles(sha) {
      const kept =
        lists.get(sha) ?? git('ls-tree', '-r', '-z', '--name-only', sha).then((text) => lines(text, '\0'));
      lists.set(sha, kept);
      return kept;
    },
    async resolve(revision) {
      if (revision.startsWith('-')) return null;
      return (await git('rev-parse', '--verify', '--quiet', `${revision}^{commit}`))?.trim() ?? null;
    },
    async tags() {
      return lines(await git('for-each-ref', '--format=%(refname:strip=2)', 'refs/tags'), '\n');
    },
    async changedFiles(from, to, mergeBase) {
      const text = await git(
        'diff',
        '--name-only',
        '-z',
        '--no-renames',
        mergeBase ? `${from}...${to}` : `${from}..${to}`,
      );
      return text === null ? null : lines(text, '\0');
    },
    async mergeBase(one, other) {
      return (await git('merge-base', one, other))?.trim() ?? null;
    },
    async commit(sha) {
      const text = await git('show', '-s', '--format=%an <%ae>%x00%cI%x00%B', sha);
      if (text === null) return null;
      const [author = '', timestamp = '', message = ''] = text.split('\0');
      return { author, timestamp, message: message.trimEnd() };
    },
    updateRef: (ref, sha) => must('update-ref', ref, sha),
    deleteRef: (ref) => must('update-ref', '-d', ref),
  };
}
