import { spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { localVersion } from '../../../src/data/folder/base.ts';
import { diffListings } from '../../../src/data/folder/diff.ts';
import { parseLine } from '../../../src/data/folder/entry.ts';
import { openDataReader } from '../../../src/data/folder/places.ts';
import { openFilePool } from '../../../src/data/folder/pool.ts';
import { findEntry, openListing, readEntry } from '../../../src/data/folder/reader.ts';
import { openLocalZone } from '../../../src/store/index.ts';
import type { LocalZone } from '../../../src/store/types.ts';
import { add, checkout, plant, seen, type Tree, tarNames, trees } from './folder-place.ts';

let root: string;
let zone: LocalZone;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'cdl-folder-'));
  zone = await openLocalZone(join(root, 'store'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const files = (count: number, bytes = (index: number) => `file ${index}`): Tree =>
  Object.fromEntries(
    Array.from({ length: count }, (_, index) => [
      `d${index % 7}/${String(index).padStart(4, '0')}.txt`,
      { bytes: bytes(index), exec: false },
    ]),
  );

const file = (bytes: string) => ({ bytes, exec: false });

/** Waits until the file system's clock has left the time of everything written so far. */
function tick(): void {
  const probe = join(root, 'tick');
  writeFileSync(probe, '');
  const start = Date.now();
  const at = () => {
    writeFileSync(probe, '');
    return readdirSync(root).length > 0 && Date.now();
  };
  while (Number(at()) - start < 20);
}

describe('a version of a folder', () => {
  it('gives back the tree it was made of, whatever is in it', async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(trees, async (tree) => {
        const folder = join(root, `in-${run++}`);
        plant(folder, tree);
        const before = seen(folder);
        const { version, changed } = await add(zone, folder);
        expect(changed).toBe(true);
        await checkout(zone, `${folder}-out`, version);
        expect(seen(`${folder}-out`)).toEqual(before);
        expect(seen(folder)).toEqual(before);
      }),
      { numRuns: 60 },
    );
  });

  it('becomes any other one, by checkout onto it, and what no version held stays', async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(trees, trees, async (one, two) => {
        const base = join(root, `turn-${run++}`);
        plant(`${base}-a`, one);
        plant(`${base}-b`, two);
        const a = await add(zone, `${base}-a`);
        const b = await add(zone, `${base}-b`, { previous: a.version });
        writeFileSync(join(`${base}-a`, 'untracked \u{1f40c}'), 'mine');
        await checkout(zone, `${base}-a`, b.version);
        const { 'untracked \u{1f40c}': mine, ...rest } = seen(`${base}-a`);
        expect(mine).toEqual({ bytes: 'mine', exec: false });
        expect(rest).toEqual(seen(`${base}-b`));
      }),
      { numRuns: 60 },
    );
  });

  it('is the same however it came to be, and not another one while nothing changed', async () => {
    const folder = join(root, 'data');
    plant(folder, files(50));
    const first = await add(zone, folder);
    tick();
    const again = await add(zone, folder, { previous: first.version });
    expect(again).toMatchObject({ version: first.version, changed: false });
    const settled = await add(zone, folder, { previous: first.version });
    expect(settled).toMatchObject({ version: first.version, changed: false, read: 0 });
    rmSync(`${folder}.stat`);
    expect(await add(zone, folder, { previous: first.version })).toMatchObject({
      version: first.version,
      changed: false,
      read: 50,
    });
    plant(join(root, 'copy'), files(50));
    expect((await add(zone, join(root, 'copy'))).version).toBe(first.version);
  });

  it('packs only what changed, and shares every other object with the one before', async () => {
    const folder = join(root, 'data');
    plant(
      folder,
      files(200, (index) => `${index}`.repeat(9)),
    );
    const first = await add(zone, folder, { limits: { large: 1000, shard: 1 << 20, part: 16 } });
    tick();
    writeFileSync(join(folder, 'd3/0003.txt'), 'other bytes');
    const second = await add(zone, folder, {
      previous: first.version,
      limits: { large: 1000, shard: 1 << 20, part: 16 },
    });
    expect(second.changed).toBe(true);
    const [a, b] = [await localVersion(zone, first.version), await localVersion(zone, second.version)];
    const fresh = [...b!.blobs.keys()].filter((sha256) => !a!.blobs.has(sha256));
    expect([...a!.blobs.keys()].every((sha256) => b!.blobs.has(sha256))).toBe(true);
    expect(fresh).toHaveLength(1);
    expect(tarNames(zone.blobPath(`sha256:${fresh[0]!}`))).toEqual(['d3/0003.txt']);
    const parts = new Set(a!.parts.map((part) => part.digest));
    expect(b!.parts.filter((part) => !parts.has(part.digest))).toHaveLength(1);
  });

  it('is packed in files that any tar reads, under the names they have', async () => {
    const folder = join(root, 'data');
    const long = `${'folder '.repeat(20)}/日本 語.txt`;
    plant(folder, { 'a.txt': { bytes: 'a', exec: false }, [long]: { bytes: 'long', exec: true } });
    const { version } = await add(zone, folder, { limits: { large: 1000 } });
    const [shard] = [...(await localVersion(zone, version))!.blobs.keys()];
    expect(
      tarNames(zone.blobPath(`sha256:${shard!}`)).map((name) =>
        name.replaceAll(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))),
      ),
    ).toHaveLength(2);
    const { spawnSync } = await import('node:child_process');
    mkdirSync(join(root, 'untarred'));
    spawnSync('tar', ['xf', zone.blobPath(`sha256:${shard!}`), '-C', join(root, 'untarred')]);
    expect(seen(join(root, 'untarred'))).toEqual(seen(folder));
  });

  it('does not grow with the number of versions: shards that are mostly unused are packed again', async () => {
    const folder = join(root, 'data');
    const limits = { large: 1000, shard: 1 << 20, part: 16 };
    plant(folder, files(60));
    let last = await add(zone, folder, { limits });
    for (let turn = 0; turn < 45; turn++) {
      tick();
      writeFileSync(join(folder, `d${turn % 7}/${String(turn).padStart(4, '0')}.txt`), `turn ${turn}`);
      last = await add(zone, folder, { previous: last.version, limits });
    }
    const version = (await localVersion(zone, last.version))!;
    const stored = [...version.blobs.values()].reduce((sum, blob) => sum + blob.size, 0);
    expect(version.blobs.size).toBeLessThan(40);
    expect(stored).toBeLessThan(2 * 60 * 1024 + 40 * 1024);
    await checkout(zone, join(root, 'out'), last.version);
    expect(seen(join(root, 'out'))).toEqual(seen(folder));
  });

  it('notices a change that left size and mtime as they were', async () => {
    const folder = join(root, 'data');
    plant(folder, files(3));
    const past = new Date('2020-01-01T00:00:00Z');
    utimesSync(join(folder, 'd1/0001.txt'), past, past);
    const first = await add(zone, folder);
    writeFileSync(join(folder, 'd1/0001.txt'), 'FILE 1');
    utimesSync(join(folder, 'd1/0001.txt'), past, past);
    const second = await add(zone, folder, { previous: first.version });
    expect(second.changed).toBe(true);
  });

  it('notices changes right after a look, which file times cannot tell apart', async () => {
    const folder = join(root, 'data');
    plant(folder, files(3));
    for (let turn = 0; turn < 30; turn++) {
      writeFileSync(join(folder, 'd1/0001.txt'), `turn ${turn % 10}`);
      const { version } = await add(zone, folder);
      const reader = openDataReader([async () => zone]);
      const entry = await findEntry(await openListing(reader, version), 'd1/0001.txt');
      expect(String(await readEntry(reader, entry as never))).toBe(`turn ${turn % 10}`);
    }
  });

  it('may be one file, large or small', async () => {
    for (const bytes of ['small', 'large'.repeat(20)]) {
      const file = join(root, `model-${bytes.length}.bin`);
      writeFileSync(file, bytes);
      writeFileSync(join(root, 'beside'), 'not part of it');
      const { version, count } = await add(zone, file);
      expect(count).toBe(1);
      rmSync(file);
      rmSync(`${file}.stat`);
      expect(await checkout(zone, file, version)).toMatchObject({ written: 1 });
      expect(readFileSync(file, 'utf8')).toBe(bytes);
      expect(readFileSync(join(root, 'beside'), 'utf8')).toBe('not part of it');
    }
  });

  it('of one file has the name it is checked out under, and nothing beside it is touched', async () => {
    const train = join(root, 'train.csv');
    writeFileSync(train, 'versioned');
    const { version } = await add(zone, train);
    writeFileSync(train, 'no version has this');
    mkdirSync(join(root, 'in'));
    for (const other of [join(root, 'other.csv'), join(root, 'in', 'other.csv')]) {
      expect(await checkout(zone, other, version)).toMatchObject({ written: 1, kept: 0, removed: 0 });
      expect(readFileSync(other, 'utf8')).toBe('versioned');
      expect(await checkout(zone, other, version)).toMatchObject({ written: 0, kept: 1 });
      tick();
      expect(await add(zone, other, { previous: version })).toMatchObject({
        version,
        changed: false,
        read: 0,
      });
      writeFileSync(other, 'changed');
      await expect(checkout(zone, other, version)).rejects.toMatchObject({
        code: 'data-invalid',
        message: expect.stringContaining('other.csv'),
      });
      expect(readFileSync(other, 'utf8')).toBe('changed');
      expect(await checkout(zone, other, version, true)).toMatchObject({ written: 1 });
      expect(readFileSync(other, 'utf8')).toBe('versioned');
    }
    expect(readFileSync(train, 'utf8')).toBe('no version has this');
    await expect(checkout(zone, join(root, 'in'), version, true)).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringContaining('is a folder, and the version is one file'),
    });
  });

  it('that says it is one file and is not changes nothing', async () => {
    for (const tree of [
      { a: file('1'), b: file('2') },
      { 'a/b': file('1') },
      { a: 'folder' },
      {},
    ] as Tree[]) {
      const folder = await mkdtemp(join(root, 'tree-'));
      plant(folder, tree);
      const { version } = await add(zone, folder);
      const artifact = await zone.getArtifact(version);
      const odd = await zone.putArtifact({ ...artifact, meta: { ...artifact.meta, single: true } });
      const out = await mkdtemp(join(root, 'out-'));
      plant(out, { a: file('mine'), one: file('mine') });
      const before = seen(out);
      await expect(checkout(zone, join(out, 'one'), odd, true)).rejects.toMatchObject({
        code: 'data-invalid',
        message: expect.stringContaining('says that it is one file'),
      });
      expect(seen(out)).toEqual(before);
    }
  });

  it('refuses links that lead out, names that are not UTF-8 or hold a backslash, pipes; and says which', async () => {
    const folder = join(root, 'data');
    plant(folder, files(2));
    symlinkSync('../../etc', join(folder, 'out'));
    await expect(add(zone, folder)).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringContaining('out'),
    });
    rmSync(join(folder, 'out'));
    const odd = Buffer.concat([Buffer.from(join(folder, 'bad-')), Buffer.from([0xff])]);
    writeFileSync(odd, 'x');
    await expect(add(zone, folder)).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringContaining('UTF-8'),
    });
    rmSync(odd);
    plant(folder, { 'sub/c\\d': { bytes: 'x', exec: false } });
    await expect(add(zone, folder)).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringContaining('backslash'),
    });
    rmSync(join(folder, 'sub'), { recursive: true });
    spawnSync('mkfifo', [join(folder, 'pipe')]);
    await expect(add(zone, folder)).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringContaining('pipe'),
      hint: expect.stringContaining('take the pipe'),
    });
    rmSync(join(folder, 'pipe'));
    await expect(add(zone, join(root, 'absent'))).rejects.toMatchObject({ code: 'file-missing' });
    expect(await add(zone, folder)).toMatchObject({ count: 2 });
  });

  it('leaves out repositories of git, and takes none from a version', async () => {
    const folder = join(root, 'data');
    plant(folder, {
      'a.txt': { bytes: 'a', exec: false },
      'inner/.gitattributes': { bytes: 'b', exec: false },
      'inner/.git/config': { bytes: '[core]\n\tfsmonitor = ./evil', exec: false },
      'linked/.GIT': { bytes: 'gitdir: elsewhere', exec: false },
    });
    const { version } = await add(zone, folder);
    expect(await checkout(zone, join(root, 'copy'), version)).toMatchObject({ written: 3 });
    expect(seen(join(root, 'copy'))).toEqual({
      'a.txt': { bytes: 'a', exec: false },
      'inner/.gitattributes': { bytes: 'b', exec: false },
      linked: 'folder',
    });
    // Neither what is left out nor what stands beside it goes, whatever is checked out.
    plant(folder, { 'a.txt': { bytes: 'more', exec: false } });
    const later = await add(zone, folder, { previous: version });
    await checkout(zone, folder, version);
    await checkout(zone, folder, later.version);
    expect(readFileSync(join(folder, 'inner/.git/config'), 'utf8')).toContain('fsmonitor');
    const odd = join(root, 'odd');
    plant(odd, { inner: { bytes: 'a file', exec: false } });
    const { version: file } = await add(zone, odd);
    rmSync(join(odd, 'inner'));
    plant(odd, { 'inner/.git/HEAD': { bytes: 'ref: main', exec: false } });
    await expect(checkout(zone, odd, file, true)).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringContaining('holds a repository of git'),
    });
    expect(readFileSync(join(odd, 'inner/.git/HEAD'), 'utf8')).toBe('ref: main');
    const sha256 = '0'.repeat(64);
    for (const path of ['.git/config', 'inner/.Git/hooks/post-checkout', 'inner/.git']) {
      const line = JSON.stringify({ in: 0, path, sha256, size: 1 });
      expect(() => parseLine(line, [sha256], 'here')).toThrow('not a path inside the folder');
    }
  });

  it('refuses a file in place of a folder that holds a repository of git, and changes nothing', async () => {
    const [folder, other] = [join(root, 'data'), join(root, 'other')];
    plant(other, { 'd/a': file('a file'), z: file('z') });
    const { version } = await add(zone, other);
    plant(folder, { 'd/a/x': file('x'), 'd/a/deep/.git/HEAD': file('ref: main'), 'old/y': file('y') });
    for (const [path, what] of [
      ['d/a/.git', 'a repository of git'],
      ['d/a/deep/er/.GIT', 'a repository of git'],
      ['d/a/.cdl-tmp-1', '.cdl-tmp-1'],
      ['d/a/deep', 'a repository of git'],
    ] as const) {
      if (path !== 'd/a/deep') {
        rmSync(join(folder, 'd/a/deep'), { recursive: true, force: true });
        plant(folder, { [path]: file('gitdir: elsewhere') });
      } else plant(folder, { 'd/a/deep/.git/HEAD': file('ref: main') });
      await add(zone, folder);
      const before = seen(folder);
      for (const force of [false, true]) {
        await expect(checkout(zone, folder, version, force)).rejects.toMatchObject({
          code: 'data-invalid',
          message: expect.stringContaining(`holds ${what}, and the version has a file at ${folder}/d/a`),
          hint: expect.stringContaining('Nothing was changed'),
        });
      }
      expect(seen(folder)).toEqual(before);
      rmSync(join(folder, path), { recursive: true });
    }
    await checkout(zone, folder, version);
    expect(seen(folder)).toEqual(seen(other));
  });

  it('gives up what is in the way of it only by force, and leaves alone what is not', async () => {
    const [folder, other] = [join(root, 'data'), join(root, 'other')];
    plant(other, { 'd/a': file('a file'), 'e/f/g': file('g'), empty: 'folder' });
    const { version } = await add(zone, other);
    plant(folder, { 'd/a/x': file('x'), 'old/y': file('y') });
    await add(zone, folder);
    plant(folder, {
      'd/a/mine': file('1'),
      'd/a/in/mine': file('2'),
      'd/a/in/none': 'folder',
      e: { link: 'd' },
      'empty/mine': file('3'),
    });
    const before = seen(folder);
    await expect(checkout(zone, folder, version)).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringMatching(/no version holds: d\/a\/in\/mine, d\/a\/in\/none, d\/a\/mine, e$/),
    });
    expect(seen(folder)).toEqual(before);
    await checkout(zone, folder, version, true);
    const { empty: _, ...rest } = seen(other);
    expect(seen(folder)).toEqual({ ...rest, 'empty/mine': file('3') });
  });

  it('gives up on a file that does not stop changing, and makes no version', async () => {
    const folder = join(root, 'data');
    plant(folder, { log: { bytes: 'x'.repeat(8 << 20), exec: false } });
    const writer = spawn(process.execPath, [
      '-e',
      `const fs = require('node:fs'), f = fs.openSync(${JSON.stringify(join(folder, 'log'))}, 'a');
      for (;;) fs.writeSync(f, 'x');`,
    ]);
    try {
      const attempt = () =>
        add(zone, folder, { limits: { large: 1 << 20 } }).then(
          () => null,
          ({ code, message }) => ({ code, message }),
        );
      await expect.poll(attempt, { timeout: 20_000 }).toMatchObject({
        code: 'data-invalid',
        message: expect.stringContaining('log changes while it is read'),
      });
    } finally {
      writer.kill('SIGKILL');
    }
    const { version } = await add(zone, folder);
    expect(await localVersion(zone, version)).toMatchObject({ meta: { count: 1, previous: null } });
  });

  it('stores what was read of a file that grows meanwhile, and the next look sees the rest', async () => {
    const folder = join(root, 'data');
    plant(folder, { log: { bytes: 'x'.repeat(100), exec: false } });
    const file = join(folder, 'log');
    // A file that changes each time it is looked at: the pool is handed one that grew since the walk saw it.
    const pool = openFilePool(0);
    const changing = {
      ...pool,
      pack: async (at: string, list: Parameters<typeof pool.pack>[1]) => {
        appendFileSync(file, 'more');
        const result = await pool.pack(at, list);
        appendFileSync(file, 'and more');
        return result;
      },
    };
    const done = await add(zone, folder, { pool: changing, limits: { large: 1 << 20 } });
    // What was read is what is stored, and the next look sees that the file is another one.
    expect(done.bytes).toBe(104);
    const next = await add(zone, folder, { previous: done.version });
    expect(next).toMatchObject({ changed: true, bytes: 112 });
  });

  it('comes out the same from threads as without them', async () => {
    const folder = join(root, 'data');
    plant(folder, files(1800));
    const plain = await add(zone, folder, { limits: { part: 500 } });
    rmSync(`${folder}.stat`);
    const pool = openFilePool(2);
    try {
      const other = await openLocalZone(join(root, 'other'));
      const threaded = await add(other, folder, { pool, limits: { part: 500 } });
      expect(threaded.version).toBe(plain.version);
      const copy = join(root, 'copy');
      await checkout(other, copy, plain.version, false, pool);
      expect(seen(copy)).toEqual(files(1800));
      // Nothing is to be read: what threads saw of the files they wrote is what the next look sees.
      expect(await add(other, copy, { limits: { part: 500 } })).toMatchObject({ read: 0 });
    } finally {
      await pool.close();
    }
  });

  it('fails, and does not wait for ever, when a thread ends', async () => {
    writeFileSync(join(root, 'object'), 'bytes');
    const pool = openFilePool(1);
    const file = { path: 'a', sha256: '', size: 2 ** 53, at: 0, exec: false };
    const files = Array.from({ length: 1500 }, () => file);
    const job = { blob: join(root, 'object'), root, files, owner: 'me', fresh: true };
    try {
      await expect(pool.extract(job)).rejects.toThrow();
      await expect(pool.extract(job)).rejects.toThrow();
    } finally {
      await pool.close();
    }
  });
});

