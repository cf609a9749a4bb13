import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../../core/error.ts';
import type { GitSource } from '../../core/project-data.ts';
import { withFolderLock } from '../../exec/folder-lock.ts';
import { type RunResult, run } from '../../exec/run.ts';
import { gitProxies, withCertificates } from '../../forge/network.ts';
import { Unreachable } from './attempts.ts';
import type { SourceCache } from './cache.ts';
import type { ListedFile } from './listing.ts';
import type { FetchOptions } from './options.ts';
import { spool, tooLarge } from './spool.ts';

/** Blobs are asked for in batches of about so many bytes; a larger one comes alone, as a stream. */
const batchBytes = 16 << 20;
/** Every pointer of Git LFS begins like this, and is shorter than 1024 bytes (git-lfs, docs/spec.md). */
const lfsMark = Buffer.from('version https://git-lfs.github.com/spec/v1\n');

const isCommit = (ref: string): boolean => /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(ref);
const sha = (text: string | Buffer): string => createHash('sha256').update(text).digest('hex');

/** Environment of git: nobody is asked, no transport runs programs, credentials go to their own host alone and into no argument. */
async function environment(
  source: Pick<GitSource, 'url'>,
  folder: string,
  options: FetchOptions,
): Promise<Record<string, string>> {
  const config: [string, string][] = [
    ['http.lowSpeedLimit', '1'],
    ['http.lowSpeedTime', '60'],
    ['core.hooksPath', '/dev/null'],
  ];
  const url = URL.canParse(source.url) ? new URL(source.url) : null;
  const authorization = url?.host ? options.authorization?.(url.host) : null;
  if (url && authorization && /^https?:$/.test(url.protocol)) {
    config.push([`http.${url.origin}/.extraHeader`, `Authorization: ${authorization}`]);
  }
  const env: Record<string, string> = {
    ...options.gitEnv,
    ...gitProxies(options.network?.proxy),
    GIT_TERMINAL_PROMPT: '0',
    GIT_SSH_COMMAND: 'ssh -oBatchMode=yes',
    GIT_ALLOW_PROTOCOL: 'file:git:http:https:ssh',
    GIT_CONFIG_COUNT: String(config.length),
    ...Object.fromEntries(
      config.flatMap(([key, value], at) => [
        [`GIT_CONFIG_KEY_${at}`, key],
        [`GIT_CONFIG_VALUE_${at}`, value],
      ]),
    ),
  };
  if (options.network?.ca) {
    const text = withCertificates(options.network.ca).join('\n');
    env.GIT_SSL_CAINFO = join(folder, `ca-${sha(text).slice(0, 16)}.pem`);
    await writeFile(env.GIT_SSL_CAINFO, text);
  }
  return env;
}

/** A copy of a repository in the cache that has the commit. */
interface Repository {
  folder: string;
  env: Record<string, string>;
  commit: string;
}

async function ask(
  repository: Pick<Repository, 'folder' | 'env'>,
  args: string[],
  options: FetchOptions,
  input?: string,
): Promise<RunResult> {
  return run('git', ['-C', repository.folder, ...args], {
    env: repository.env,
    ...(options.signal && { signal: options.signal }),
    ...(input !== undefined && { input }),
  });
}

