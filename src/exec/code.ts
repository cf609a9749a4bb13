import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, lstat, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import picomatch from 'picomatch';
import type { CodeFile } from '../core/candidate.ts';
import { UserError } from '../core/error.ts';
import { run } from './run.ts';

/** A file of the repository, before its bytes are looked at. */
export interface TreeFile {
  path: string;
  /** Git's mode; links are 120000, submodules 160000. */
  mode: string;
  /** Git's object id; null for a file of the worktree. */
  oid: string | null;
}

async function git(root: string, args: string[]): Promise<Buffer> {
  const result = await run('git', args, { cwd: root });
  if (result.code === 0) return result.stdout;
  const why = result.stderr.toString().trim();
  if (why.includes('dubious ownership')) {
    throw new UserError(
      'file-missing',
      `git does not read ${root}, because another user owns it`,
      `run as its owner, or tell git that you trust it: git config --global --add safe.directory ${root} (in an image: git config --system safe.directory '*')`,
    );
  }
  throw new UserError('file-missing', `git ${args[0]} in ${root}: ${why}`);
}

/**
 * The files of a commit, or (ref null) of the worktree: tracked ones and new ones git does not ignore. Sorted by path.
 * Throws UserError file-missing when `root` is no repository or has no such ref.
 */
export async function listTree(root: string, ref: string | null): Promise<TreeFile[]> {
  if (ref !== null) {
    const text = (await git(root, ['ls-tree', '-r', '-z', '--full-tree', ref])).toString();
    return text
      .split('\0')
      .filter(Boolean)
      .map((line) => {
        const tab = line.indexOf('\t');
        const [mode, , oid] = line.slice(0, tab).split(' ') as [string, string, string];
        return { path: line.slice(tab + 1), mode, oid };
      });
  }
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '--full-name'];
  const names = [...new Set((await git(root, args)).toString().split('\0').filter(Boolean))].sort();
  const files: TreeFile[] = [];
  for (const path of names) {
    const stat = await lstat(join(root, path)).catch(() => null);
    if (!stat) continue;
    const mode = stat.isSymbolicLink() ? '120000' : stat.mode & 0o100 ? '100755' : '100644';
    if (stat.isSymbolicLink() || stat.isFile()) files.push({ path, mode, oid: null });
  }
  return files;
}

/** A selected file with its bytes. */
export interface SelectedFile extends CodeFile {
  bytes: Buffer;
}

/**
 * The files that match any of the globs, with bytes and digests; `cdl.lock` never does. Throws UserError code-invalid for a
 * link or a submodule among them (their content is elsewhere) and file-missing for a glob that matches nothing.
 */
export async function selectCode(
  root: string,
  ref: string | null,
  globs: readonly string[],
): Promise<SelectedFile[]> {
  const matchers = globs.map((glob) => ({
    glob,
    matches: picomatch(glob, { dot: true, flags: 's' }),
    hit: false,
  }));
  const chosen: TreeFile[] = [];
  for (const file of await listTree(root, ref)) {
    if (file.path === 'cdl.lock') continue;
    const hits = matchers.filter((matcher) => matcher.matches(file.path));
    if (hits.length === 0) continue;
    for (const hit of hits) hit.hit = true;
    if (file.mode === '120000' || file.mode === '160000') {
      throw new UserError(
        'code-invalid',
        `${file.path} is a ${file.mode === '120000' ? 'link' : 'submodule'}`,
      );
    }
    chosen.push(file);
  }
  const idle = matchers.find((matcher) => !matcher.hit);
  if (idle) throw new UserError('file-missing', `code: ${idle.glob} matches no file of the repository`);
  const contents = await readTreeFiles(root, ref, chosen);
  return chosen.map((file, index) => ({
    path: file.path,
    mode: file.mode === '100755' ? '100755' : '100644',
    digest: `sha256:${createHash('sha256').update(contents[index]!).digest('hex')}`,
    bytes: contents[index]!,
  }));
}

/** The bytes of files that {@link listTree} named for the same `ref`. */
export async function readTreeFiles(
  root: string,
  ref: string | null,
  files: readonly TreeFile[],
): Promise<Buffer[]> {
  if (ref === null) return Promise.all(files.map((file) => readFile(join(root, file.path))));
  return readObjects(
    root,
    files.map((file) => file.oid!),
  );
}

/** Reads many objects with one `git cat-file --batch`. */
async function readObjects(root: string, oids: readonly string[]): Promise<Buffer[]> {
  if (oids.length === 0) return [];
  const child = spawn('git', ['cat-file', '--batch'], { cwd: root, stdio: ['pipe', 'pipe', 'inherit'] });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stdin.end(oids.map((oid) => `${oid}\n`).join(''));
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => resolve());
  });
  const all = Buffer.concat(chunks);
  const contents: Buffer[] = [];
  let at = 0;
  for (const oid of oids) {
    const end = all.indexOf(10, at);
    const size = Number(all.toString('latin1', at, end).split(' ')[2]);
    if (end < 0 || !Number.isInteger(size)) throw new UserError('file-missing', `git has no object ${oid}`);
    contents.push(all.subarray(end + 1, end + 1 + size));
    at = end + 1 + size + 1;
  }
  return contents;
}

/** Writes selected files below an empty folder: all that a step will see. */
export async function exportCode(files: readonly SelectedFile[], folder: string): Promise<void> {
  for (const file of files) {
    const path = join(folder, file.path);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, file.bytes);
    if (file.mode === '100755') await chmod(path, 0o755);
  }
}

/** The commit a worktree stands at, when nothing in it differs from that commit; null otherwise. */
export async function cleanCommit(root: string): Promise<string | null> {
  const status = await run('git', ['status', '--porcelain', '--untracked-files=normal'], { cwd: root });
  if (status.code !== 0 || status.stdout.length > 0) return null;
  const head = await run('git', ['rev-parse', '--verify', '--quiet', 'HEAD'], { cwd: root });
  return head.code === 0 ? head.stdout.toString().trim() : null;
}
