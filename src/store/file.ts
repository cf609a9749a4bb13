import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import {
  chmod,
  type FileHandle,
  link,
  mkdir,
  open,
  readdir,
  rename,
  rm,
  stat,
  unlink,
  utimes,
} from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';
import { UpstreamError, UserError } from '../core/error.ts';
import { keepNewest } from '../core/keep.ts';
import { withFolderLock } from '../exec/folder-lock.ts';
import { isOwnerGone, ownerName } from '../exec/owner.ts';
import { checkKey, checkRange, compareKeys } from './key.ts';
import { type Entry, type FileObjectStore, type PutResult, type Range, refreshAfter } from './types.ts';

/** Up to this many bytes an etag is the content's hash; beyond it, what the file system knows, so that `stat` stays cheap. */
const hashedSize = 64 * 1024;

/** Entries of listings that are kept in memory. */
const mostListed = 20_000;

/**
 * Milliseconds after which a file's times tell its next content from this one: within the tick of a file system's clock two
 * files of one size, the second in the place of the first, can look alike (git's document racy-git).
 */
const settled = 1000;

/**
 * Opens (and makes, when absent) a store in a folder, shared by any number of processes on this machine. There is no
 * isolation between zones: whoever may write the folder may write all of it.
 *
 * In the folder: `keys/` the objects (key `a/b.json` is the file `keys/a.d/b.json`: folders end in `.d` and objects never
 * do, so that one key may be a prefix of another), `tmp/` what is being written, `locks/` who is replacing what. An
 * object's file is never changed after it got its name, so readers need no lock. On a file system that ignores case, keys
 * differing only in case are one key. Throws UserError store-denied, UpstreamError.
 */
export async function openFileStore(folder: string): Promise<FileObjectStore> {
  const root = resolve(folder);
  const url = pathToFileURL(root).href;
  const guarded = <T>(action: () => Promise<T>): Promise<T> => guard(url, action);
  const store = new FileStore(root);
  await guarded(() => store.prepare());
  return {
    url,
    get: (key, range) => guarded(async () => (await store.open(key, range))?.body ?? null),
    open: (key, range) => guarded(() => store.open(key, range)),
    stat: (key) => guarded(() => store.stat(key)),
    list: (prefix) => store.list(prefix, guarded),
    listKeys: (prefix) => store.listKeys(prefix, guarded),
    touch: (key) => guarded(() => store.touch(key)),
    link: async () => null,
    delete: (key, options) => guarded(() => store.delete(key, options?.before)),
    put: (key, body, options) => guarded(() => store.put(key, body, options ?? {})),
    pathOf: (key) => store.pathOf(key),
    temporary: () => store.temporary(),
    adopt: (path, key) => guarded(() => store.adopt(path, key)),
  };
}

type Guarded = <T>(action: () => Promise<T>) => Promise<T>;

class FileStore {
  readonly #keys: string;
  readonly #tmp: string;
  readonly #locks: string;
  /** By path, what was listed and the times of the file it was read from. */
  readonly #listed = new Map<string, { times: string; entry: Entry }>();

  constructor(root: string) {
    this.#keys = join(root, 'keys');
    this.#tmp = join(root, 'tmp');
    this.#locks = join(root, 'locks');
  }