/** The commit a source names. Throws Unreachable when the repository cannot be had or has no such commit or tag. */
async function openCommit(source: GitSource, options: FetchOptions): Promise<Repository> {
  const folder = join(options.cacheFolder, 'git', sha(source.url));
  await mkdir(folder, { recursive: true });
  const env = await environment(source, join(options.cacheFolder, 'git'), options);
  const place = { folder, env };
  const name = `refs/cdl/${sha(source.ref)}`;
  const resolved = async (): Promise<string | null> => {
    const ref = isCommit(source.ref) ? source.ref : name;
    const found = await ask(
      place,
      ['rev-parse', '--verify', '--quiet', '--end-of-options', `${ref}^{commit}`],
      options,
    );
    return found.code === 0 ? found.stdout.toString().trim() : null;
  };
  return withFolderLock(
    `${folder}.lock`,
    async () => {
      await ask(place, ['init', '--quiet', '--bare'], options);
      const here = isCommit(source.ref) ? await resolved() : null;
      if (here !== null) return { ...place, commit: here };
      const fetch = (depth: string[], specs: string[]) =>
        ask(
          place,
          ['fetch', '--quiet', '--no-tags', '--force', ...depth, '--', source.url, ...specs],
          options,
        );
      const from = isCommit(source.ref) ? source.ref : `refs/tags/${source.ref}`;
      let fetched = await fetch(['--depth=1'], [`+${from}:${name}`]);
      // Some servers give only what a branch or tag stands for.
      if (fetched.code !== 0 && isCommit(source.ref))
        fetched = await fetch([], ['+refs/heads/*:refs/cdl/heads/*', '+refs/tags/*:refs/cdl/tags/*']);
      const commit = fetched.code === 0 ? await resolved() : null;
      if (commit !== null) return { ...place, commit };
      const said = fetched.stderr.toString().trim();
      if (fetched.code !== 0 && !/couldn't find remote ref/.test(said)) {
        const again =
          /timed out|reset|early EOF|unexpected disconnect|HTTP 5\d\d|returned error: (5\d\d|429)/i.test(
            said,
          );
        // What follows the first line that says what failed is advice, the same for every reason.
        const reason = /^(?:fatal|error): (.+)$/m.exec(said)?.[1] ?? said.split('\n').slice(-2).join(' ');
        throw new Unreachable(reason, again);
      }
      const what = isCommit(source.ref) ? `commit ${source.ref}` : `tag ${source.ref}`;
      throw new Unreachable(`it has no ${what}; a branch moves, and cannot be named`, false);
    },
    options.signal,
  );
}

interface Blob {
  path: string;
  oid: string;
  size: number;
}