describe('checkout', () => {
  it('refuses to lose changes that no version holds, and then changes nothing', async () => {
    const folder = join(root, 'data');
    plant(folder, files(5));
    const first = await add(zone, folder);
    rmSync(join(folder, 'd1'), { recursive: true });
    writeFileSync(join(folder, 'd2/0002.txt'), 'second version');
    const second = await add(zone, folder, { previous: first.version });
    writeFileSync(join(folder, 'd3/0003.txt'), 'not added');
    mkdirSync(join(folder, 'd1'));
    writeFileSync(join(folder, 'd1/0001.txt'), 'not added either');
    const before = seen(folder);
    await expect(checkout(zone, folder, first.version)).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringMatching(/d1\/0001\.txt, d3\/0003\.txt/),
    });
    expect(seen(folder)).toEqual(before);
    await checkout(zone, folder, first.version, true);
    expect(seen(folder)).toEqual(files(5));
    expect((await add(zone, folder, { previous: second.version })).changed).toBe(true);
  });

  it('does not write through a link that somebody put in place of a folder', async () => {
    const folder = join(root, 'data');
    plant(folder, files(3));
    const { version } = await add(zone, folder);
    mkdirSync(join(root, 'elsewhere'));
    renameSync(join(folder, 'd1'), join(root, 'moved'));
    symlinkSync('../elsewhere', join(folder, 'd1'));
    await expect(checkout(zone, folder, version)).rejects.toMatchObject({ code: 'data-invalid' });
    expect(readdirSync(join(root, 'elsewhere'))).toEqual([]);
  });

  it('puts nothing in place of a file whose stored bytes are damaged', async () => {
    const folder = join(root, 'data');
    plant(folder, { a: { bytes: 'small', exec: false }, b: { bytes: 'large'.repeat(30), exec: false } });
    const { version } = await add(zone, folder);
    for (const sha256 of (await localVersion(zone, version))!.blobs.keys()) {
      const path = zone.blobPath(`sha256:${sha256}`);
      const bytes = readFileSync(path);
      const size = bytes.length;
      bytes.write('DAMAGE', size > 512 ? 512 : 0);
      rmSync(path);
      writeFileSync(path, bytes);
    }
    await expect(checkout(zone, join(root, 'out'), version)).rejects.toMatchObject({
      code: 'artifact-corrupt',
    });
    expect(readdirSync(root).filter((name) => name.startsWith('out') && !name.endsWith('.stat'))).toEqual([]);
    expect(readdirSync(root).filter((name) => name.startsWith('.cdl-tmp-'))).toEqual([]);
  });
});

