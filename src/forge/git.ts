import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SimpleGit } from 'simple-git';
import type { CodeFile } from '../core/candidate.ts';
import { type Digest, digestBytes } from '../core/digest.ts';
import { UpstreamError, UserError } from '../core/error.ts';
import { keepNewest } from '../core/keep.ts';
import { lockFile } from '../core/lock.ts';
import { createHistory } from './git-history.ts';
import { openObjects } from './git-objects.ts';
import { openRefs, type RefReader, readHeads } from './git-refs.ts';
import { createTrees, type TreeFile } from './git-trees.ts';
import { gitProxies, withCertificates } from './network.ts';
import type { GitAccess } from './types.ts';

/** A commit to make: `files` are paths with their whole new text, `parent` the only commit it may follow. */
export interface FastForward {
  branch: string;
  parent: string;
  files: Record<string, string>;
  message: string;
  author: { name: string; email: string };
}

/**
 * A bare copy of the project's repository. Commits are named by their full object name and are fetched when they are not
 * there yet. Throws UserError forge-denied, file-missing (no such commit), UpstreamError (the remote does not answer).
 */
export interface Mirror {
  /** Brings all branches up to date. */
  fetch(): Promise<void>;
  /** The commit a branch of the remote is at now; null when there is no such branch. */
  head(branch: string): Promise<string | null>;
  /** The commits all branches of the remote are at now, by name. */
  heads(): Promise<Map<string, string>>;
  readTree(commit: string): Promise<TreeFile[]>;
  readBlob(oid: string): Promise<Buffer>;
  /** A file's text; null when the commit has no such file. */
  readFile(commit: string, path: string): Promise<string | null>;
  /** The files that match, as steps see them (no links, no submodules, never cdl.lock). */
  codeFiles(commit: string, globs: readonly string[]): Promise<CodeFile[]>;
  mergeBase(a: string, b: string): Promise<string | null>;
  /**
   * Puts one commit on top of exactly `parent` and pushes it. `same`: the branch holds these very files already and
   * nothing was made; `moved`: the branch is somewhere else, read again.
   */
  fastForward(commit: FastForward): Promise<'pushed' | 'same' | 'moved'>;
  /**
   * Puts a merge of `other` on top of exactly `parent` and pushes it; `files` replace what git made of them, also where it
   * found a conflict. `conflict`: other files conflict, nothing was made.
   */
  merge(
    commit: FastForward & { other: string },
  ): Promise<'pushed' | 'same' | 'moved' | { conflict: string[] }>;
  /** Makes a branch at a commit when there is none of that name yet. */
  ensureBranch(branch: string, commit: string): Promise<void>;
}

const fetchesBetweenTidying = 50;

/** How many answers about two commits are kept in memory. */
const mostBases = 2000;

/** File in the mirror's folder with the certificates that git trusts, when there are more than the usual ones. */
const certificates = 'certificates.pem';

const allowedEnvironment = [
  'GIT_CONFIG_NOSYSTEM',
  'GIT_CONFIG_GLOBAL',
  'GIT_CONFIG_COUNT',
  'GIT_CONFIG_KEY_0',
  'GIT_CONFIG_VALUE_0',
  'GIT_CONFIG_KEY_1',
  'GIT_CONFIG_VALUE_1',
  'GIT_CONFIG_KEY_2',
  'GIT_CONFIG_VALUE_2',
  'GIT_TERMINAL_PROMPT',
  'GIT_SSL_CAINFO',
  'http_proxy',
  'https_proxy',
  'no_proxy',
];

/** What git's own words mean for the caller. */
function toError(error: unknown, what: string): Error {
  const text = error instanceof Error ? error.message : String(error);
  const line = text.split('\n').find((one) => /^(fatal|error|remote):/.test(one)) ?? text.slice(0, 300);
  if (/Authentication failed|HTTP Basic: Access denied|error: 40[13]|not allowed to/i.test(text)) {
    return new UserError('forge-denied', `git ${what}: ${line}`);
  }
  return new UpstreamError('git', `${what}: ${line}`, { retryable: true, cause: error });
}