/** The files below a path of a commit. */
async function listTree(repository: Repository, source: GitSource, options: FetchOptions) {
  const at = `${repository.commit}:${source.path}`;
  const missing = () => new UserError('file-missing', `${source.url} has no ${source.path} in ${source.ref}`);
  const kind = await ask(repository, ['cat-file', '-t', at], options);
  if (kind.code !== 0) throw missing();
  const isFile = kind.stdout.toString().trim() === 'blob';
  const args = isFile ? [repository.commit, '--', source.path] : [at];
  const tree = await ask(repository, ['ls-tree', '-r', '-z', '-l', '--full-tree', ...args], options);
  if (tree.code !== 0) throw missing();
  const blobs: Blob[] = [];
  const odd: ListedFile[] = [];
  for (const line of tree.stdout.toString('latin1').split('\0')) {
    const [, mode, oid, size, raw] = /^(\d+) \w+ ([0-9a-f]+) +(\d+|-)\t(.*)$/s.exec(line) ?? [];
    if (mode === undefined || oid === undefined || raw === undefined) continue;
    const bytes = Buffer.from(raw, 'latin1');
    const text = bytes.toString('utf8');
    const path = isFile ? text.replace(/^.*\//s, '') : text;
    if (!Buffer.from(text).equals(bytes)) odd.push({ path, problem: 'name-not-utf-8' });
    // Links, and commits of other repositories.
    else if (mode !== '100644' && mode !== '100755') odd.push({ path, problem: 'link' });
    else blobs.push({ path, oid, size: Number(size) });
  }
  return { blobs, odd };
}

/**
 * Every file below a path of a commit or tag, in the cache. Throws Unreachable, UserError file-missing (no such path),
 * data-invalid for a pointer of Git LFS, whose data is not in the repository.
 */
export async function fetchGit(
  source: GitSource,
  cache: SourceCache,
  most: number,
  options: FetchOptions,
): Promise<{ listed: ListedFile[]; paths: string[] }> {
  const repository = await openCommit(source, options);
  const { blobs, odd } = await listTree(repository, source, options);
  const listed: ListedFile[] = [...odd];
  const paths: string[] = odd.map(() => '');
  const keep = async (blob: Blob, sha256: string, path: string) => {
    listed.push({ path: blob.path, sha256 });
    paths.push(path);
    options.onProgress?.({
      what: source.url,
      bytes: listed.length,
      total: blobs.length + odd.length,
      counts: 'files',
    });
  };
  for (const batch of batches(blobs, most)) {
    options.signal?.throwIfAborted();
    if (batch.length === 1 && batch[0]!.size > batchBytes) {
      const part = cache.temporary();
      const sha256 = await streamBlob(repository, batch[0]!, part, most, options);
      await keep(batch[0]!, sha256, await cache.adopt(part, sha256));
      continue;
    }
    const input = `${batch.map((blob) => blob.oid).join('\n')}\n`;
    const { stdout } = await ask(repository, ['cat-file', '--batch'], options, input);
    let at = 0;
    for (const blob of batch) {
      // A head line, the content, a line feed (git-cat-file(1), "BATCH OUTPUT").
      at = stdout.indexOf(10, at) + 1;
      const content = stdout.subarray(at, at + blob.size);
      at += blob.size + 1;
      if (content.length !== blob.size) throw new Unreachable(`its copy here lacks ${blob.oid}`, false);
      if (content.length < 1024 && content.subarray(0, lfsMark.length).equals(lfsMark)) {
        throw new UserError(
          'data-invalid',
          `${blob.path} of ${source.url} is a pointer of Git LFS: the data itself is not in the repository`,
          'name the data by an https: or s3: source, or keep it in git without LFS',
        );
      }
      const part = cache.temporary();
      await writeFile(part, content);
      const sha256 = sha(content);
      await keep(blob, sha256, await cache.adopt(part, sha256));
    }
  }
  return { listed, paths };
}

function* batches(blobs: readonly Blob[], most: number): Generator<Blob[]> {
  let batch: Blob[] = [];
  let bytes = 0;
  for (const blob of blobs) {
    if (blob.size > most) throw tooLarge(blob.path, String(blob.size), most);
    if (batch.length > 0 && bytes + blob.size > batchBytes) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(blob);
    bytes += blob.size;
  }
  if (batch.length > 0) yield batch;
}

async function streamBlob(
  repository: Repository,
  blob: Blob,
  part: string,
  most: number,
  options: FetchOptions,
): Promise<string> {
  const child = spawn('git', ['-C', repository.folder, 'cat-file', 'blob', blob.oid], {
    env: repository.env,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  try {
    const incoming = { name: blob.path, body: child.stdout, start: 0, total: blob.size };
    return await spool(incoming, part, most, options.signal ?? new AbortController().signal);
  } finally {
    child.kill();
  }
}

/**
 * The tags of a repository with the commits they stand for now (git-ls-remote(1): of an annotated tag the line with `^{}`
 * tells the commit). Throws Unreachable.
 */
export async function remoteTags(
  source: Pick<GitSource, 'url'>,
  options: FetchOptions,
): Promise<Map<string, string>> {
  const folder = join(options.cacheFolder, 'git');
  await mkdir(folder, { recursive: true });
  const env = await environment(source, folder, options);
  const found = await run('git', ['ls-remote', '--tags', '--', source.url], {
    env,
    cwd: folder,
    ...(options.signal && { signal: options.signal }),
  });
  if (found.code !== 0) throw new Unreachable(found.stderr.toString().trim().split('\n').at(-1) ?? '', true);
  const tags = new Map<string, string>();
  for (const line of found.stdout.toString().split('\n')) {
    const [oid, name] = line.split('\trefs/tags/');
    if (oid && name) tags.set(name.replace(/\^\{\}$/, ''), oid);
  }
  return tags;
}