describe('a difference', () => {
  it('is the one between the two trees', async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(trees, trees, async (one, two) => {
        const base = join(root, `diff-${run++}`);
        plant(`${base}-a`, one);
        plant(`${base}-b`, two);
        const [was, is] = [seen(`${base}-a`), seen(`${base}-b`)];
        const a = await add(zone, `${base}-a`);
        const b = await add(zone, `${base}-b`);
        const reader = openDataReader([async () => zone]);
        const found = await diffListings(
          await openListing(reader, a.version),
          await openListing(reader, b.version),
        );
        const added = [...found.added, ...found.renamed.map(({ to }) => to)].sort();
        const removed = [...found.removed, ...found.renamed.map(({ from }) => from)].sort();
        expect(added).toEqual(
          Object.keys(is)
            .filter((path) => !(path in was))
            .sort(),
        );
        expect(removed).toEqual(
          Object.keys(was)
            .filter((path) => !(path in is))
            .sort(),
        );
        const differs = (path: string) =>
          path in was && JSON.stringify(was[path]) !== JSON.stringify(is[path]);
        expect([...found.changed].sort()).toEqual(Object.keys(is).filter(differs).sort());
        for (const { from, to } of found.renamed)
          expect((is[to] as { bytes: string }).bytes).toBe((was[from] as { bytes: string }).bytes);
      }),
      { numRuns: 40 },
    );
  });
});