  /** Makes the folders, and removes what killed writers left half-written. */
  async prepare(): Promise<void> {
    await mkdir(this.#keys, { recursive: true });
    for (const folder of [this.#tmp, this.#locks]) {
      await mkdir(folder, { recursive: true });
      for (const name of await readdir(folder)) {
        const path = join(folder, name);
        const owner = name.slice(name.lastIndexOf('.') + 1);
        if (folder === this.#locks && owner === name) continue;
        const found = await stat(path).catch(() => null);
        if (found && isOwnerGone(owner, found.mtimeMs)) await rm(path, { recursive: true, force: true });
      }
    }
  }

  async open(key: string, range?: Range): Promise<{ entry: Entry; body: Readable } | null> {
    const handle = await openIfThere(this.pathOf(key));
    if (!handle) return null;
    let streaming = false;
    try {
      const { entry, content } = await describe(key, handle);
      if (range) checkRange(range);
      const { offset: start, length } = range ?? { offset: 0, length: entry.size };
      const end = Math.min(start + length, entry.size);
      if (content || end <= start) {
        const part = content ? content.subarray(start, end) : Buffer.alloc(0);
        return { entry, body: Readable.from(part.length > 0 ? [part] : [], { objectMode: false }) };
      }
      const body = handle.createReadStream(range ? { start, end: end - 1 } : {});
      streaming = true;
      return { entry, body };
    } finally {
      if (!streaming) await handle.close();
    }
  }

  async stat(key: string): Promise<Entry | null> {
    return statAt(key, this.pathOf(key));
  }

  async *list(prefix: string, guarded: Guarded): AsyncGenerator<Entry> {
    for await (const { key, path } of this.#walk(prefix, guarded)) {
      const entry = await guarded(() => this.#entryOf(key, path));
      if (entry) yield entry;
    }
  }

  async *listKeys(prefix: string, guarded: Guarded): AsyncGenerator<string> {
    for await (const { key } of this.#walk(prefix, guarded)) yield key;
  }

  async *#walk(prefix: string, guarded: Guarded): AsyncGenerator<{ key: string; path: string }> {
    const parts = prefix.split('/');
    const start = parts.pop() ?? '';
    if (parts.length > 0) checkKey(parts.join('/'));
    const walk = async function* (
      folder: string,
      above: string,
      from: string,
    ): AsyncGenerator<{ key: string; path: string }> {
      const found = await guarded(() => namesIn(folder, above));
      // A folder sorts as its name and "/", which is how every key below it goes on.
      for (const { key, path, isFolder } of found.sort((a, b) => compareKeys(a.key, b.key))) {
        if (!key.startsWith(above + from)) continue;
        if (isFolder) yield* walk(path, key, '');
        else yield { key, path };
      }
    };
    const above = parts.length > 0 ? `${parts.join('/')}/` : '';
    yield* walk(join(this.#keys, ...parts.map(folderName)), above, start);
  }

  /** As {@link statAt}, without reading a file again that has not changed since it was listed. */
  async #entryOf(key: string, path: string): Promise<Entry | null> {
    const found = await stat(path, { bigint: true }).catch(ignoreAbsent);
    if (!found) return null;
    const times = `${found.ino} ${found.mtimeNs} ${found.ctimeNs} ${found.size}`;
    const known = this.#listed.get(path);
    if (known?.times === times) return known.entry;
    const entry = await statAt(key, path);
    if (entry && Date.now() - Number(found.ctimeMs) > settled) {
      keepNewest(this.#listed, mostListed, path, { times, entry });
    }
    return entry;
  }

  async touch(key: string): Promise<boolean> {
    const now = new Date();
    return this.#exclusively(key, async () => {
      try {
        await utimes(this.pathOf(key), now, now);
        return true;
      } catch (error) {
        return ignoreAbsent(error) ?? false;
      }
    });
  }

  async delete(key: string, before?: number): Promise<boolean> {
    const path = this.pathOf(key);
    return this.#exclusively(key, async () => {
      const found = before === undefined ? undefined : await stat(path).catch(ignoreAbsent);
      if (found && found.mtimeMs >= before!) return false;
      await unlink(path).catch(ignoreAbsent);
      return true;
    });
  }

  async put(
    key: string,
    body: Readable | Uint8Array | string,
    options: { ifAbsent?: true; ifMatch?: string },
  ): Promise<PutResult> {
    const path = this.pathOf(key);
    if (options.ifAbsent && (await stat(path).catch(ignoreAbsent))) {
      if (body instanceof Readable) body.destroy();
      return 'exists';
    }
    const temporary = join(this.#tmp, ownerName());
    try {
      const output = createWriteStream(temporary, {
        flags: 'wx',
        flush: options.ifAbsent !== undefined || options.ifMatch !== undefined,
      });
      await pipeline(body instanceof Readable ? body : [body], output);
      if (options.ifAbsent) return await this.#linkNew(temporary, path);
      return await this.#exclusively(key, async () => {
        if (options.ifMatch !== undefined && (await statAt(key, path))?.etag !== options.ifMatch) {
          return 'changed';
        }
        await mkdir(dirname(path), { recursive: true });
        await rename(temporary, path);
        return 'stored';
      });
    } finally {
      await rm(temporary, { force: true });
    }
  }

  temporary(): string {
    return join(this.#tmp, ownerName());
  }

  async adopt(path: string, key: string): Promise<PutResult> {
    const target = this.pathOf(key);
    await chmod(path, 0o444);
    const { size } = await stat(path);
    try {
      for (;;) {
        if ((await this.#linkNew(path, target)) === 'stored') return 'stored';
        const there = await stat(target).catch(ignoreAbsent);
        if (there && there.size !== size) {
          // What a power cut or a full disk left of it.
          await rename(path, target);
          return 'stored';
        }
        // Relied on from now on; where it is removed at this moment, this file takes its place.
        const isYoung = there !== undefined && Date.now() - there.mtimeMs < refreshAfter;
        if (isYoung || (await this.touch(key))) return 'exists';
      }
    } finally {
      await rm(path, { force: true });
    }
  }

  /** link(2) fails when the name is taken, whoever else tries at the same time. */
  async #linkNew(temporary: string, path: string): Promise<PutResult> {
    await mkdir(dirname(path), { recursive: true });
    try {
      await link(temporary, path);
      return 'stored';
    } catch (error) {
      if (codeOf(error) === 'EEXIST') return 'exists';
      throw error;
    }
  }

  /** Replacing and deleting one key happen one after the other, or a compare-and-swap could undo a write it never saw. */
  #exclusively<T>(key: string, action: () => Promise<T>): Promise<T> {
    return withFolderLock(join(this.#locks, createHash('sha256').update(key).digest('hex')), action);
  }

  pathOf(key: string): string {
    checkKey(key);
    const parts = key.split('/');
    const last = parts.pop() ?? '';
    const names = [...parts.map(folderName), fileName(last)];
    const tooLong = names.find((name) => Buffer.byteLength(name) > 255);
    if (tooLong) throw new UserError('usage', `the part ${JSON.stringify(tooLong)} of a key is too long`);
    return join(this.#keys, ...names);
  }
}

function folderName(part: string): string {
  return `${part.replaceAll('%', '%25')}.d`;
}

function fileName(part: string): string {
  return part.replaceAll('%', '%25').replace(/\.d$/, '%2Ed');
}

function partOf(name: string): string {
  return name.replace('%2Ed', '.d').replaceAll('%25', '%');
}

async function namesIn(
  folder: string,
  above: string,
): Promise<{ key: string; path: string; isFolder: boolean }[]> {
  const entries = (await readdir(folder, { withFileTypes: true }).catch(ignoreAbsent)) ?? [];
  return entries.map((entry) => {
    const isFolder = entry.isDirectory();
    const part = isFolder ? `${partOf(entry.name.slice(0, -2))}/` : partOf(entry.name);
    return { key: above + part, path: join(folder, entry.name), isFolder };
  });
}

async function openIfThere(path: string): Promise<FileHandle | null> {
  return (await open(path).catch(ignoreAbsent)) ?? null;
}

async function statAt(key: string, path: string): Promise<Entry | null> {
  const handle = await openIfThere(path);
  if (!handle) return null;
  try {
    return (await describe(key, handle)).entry;
  } finally {
    await handle.close();
  }
}

async function describe(key: string, handle: FileHandle): Promise<{ entry: Entry; content: Buffer | null }> {
  const { size, ino, mtimeMs, mtimeNs } = await handle.stat({ bigint: true });
  const modified = Number(mtimeMs);
  if (size > hashedSize) {
    return { entry: { key, size: Number(size), etag: `${ino}-${mtimeNs}-${size}`, modified }, content: null };
  }
  const content = await handle.readFile();
  const etag = createHash('sha256').update(content).digest('hex');
  return { entry: { key, size: content.length, etag, modified }, content };
}

function codeOf(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null;
}

function ignoreAbsent(error: unknown): undefined {
  if (codeOf(error) !== 'ENOENT') throw error;
  return undefined;
}

/** Turns what the file system says into what the port promises. An error of the caller's own stream passes as it is. */
async function guard<T>(url: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const code = codeOf(error);
    if (!(error instanceof Error) || error instanceof UserError || !code || !('syscall' in error))
      throw error;
    if (['EACCES', 'EPERM', 'EROFS'].includes(code)) {
      throw new UserError('store-denied', `${url}: ${error.message}`, 'check who may write this folder', {
        cause: error,
      });
    }
    throw new UpstreamError('store', `${url}: ${error.message}`, { retryable: true, cause: error });
  }
}
