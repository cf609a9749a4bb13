import { createHash } from 'node:crypto';
import { existsSync, lstatSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import type { Artifact } from '../core/artifact.ts';
import { type Digest, isDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { type DataReader, openDataReader } from '../data/folder/places.ts';
import { readPointers } from '../data/folder/pointers.ts';
import { readRef } from '../data/folder/refs.ts';
import { folderVersion } from '../data/folder/version.ts';
import { madeBefore } from '../data/made.ts';
import { createZone, type OpenOutside, openLocalZone } from '../store/index.ts';
import type { LocalZone, Zone } from '../store/types.ts';
import type { CommandInput } from './types.ts';

/** What the actions of `cdl data` work with. */
export interface Desk {
  /** The repository's root. */
  root: string;
  /** The store of this machine. */
  local: LocalZone;
  /** Whether there is another store, where versions are shared. */
  hasRemote: boolean;
  /** That store; a project without one has its own folder there. */
  remote(): Promise<Zone>;
  /** Both, this machine's first. */
  reader: DataReader;
  /** A path given on the command line as it is told in the project. Throws UserError usage for one outside. */
  nameOf(path: string): string;
  /** Where the stat cache of a path is. */
  statCache(name: string): string;
}

/** The folder with `.git` at or above another. Without asking git, whose start would cost more than the look. */
function rootOf(cwd: string): string {
  for (let folder = resolve(cwd); ; folder = dirname(folder)) {
    if (existsSync(join(folder, '.git'))) return folder;
    if (folder === dirname(folder)) {
      throw new UserError(
        'file-missing',
        `${cwd} is not in a git repository`,
        'run cdl in your project, or make one: git init',
      );
    }
  }
}

/** A link above a path would have versions read and written outside the project. Throws UserError usage. */
function refuseLinks(root: string, name: string): void {
  for (let at = name.indexOf('/'); at >= 0; at = name.indexOf('/', at + 1)) {
    const above = name.slice(0, at);
    if (!lstatSync(join(root, above), { throwIfNoEntry: false })?.isSymbolicLink()) continue;
    throw new UserError(
      'usage',
      `${name} is not in ${root}: ${above} is a link`,
      'give the folder itself, or put it into the project',
    );
  }
}

/** Opens what `cdl data` works with. */
export async function openDesk(input: CommandInput): Promise<Desk> {
  const root = rootOf(input.cwd);
  // What is stored in place is seldom, and its code and configuration need not be loaded for the rest.
  const outside: OpenOutside = async (at) => {
    const { outsideOf } = await import('../steps/zones.ts');
    opener ??= outsideOf(input.env, 'work', root);
    return opener(at);
  };
  let opener: OpenOutside | null = null;
  const local = await openLocalZone(join(root, '.cdl', 'store', 'work'), { outside });
  const given = typeof input.options.store === 'string' ? input.options.store : input.env.CDL_WORK_STORE;
  let opened: Promise<Zone> | null = null;
  const remote = () => {
    opened ??= (async () => {
      if (!given) return local;
      const { openZone } = await import('../steps/zones.ts');
      const zone = await openZone({ ...input.env, CDL_WORK_STORE: given }, 'work', root);
      // Without a cache: what is read here goes into this machine's store.
      return createZone('work', zone.store, { outside });
    })();
    return opened;
  };
  return {
    root,
    local,
    hasRemote: Boolean(given),
    remote,
    reader: openDataReader([async () => local, ...(given ? [remote] : [])]),
    nameOf(path) {
      const name = relative(root, resolve(input.cwd, path)).split(sep).join('/');
      if (
        name === '' ||
        name.startsWith('../') ||
        name === '..' ||
        /^\.cdl(\/|$)|(^|\/)\.git(\/|$)/i.test(name)
      ) {
        throw new UserError('usage', `${path} is not a folder or file of data below ${root}`);
      }
      if (/[\p{Cc}\\]/u.test(name)) {
        throw new UserError(
          'usage',
          `${JSON.stringify(name)} has a control character or a backslash in it`,
          `rename it: cdl.data.lock names one path a line`,
        );
      }
      refuseLinks(root, name);
      return name;
    },
    statCache(name) {
      const key = createHash('sha256').update(name).digest('hex').slice(0, 32);
      return join(root, '.cdl', 'data', `${key}.stat`);
    },
  };
}

/**
 * The version that somebody means: a digest or its beginning, a path with a version in this commit, a ref, a data set of
 * cdl.yaml; with `~2`, the one two before. Throws UserError artifact-missing, or usage when it may mean several.
 */
export async function resolveVersion(desk: Desk, what: string): Promise<Digest> {
  const back = /^(.+?)~(\d*)$/.exec(what);
  if (!back) return named(desk, what);
  let version = await resolveVersion(desk, back[1]!);
  for (let steps = Number(back[2] || '1'); steps > 0; steps--) {
    const previous = await versionBefore(desk, version, await desk.reader.manifest(version));
    if (!previous) throw new UserError('artifact-missing', `${what}: there is no version before ${version}`);
    version = previous;
  }
  return version;
}

/**
 * The version before another: of a folder, the one it was made after; of a data set, the one it was cleaned or labelled from,
 * or else the one that `ingest` had made before. Null when there is none.
 */
export async function versionBefore(desk: Desk, digest: Digest, artifact: Artifact): Promise<Digest | null> {
  const version = folderVersion(digest, artifact);
  if (version) return version.meta.previous;
  if (artifact.parents[0]) return artifact.parents[0];
  const near = await madeBefore(desk.local, digest);
  return near ?? (desk.hasRemote ? madeBefore(await desk.remote(), digest) : null);
}

/** The path with a version in this commit that somebody means, with or without `~2`; null for anything else. */
export function pointedPath(desk: Desk, what: string): string | null {
  const one = /^(.+?)~\d*$/.exec(what)?.[1] ?? what;
  if (isDigest(one)) return null;
  const pointers = readPointers(desk.root);
  const path = one.includes('@') ? null : safeName(desk, one);
  return [path, one].find((name): name is string => name !== null && pointers.has(name)) ?? null;
}

/** The newest version under a ref, here or where versions are shared. Throws UserError artifact-missing. */
export async function resolveRef(desk: Desk, name: string): Promise<Digest> {
  const ref = await refOf(desk, name);
  if (ref) return ref;
  throw new UserError(
    'artifact-missing',
    `there is no ref ${name}`,
    'cdl data add and push make one for each path',
  );
}

async function refOf(desk: Desk, name: string): Promise<Digest | null> {
  const shared = desk.hasRemote ? await readRef(await desk.remote(), name) : null;
  return (shared ?? (await readRef(desk.local, name)))?.version ?? null;
}

async function named(desk: Desk, what: string): Promise<Digest> {
  if (isDigest(what)) return what;
  const pointers = readPointers(desk.root);
  const path = what.includes('@') ? null : safeName(desk, what);
  const at = pointedPath(desk, what);
  if (at !== null) return pointers.get(at)!;
  const digits = what.replace(/^sha256:/, '');
  if (/^[0-9a-f]{6,64}$/.test(digits)) {
    const found = await desk.reader.find(digits);
    if (found.length > 1) {
      throw new UserError(
        'usage',
        `${what} is the beginning of several: ${found.join(', ')}`,
        'give more of it',
      );
    }
    if (found[0]) return found[0];
  }
  for (const name of path === null ? [what] : [what, path]) {
    const ref = await refOf(desk, name);
    if (ref) return ref;
  }
  const ingested = await ofDataset(desk, what);
  if (ingested) return ingested;
  throw new UserError(
    'artifact-missing',
    `${what} is no version: no digest, no path in cdl.data.lock, no ref, no data set that was ingested here`,
    'see cdl data log, or add it: cdl data add <path>',
  );
}

function safeName(desk: Desk, what: string): string | null {
  try {
    return desk.nameOf(what);
  } catch (error) {
    if (error instanceof UserError) return null;
    throw error;
  }
}

/** The version that this project's last `label` or `ingest` made of a data set. */
async function ofDataset(desk: Desk, name: string): Promise<Digest | null> {
  if (!/^[a-z0-9][a-z0-9_-]*$/.test(name)) return null;
  const { openHandover } = await import('../steps/handover.ts');
  const handover = openHandover(join(desk.root, '.cdl'));
  for (const step of ['label', 'ingest']) {
    const made = (await handover.read(step, name))?.dataset;
    if (isDigest(made)) return made;
  }
  return null;
}
