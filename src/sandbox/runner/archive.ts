import type { Dirent } from 'node:fs';
import { chmod, lstat, mkdir, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, isAbsolute, join, normalize, relative, resolve, sep } from 'node:path';
import { buffer } from 'node:stream/consumers';
import picomatch from 'picomatch';
import { UserError } from '../../core/error.ts';

/** Files below a folder that patterns name: a folder means all in it; `.git` and places outside are left out. Sorted, with `/`. */
export async function matchFiles(
  root: string,
  patterns: readonly string[],
  exclude: readonly string[],
): Promise<string[]> {
  const found = new Set<string>();
  const excluded = exclude.map((pattern) => picomatch(pattern.replace(/^\.\//, ''), { dot: true }));
  for (const raw of patterns) {
    const pattern = clean(root, raw);
    if (pattern === null) continue;
    const { base, isGlob } = picomatch.scan(pattern);
    const matches = isGlob ? picomatch(pattern, { dot: true }) : null;
    for await (const path of walk(root, isGlob ? base : pattern)) {
      // A glob that matches a folder takes everything in it.
      if (matches === null || parents(path).some((part) => matches(part))) found.add(path);
    }
  }
  return [...found].filter((path) => !excluded.some((test) => test(path))).sort();
}

function clean(root: string, pattern: string): string | null {
  const inside = isAbsolute(pattern) ? relative(root, pattern) : pattern;
  const path = normalize(inside).split(sep).join('/').replace(/\/$/, '');
  if (path === '..' || path.startsWith('../') || isAbsolute(path)) return null;
  return path;
}

function parents(path: string): string[] {
  const parts = path.split('/');
  return parts.map((_, index) => parts.slice(0, index + 1).join('/'));
}

async function* walk(root: string, start: string): AsyncGenerator<string> {
  const at = join(root, start);
  const stat = await lstat(at).catch(() => null);
  if (stat === null) return;
  if (!stat.isDirectory()) {
    yield relative(root, at).split(sep).join('/');
    return;
  }
  const entries: Dirent[] = await readdir(at, { withFileTypes: true });
  for (const entry of entries) {
    if (entry.name === '.git') continue;
    const path = relative(root, join(at, entry.name)).split(sep).join('/');
    if (entry.isDirectory()) yield* walk(root, path);
    else if (entry.isFile() || entry.isSymbolicLink()) yield path;
  }
}

/** Packs files into a zip with their modes; links are kept as links. The same files give the same bytes. */
export async function packZip(root: string, paths: readonly string[]): Promise<Buffer> {
  const { ZipFile } = await import('yazl');
  const zip = new ZipFile();
  const mtime = new Date(Date.UTC(2000, 0, 1));
  for (const path of paths) {
    const file = join(root, path);
    const stat = await lstat(file);
    const bytes = stat.isSymbolicLink() ? Buffer.from(await readlink(file)) : await readFile(file);
    zip.addBuffer(bytes, path, { mtime, mode: stat.mode });
  }
  const bytes = buffer(zip.outputStream);
  zip.end();
  return bytes;
}

const linkType = 0o120000;
const typeMask = 0o170000;

/**
 * Unpacks a zip below a folder. Refuses (UserError artifact-corrupt) names and links that lead out of it, and never writes
 * through a link.
 */
export async function unpackZip(bytes: Buffer, root: string): Promise<void> {
  const { fromBufferPromise } = await import('yauzl').then((yauzl) => ({
    fromBufferPromise: (data: Buffer) =>
      new Promise<import('yauzl').ZipFile>((done, fail) =>
        yauzl.fromBuffer(data, { lazyEntries: true, strictFileNames: true }, (error, zip) =>
          error === null ? done(zip) : fail(error),
        ),
      ),
  }));
  const zip = await fromBufferPromise(bytes).catch((error: unknown) => corrupt(String(error)));
  await new Promise<void>((done, fail) => {
    const next = async (entry: import('yauzl').Entry): Promise<void> => {
      const content = await new Promise<Buffer>((got, broken) =>
        zip.openReadStream(entry, (error, stream) => (error === null ? got(buffer(stream)) : broken(error))),
      );
      await writeEntry(root, entry.fileName, entry.externalFileAttributes >>> 16, content);
      zip.readEntry();
    };
    zip.on('entry', (entry: import('yauzl').Entry) => void next(entry).catch(fail));
    zip.on('end', done);
    zip.on('error', (error) => fail(toCorrupt(String(error))));
    zip.readEntry();
  });
}

function toCorrupt(message: string): UserError {
  return new UserError('artifact-corrupt', `artifacts archive: ${message}`);
}

function corrupt(message: string): never {
  throw toCorrupt(message);
}

async function writeEntry(root: string, name: string, mode: number, content: Buffer): Promise<void> {
  const target = resolve(root, name);
  if (isAbsolute(name) || name.includes('\\') || !isInside(root, target))
    corrupt(`${name} leads out of the folder`);
  await ensureFolder(root, name.endsWith('/') ? target : dirname(target));
  if (name.endsWith('/')) return;
  if ((mode & typeMask) === linkType) {
    const to = content.toString('utf8');
    if (isAbsolute(to) || !isInside(root, resolve(dirname(target), to)))
      corrupt(`link ${name} leads out of the folder`);
    await rm(target, { force: true });
    await symlink(to, target);
    return;
  }
  await rm(target, { force: true });
  await writeFile(target, content);
  if (mode & 0o777) await chmod(target, mode & 0o777);
}

function isInside(root: string, path: string): boolean {
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}

async function ensureFolder(root: string, folder: string): Promise<void> {
  await mkdir(root, { recursive: true });
  let at = root;
  for (const part of relative(root, folder)
    .split(sep)
    .filter((one) => one !== '')) {
    at = join(at, part);
    const stat = await lstat(at).catch(() => null);
    if (stat === null) await mkdir(at);
    else if (!stat.isDirectory()) corrupt(`${relative(root, at)} is a link or a file, not a folder`);
  }
}