/** Opens (makes, when absent) the mirror in `folder`. `path` is the PATH on which git is found. */
export async function openMirror(options: {
  folder: string;
  access: GitAccess;
  path: string;
}): Promise<Mirror> {
  const { folder, access } = options;
  const { simpleGit } = await import('simple-git');
  await mkdir(folder, { recursive: true });
  const ca = access.network?.ca;
  if (ca) await writeFile(join(folder, certificates), withCertificates(ca).join('\n'));
  // The bot's git knows nothing of a person's configuration; the token is in no URL and on no command line.
  const environment = {
    PATH: options.path,
    LC_ALL: 'C.UTF-8',
    HOME: folder,
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_TERMINAL_PROMPT: '0',
    ...gitProxies(access.network?.proxy),
    ...(ca && { GIT_SSL_CAINFO: join(folder, certificates) }),
  };
  const remote = async () => ({
    GIT_CONFIG_COUNT: '3',
    GIT_CONFIG_KEY_0: 'http.extraHeader',
    GIT_CONFIG_VALUE_0: typeof access.header === 'string' ? access.header : await access.header(),
    // A small fetch is unpacked object by object, a commit before its trees, and who reads meanwhile finds half of it. A pack
    // comes all at once. Tidying leaves the big one as it is (git's document git-config, "fetch.unpackLimit").
    GIT_CONFIG_KEY_1: 'fetch.unpackLimit',
    GIT_CONFIG_VALUE_1: '1',
    GIT_CONFIG_KEY_2: 'gc.bigPackThreshold',
    GIT_CONFIG_VALUE_2: '32m',
  });
  const git = (extra: Record<string, string> = {}, input?: string): SimpleGit =>
    simpleGit({
      baseDir: folder,
      allowEnvironment: allowedEnvironment,
      unsafe: { allowUnsafeConfigEnvCount: true, allowUnsafeConfigPaths: true },
      timeout: { block: 120_000 },
      ...(input === undefined ? {} : { input: () => input }),
    }).env({ ...environment, ...extra });

  const objects = openObjects(folder, environment);
  const trees = createTrees(objects);
  const history = createHistory(objects);
  const { has, blob: readBlob } = trees;
  // Files never change: what was hashed once need not be read again.
  const digests = new Map<string, Digest>();
  const mergeBases = new Map<string, string>();

  /** None may also be a bad moment of git's, and is asked for again. */
  async function mergeBase(a: string, b: string): Promise<string | null> {
    const between = `${a} ${b}`;
    const known = mergeBases.get(between);
    if (known !== undefined) return known;
    const walked = await history.mergeBase(a, b);
    const told = walked === undefined ? git().raw('merge-base', a, b) : null;
    const base = told ? (await told.catch(() => '')).trim() : (walked ?? '');
    return base === '' ? null : keepNewest(mergeBases, mostBases, between, base);
  }

  let turn: Promise<unknown> = Promise.resolve();
  // Two fetches at once would fight for the same ref locks.
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const next = turn.then(work, work);
    turn = next.catch(() => {});
    return next;
  }

  await git().raw('init', '--bare', '--quiet', '--initial-branch=main', '.');

  let fetches = 0;
  /** Git looks after every fetch whether there is something to tidy up, which takes two processes. */
  const tidying = (): string[] => (fetches++ % fetchesBetweenTidying === 0 ? [] : ['--no-auto-maintenance']);

  async function fetchNow(...refs: string[]): Promise<void> {
    const specs = refs.length > 0 ? refs : ['+refs/heads/*:refs/heads/*'];
    const prune = refs.length > 0 ? ['--no-auto-maintenance'] : ['--prune', ...tidying()];
    try {
      await git(await remote()).raw('fetch', '--quiet', '--no-tags', ...prune, access.url, ...specs);
    } catch (error) {
      throw toError(error, 'fetch');
    }
  }

  function requireName(commit: string): void {
    if (/^[0-9a-f]{40,64}$/.test(commit)) return;
    throw new UserError('file-missing', `${JSON.stringify(commit)} is not the name of a commit`);
  }

  async function ensureCommit(commit: string): Promise<void> {
    requireName(commit);
    if (await has(commit)) return;
    // Whoever waited for another fetch may have what it brought.
    await inTurn(async () => (await has(commit)) || fetchNow());
    if (await has(commit)) return;
    // Of a branch that is gone (GitLab keeps merge request heads; uploadpack.allowReachableSHA1InWant).
    await inTurn(() => fetchNow(commit)).catch(() => {});
    if (!(await has(commit))) throw new UserError('file-missing', `the repository has no commit ${commit}`);
  }

  let refs: Promise<RefReader | null> | null = null;
  /** Of branches that begin with `prefix`. */
  async function remoteHeads(prefix: string): Promise<Map<string, string>> {
    refs ??= openRefs(access);
    try {
      const reader = await refs;
      if (reader) return await reader.heads(prefix);
    } catch {
      // What goes wrong git says in its own words, which people know.
      refs = null;
    }
    try {
      const text = await git(await remote()).raw('ls-remote', access.url, `refs/heads/${prefix}*`);
      return readHeads(text.split('\n'));
    } catch (error) {
      throw toError(error, 'ls-remote');
    }
  }

  // The prefix fits longer names as well.
  const remoteHead = async (branch: string) => (await remoteHeads(branch)).get(branch) ?? null;

  async function readTree(commit: string): Promise<TreeFile[]> {
    requireName(commit);
    // Nearly always the commit is there already.
    const there = await trees.files(commit);
    if (there) return there;
    await ensureCommit(commit);
    const files = await trees.files(commit);
    if (files) return files;
    throw new UpstreamError('git', `the mirror has no commit ${commit}`, { retryable: true });
  }

  async function readFile(commit: string, path: string): Promise<string | null> {
    const file = (await readTree(commit)).find((one) => one.path === path && one.mode.startsWith('100'));
    return file ? (await readBlob(file.oid)).toString('utf8') : null;
  }

  async function holds(commit: string, files: Record<string, string>): Promise<boolean> {
    for (const [path, text] of Object.entries(files)) {
      if ((await readFile(commit, path)) !== text) return false;
    }
    return true;
  }

  /** `tree`: what the files are put on, when it is not the parent's own. */
  async function makeCommit(commit: FastForward, merged?: { tree: string; other: string }): Promise<string> {
    const { name, email } = commit.author;
    const plain = (text: string) => text.replace(/[\n<>\0]/g, '').trim();
    const data = (text: string) => `data ${Buffer.byteLength(text)}\n${text}\n`;
    // One process instead of one for each of index, object, tree and commit. The ref it wants is taken back at once.
    const ref = `refs/cdl/${randomUUID()}`;
    const stream = [
      `commit ${ref}\nmark :1\n`,
      `committer ${plain(name)} <${plain(email)}> now\n`,
      data(commit.message),
      `from ${commit.parent}\n`,
      ...(merged ? [`merge ${merged.other}\nM 040000 ${merged.tree} ""\n`] : []),
      ...Object.entries(commit.files).map(
        ([path, text]) => `M 100644 inline ${JSON.stringify(path)}\n${data(text)}`,
      ),
      `get-mark :1\nreset ${ref}\nfrom ${'0'.repeat(commit.parent.length)}\n\ndone\n`,
    ].join('');
    const made = await git({}, stream).raw('fast-import', '--quiet', '--done', '--date-format=now');
    return made.trim();
  }

  async function push(commit: FastForward, made: string): Promise<'pushed' | 'moved'> {
    const ref = `refs/heads/${commit.branch}`;
    try {
      // The lease makes the server compare: a branch that was moved meanwhile, also back, is left alone.
      await git(await remote()).raw(
        'push',
        '--quiet',
        `--force-with-lease=${ref}:${commit.parent}`,
        access.url,
        `${made}:${ref}`,
      );
      return 'pushed';
    } catch (error) {
      if (/stale info|non-fast-forward|fetch first|cannot lock ref/i.test(String(error))) return 'moved';
      throw toError(error, 'push');
    }
  }

  /** The tree of a merge and the files that conflict in it (git merge-tree --write-tree, git 2.38). */
  async function mergeTree(ours: string, theirs: string): Promise<{ tree: string; conflicts: string[] }> {
    const text = await git().raw(
      'merge-tree',
      '--write-tree',
      '--name-only',
      '--no-messages',
      '-z',
      ours,
      theirs,
    );
    const [tree = '', ...conflicts] = text.split('\0').filter((part) => part !== '');
    if (!/^[0-9a-f]{40,64}$/.test(tree)) throw toError(new Error(text), 'merge-tree');
    return { tree, conflicts };
  }

  return {
    fetch: () => inTurn(() => fetchNow()),
    head: remoteHead,
    heads: () => remoteHeads(''),
    readTree,
    readBlob,
    readFile,
    async codeFiles(commit, globs) {
      const { default: picomatch } = await import('picomatch');
      const matches = picomatch([...globs], { dot: true });
      const files: CodeFile[] = [];
      for (const { path, mode, oid } of await readTree(commit)) {
        if ((mode !== '100644' && mode !== '100755') || path === lockFile || !matches(path)) continue;
        const digest = digests.get(oid) ?? digestBytes(await readBlob(oid));
        digests.set(oid, digest);
        files.push({ path, mode, digest });
      }
      return files;
    },
    async mergeBase(a, b) {
      await ensureCommit(a);
      await ensureCommit(b);
      return mergeBase(a, b);
    },
    fastForward: (commit) =>
      inTurn(async () => {
        const head = await remoteHead(commit.branch);
        if (head === null) return 'moved';
        if (!(await has(head)) || !(await has(commit.parent))) await fetchNow();
        if (!(await has(head)) || !(await has(commit.parent))) return 'moved';
        if (await holds(head, commit.files)) return 'same';
        if (head !== commit.parent) return 'moved';
        return push(commit, await makeCommit(commit));
      }),
    merge: (commit) =>
      inTurn(async () => {
        const { branch, parent, other, files } = commit;
        const head = await remoteHead(branch);
        if (head === null) return 'moved';
        if (!(await has(head)) || !(await has(parent)) || !(await has(other))) await fetchNow();
        if (head !== parent)
          return (await has(head)) && (await mergeBase(other, head)) === other ? 'same' : 'moved';
        if ((await mergeBase(other, parent)) === other) return 'same';
        const { tree, conflicts } = await mergeTree(parent, other);
        const left = conflicts.filter((path) => !Object.hasOwn(files, path));
        if (left.length > 0) return { conflict: left };
        return push(commit, await makeCommit(commit, { tree, other }));
      }),
    async ensureBranch(branch, commit) {
      await ensureCommit(commit);
      await inTurn(async () => {
        if ((await remoteHead(branch)) !== null) return;
        const ref = `refs/heads/${branch}`;
        try {
          await git(await remote()).raw('push', '--quiet', access.url, `${commit}:${ref}`);
        } catch (error) {
          throw toError(error, 'push');
        }
      });
    },
  };
}
