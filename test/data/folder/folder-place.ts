import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import type { Digest } from '../../../src/core/digest.ts';
import { type AddInput, addFolder } from '../../../src/data/folder/add.ts';
import { localVersion } from '../../../src/data/folder/base.ts';
import { checkoutVersion } from '../../../src/data/folder/checkout.ts';
import { openFilePool } from '../../../src/data/folder/pool.ts';
import type { LocalZone } from '../../../src/store/types.ts';

/** What stands at a path: bytes with their mode, a link, or nothing but a folder. */
export type Thing = { bytes: string; exec: boolean } | { link: string } | 'folder';

/** A tree by path; folders are named only where they are empty. */
export type Tree = Record<string, Thing>;

/** Makes a tree on disk. */
export function plant(root: string, tree: Tree): void {
  mkdirSync(root, { recursive: true });
  for (const [path, thing] of Object.entries(tree)) {
    const full = join(root, path);
    mkdirSync(thing === 'folder' ? full : dirname(full), { recursive: true });
    if (thing === 'folder') continue;
    if ('link' in thing) symlinkSync(thing.link, full);
    else {
      writeFileSync(full, thing.bytes);
      chmodSync(full, thing.exec ? 0o755 : 0o644);
    }
  }
}

/** The tree at a folder. */
export function seen(root: string, below = ''): Tree {
  const found: Tree = {};
  const names = readdirSync(join(root, below));
  if (names.length === 0 && below !== '') found[below] = 'folder';
  for (const name of names) {
    const path = below === '' ? name : `${below}/${name}`;
    const stat = lstatSync(join(root, path));
    if (stat.isDirectory()) Object.assign(found, seen(root, path));
    else if (stat.isSymbolicLink()) found[path] = { link: readlinkSync(join(root, path)) };
    else found[path] = { bytes: readFileSync(join(root, path), 'latin1'), exec: (stat.mode & 0o100) !== 0 };
  }
  return found;
}

const name = fc.oneof(
  fc.constantFrom(
    'a',
    'b',
    'a.txt',
    'a-b',
    'a!',
    'A',
    'ü',
    '日本 語',
    '\u{1f44d}',
    '\uff5e',
    'x'.repeat(120),
    'e\u0301',
  ),
  fc
    .string({ unit: 'binary', minLength: 1, maxLength: 6 })
    .filter((text) => !/[\p{Cs}\ufffd/\\\0]/u.test(text) && !/^\.{1,2}$/.test(text)),
);

const thing: fc.Arbitrary<Thing> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      bytes: fc.string({ maxLength: 40 }).map((text) => Buffer.from(text).toString('latin1')),
      exec: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.constant('folder' as const) },
  { weight: 1, arbitrary: fc.constantFrom('a', 'a/b', './x').map((link) => ({ link })) },
);

/** Trees in which no file stands where a folder has to be. */
export const trees: fc.Arbitrary<Tree> = fc
  .array(fc.tuple(fc.array(name, { minLength: 1, maxLength: 3 }), thing), { maxLength: 25 })
  .map((list) => {
    const tree: Tree = {};
    const taken = (path: string) =>
      Object.keys(tree).some(
        (other) => other === path || other.startsWith(`${path}/`) || path.startsWith(`${other}/`),
      );
    for (const [parts, one] of list) if (!taken(parts.join('/'))) tree[parts.join('/')] = one;
    return tree;
  });

/** `addFolder` with what every test gives it; small limits, so that a few files make several shards and parts. */
export async function add(zone: LocalZone, path: string, more: Partial<AddInput> = {}) {
  const pool = openFilePool(0);
  return addFolder({
    path,
    name: 'tree',
    zone,
    statCache: `${path}.stat`,
    previous: null,
    sources: [],
    code: null,
    pool,
    signal: new AbortController().signal,
    limits: { large: 30, shard: 4096, part: 4 },
    ...more,
  });
}

/** `checkoutVersion` with what every test gives it. */
export async function checkout(
  zone: LocalZone,
  path: string,
  digest: Digest,
  force = false,
  pool = openFilePool(0),
) {
  const version = await localVersion(zone, digest);
  if (!version) throw new Error(`${digest} is not here`);
  return checkoutVersion({
    version,
    zone,
    path,
    statCache: `${path}.stat`,
    force,
    pool,
    signal: new AbortController().signal,
  });
}

/** What tar(1) lists in a file. */
export function tarNames(path: string): string[] {
  const done = spawnSync('tar', ['tf', path], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  });
  if (done.status !== 0) throw new Error(done.stderr);
  return done.stdout.split('\n').filter(Boolean);
}
