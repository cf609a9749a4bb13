import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DatasetConfig, SourceConfig } from '../../src/core/project.ts';
import { noteMade } from '../../src/data/made.ts';
import { buildRawDataset } from '../../src/data/raw-dataset.ts';
import { createZone, openStore } from '../../src/store/index.ts';
import { plant, seen, type Tree } from '../data/folder/folder-place.ts';
import { runCdl, startCdl } from './run-cdl.ts';

let root: string;
let work: string;
let env: NodeJS.ProcessEnv;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'cdl-data-'));
  work = join(root, 'work');
  env = { PATH: process.env.PATH ?? '', HOME: root, CDL_CACHE: join(root, 'cache') };
  mkdirSync(work);
  for (const args of [
    ['init', '-q'],
    ['config', 'user.name', 'Ann'],
  ])
    spawnSync('git', args, { cwd: work });
});
afterEach(() => rm(root, { recursive: true, force: true }));

const files = (count: number, text = 'file'): Tree =>
  Object.fromEntries(
    Array.from({ length: count }, (_, index) => [
      `d${index % 9}/${index}.txt`,
      { bytes: `${text} ${index}`, exec: false },
    ]),
  );

async function cdl(args: string[], more: { cwd?: string; env?: NodeJS.ProcessEnv } = {}) {
  const done = await runCdl(args, { cwd: more.cwd ?? work, env: { ...env, ...more.env } });
  return { ...done, json: () => JSON.parse(done.stdout) as never };
}

/** Runs a command that has to succeed, and gives what it printed as JSON. */
async function ok<T>(args: string[], more: Parameters<typeof cdl>[1] = {}): Promise<T> {
  const done = await cdl([...args, '--json'], more);
  expect(done.stderr + (done.code === 0 ? '' : done.stdout)).toBe('');
  return done.json();
}

interface Versions {
  versions: { path: string; version: string; changed: boolean; count: number; read: number }[];
}

describe('cdl data', () => {
  it('loads nothing of the steps for what changed, and no schemas for what did not', async () => {
    const loaded = async (): Promise<string[]> => {
      const folder = join(root, 'loaded');
      await ok(['data', 'add', 'photos'], { env: { NODE_V8_COVERAGE: folder } });
      const found = readdirSync(folder).flatMap((file) =>
        (JSON.parse(readFileSync(join(folder, file), 'utf8')).result as { url: string }[]).map(
          ({ url }) => url,
        ),
      );
      rmSync(folder, { recursive: true });
      return found.filter((url) => url.includes('/dist/')).map((url) => url.replace(/^.*\/dist\//, ''));
    };
    plant(join(work, 'photos'), files(20));
    await ok(['data', 'add', 'photos']);
    writeFileSync(join(work, 'photos/d1/1.txt'), 'another');
    const changed = await loaded();
    expect(changed).toEqual(expect.arrayContaining(['quick.js', 'manifests.js']));
    expect(changed).not.toContain('steps.js');
    const unchanged = await loaded();
    expect(unchanged).toContain('quick.js');
    expect(unchanged).not.toContain('manifests.js');
  });

  it('takes a folder from one desk to another, and tells what changed in between', async () => {
    const shared = { CDL_WORK_STORE: `file:${join(root, 'shared')}` };
    plant(join(work, 'photos'), { ...files(20), gone: { bytes: 'old name', exec: false } });
    const [first] = (await ok<Versions>(['data', 'add', 'photos', '-m', 'first'])).versions;
    rmSync(join(work, 'photos', 'gone'));
    writeFileSync(join(work, 'photos', 'come'), 'old name');
    writeFileSync(join(work, 'photos', 'd1', '1.txt'), 'changed');
    const [second] = (await ok<Versions>(['data', 'add', 'photos', '-m', 'second'])).versions;
    expect([first!.changed, second!.changed, second!.read]).toEqual([true, true, 2]);
    expect(readFileSync(join(work, 'cdl.data.lock'), 'utf8')).toContain(`${second!.version} photos\n`);
    expect(readFileSync(join(work, '.gitignore'), 'utf8')).toBe('/.cdl/\n/photos\n');

    const log = await ok<{ versions: { version: string; who: string; message: string; count: number }[] }>([
      'data',
      'log',
    ]);
    expect(log.versions.map(({ version, who, message, count }) => [version, who, message, count])).toEqual([
      [second!.version, 'Ann', 'second', 21],
      [first!.version, 'Ann', 'first', 21],
    ]);
    expect(await ok(['data', 'diff', 'photos'])).toEqual({
      from: first!.version,
      to: second!.version,
      added: [],
      removed: [],
      changed: ['d1/1.txt'],
      renamed: [{ from: 'gone', to: 'come' }],
    });
    const short = first!.version.slice(7, 17);
    expect((await cdl(['data', 'get', short, 'd1/1.txt'])).stdout).toBe('file 1');
    expect((await cdl(['data', 'ls', 'photos', 'd1'])).stdout).toContain('d1/1.txt');

    expect((await cdl(['data', 'push'])).code).toBe(2);
    expect(await ok(['data', 'push'], { env: shared })).toMatchObject({
      pushed: [{ copied: 2, moved: true }],
    });
    expect(await ok(['data', 'push'], { env: shared })).toMatchObject({
      pushed: [{ copied: 0, moved: false }],
    });

    const other = join(root, 'other');
    mkdirSync(other);
    spawnSync('git', ['init', '-q'], { cwd: other });
    writeFileSync(join(other, 'cdl.data.lock'), readFileSync(join(work, 'cdl.data.lock')));
    // One file is had without its shard.
    const got = await cdl(['data', 'get', 'photos', 'd2/2.txt', '-o', 'two'], { cwd: other, env: shared });
    expect([got.code, readFileSync(join(other, 'two'), 'utf8')]).toEqual([0, 'file 2']);
    await cdl(['data', 'pull'], { cwd: other, env: shared });
    expect((await cdl(['data', 'checkout'], { cwd: other })).code).toBe(0);
    expect(seen(join(other, 'photos'))).toEqual(seen(join(work, 'photos')));
    expect((await cdl(['data', 'checkout', 'photos~1'], { cwd: other, env: shared })).code).toBe(0);
    expect(readFileSync(join(other, 'photos', 'gone'), 'utf8')).toBe('old name');
    expect(readFileSync(join(other, 'cdl.data.lock'), 'utf8')).toContain(first!.version);
  });

  it('lets a ref go forward only, whoever pushes', async () => {
    const shared = { CDL_WORK_STORE: `file:${join(root, 'shared')}` };
    plant(join(work, 'data'), files(3));
    await ok(['data', 'add', 'data']);
    await ok(['data', 'push'], { env: shared });
    const other = join(root, 'other');
    mkdirSync(other);
    spawnSync('git', ['init', '-q'], { cwd: other });
    writeFileSync(join(other, 'cdl.data.lock'), readFileSync(join(work, 'cdl.data.lock')));
    expect((await cdl(['data', 'checkout'], { cwd: other, env: shared })).code).toBe(0);
    appendFileSync(join(work, 'data', 'd1', '1.txt'), 'ours');
    appendFileSync(join(other, 'data', 'd1', '1.txt'), 'theirs');
    await ok(['data', 'add', 'data']);
    await ok(['data', 'add', 'data'], { cwd: other });
    await ok(['data', 'push'], { env: shared });
    const refused = await cdl(['data', 'push'], { cwd: other, env: shared });
    expect([refused.code, refused.stderr]).toEqual([5, expect.stringContaining('the ref data')]);
    expect(refused.stderr).toContain('cdl data diff');
    const apart = await cdl(['data', 'push', 'data', '--ref', 'data-theirs'], { cwd: other, env: shared });
    expect(apart.code).toBe(0);
    expect((await cdl(['data', 'push', '--force'], { cwd: other, env: shared })).code).toBe(0);
  });

  it('is checked out where the lock says, whatever it was called, and never into .git or out of the project', async () => {
    plant(join(work, 'photos'), files(2));
    const [{ version }] = (await ok<Versions>(['data', 'add', 'photos'])).versions as [
      Versions['versions'][number],
    ];
    writeFileSync(join(work, 'cdl.data.lock'), `${version} pictures/new\n`);
    expect((await cdl(['data', 'checkout'])).code).toBe(0);
    expect(seen(join(work, 'pictures/new'))).toEqual(seen(join(work, 'photos')));
    expect(readFileSync(join(work, 'cdl.data.lock'), 'utf8')).not.toContain('photos');
    expect((await cdl(['data', 'checkout', version.slice(7, 20)])).code).toBe(0);
    expect(readFileSync(join(work, 'cdl.data.lock'), 'utf8')).toContain(`${version} photos\n`);
    symlinkSync(root, join(work, 'link'));
    expect((await cdl(['data', 'add', 'link/work/photos'])).stderr).toContain('link is a link');
    for (const path of ['.git/hooks', 'sub/.GIT', 'link/outside']) {
      writeFileSync(join(work, 'cdl.data.lock'), `${version} ${path}\n`);
      const refused = await cdl(['data', 'checkout']);
      expect([refused.code, refused.stdout]).toEqual([2, '']);
      expect(existsSync(join(work, path, 'd0'))).toBe(false);
    }
  });

  it('makes one history of adds at the same time', async () => {
    plant(join(work, 'one'), files(40));
    plant(join(work, 'two'), files(40, 'other'));
    const done = await Promise.all(
      ['one', 'two', 'one', 'two'].map((path) => cdl(['data', 'add', path, '--json'])),
    );
    expect(done.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
    const lock = readFileSync(join(work, 'cdl.data.lock'), 'utf8');
    expect(lock.match(/^sha256:[0-9a-f]{64} (one|two)$/gm)).toHaveLength(2);
    for (const path of ['one', 'two']) {
      expect(await ok<Versions>(['data', 'add', path])).toMatchObject({
        versions: [{ changed: false, read: 0 }],
      });
    }
  });

  it('is as before when it is killed anywhere, and the next run does it all', async () => {
    plant(join(work, 'data'), files(3000));
    await ok(['data', 'add', 'data']);
    const [before] = (await ok<Versions>(['data', 'add', 'data'])).versions;
    for (let index = 0; index < 3000; index += 2)
      appendFileSync(join(work, 'data', `d${index % 9}`, `${index}.txt`), '!');
    const now = seen(join(work, 'data'));
    // Killed as soon as it has begun to write, each time.
    const store = join(work, '.cdl', 'store', 'work');
    for (let turn = 0; turn < 3; turn++) {
      const { child, ended } = startCdl(['data', 'add', 'data'], { cwd: work, env });
      while (child.exitCode === null && readdirSync(join(store, 'tmp')).length === 0)
        await new Promise(setImmediate);
      child.kill('SIGKILL');
      await ended;
      const lock = readFileSync(join(work, 'cdl.data.lock'), 'utf8');
      if (!lock.includes(before!.version)) break;
    }
    const [after] = (await ok<Versions>(['data', 'add', 'data'])).versions;
    expect(after!.version).not.toBe(before!.version);
    expect(readdirSync(join(store, 'tmp'))).toEqual([]);

    rmSync(join(work, 'data'), { recursive: true });
    const { child, ended } = startCdl(['data', 'checkout'], { cwd: work, env });
    while (child.exitCode === null && !readdirSync(work).some((name) => name.startsWith('.cdl-tmp-'))) {
      await new Promise(setImmediate);
    }
    child.kill('SIGKILL');
    await ended;
    expect((await cdl(['data', 'checkout'])).code).toBe(0);
    expect(seen(join(work, 'data'))).toEqual(now);
    expect(readdirSync(work).filter((name) => name.startsWith('.cdl-tmp-'))).toEqual([]);
  });

  it('shows the data sets that steps made, item by item, and nothing of the withheld side', async () => {
    const zone = createZone('work', await openStore(`file:${join(work, '.cdl', 'store', 'work')}`, null));
    const trusted = createZone(
      'trusted',
      await openStore(`file:${join(work, '.cdl', 'store', 'trusted')}`, null),
    );
    const path = join(root, 'lines.jsonl');
    const texts = ['a cat', 'a dog', 'two dogs', 'a bird', 'three cats', 'one horse', 'no horse', 'a fish'];
    writeFileSync(
      path,
      texts.map((t, index) => `${JSON.stringify({ t, y: index % 2 ? 'odd' : 'even' })}\n`).join(''),
    );
    const sha256 = 'a'.repeat(64);
    const source: SourceConfig = {
      file: ['lines.jsonl'],
      sha256,
      read: { format: 'jsonl', text: 't', label: 'y', attributes: [] },
    };
    const config: DatasetConfig = {
      item: 'text',
      shape: [],
      classes: ['even', 'odd'],
      sources: [source],
      split: { key: 'k', test: 0.3, validation: 0.1 },
      rules: { min_items: 1, min_per_class: 1, max_invalid: 0.5 },
    };
    const fetched = { source, files: [{ name: 'lines.jsonl', path, sha256 }] };
    const train = await buildRawDataset('texts', config, fetched, 'train', zone);
    const test = await buildRawDataset('texts', config, fetched, 'test', trusted);
    writeFileSync(join(work, '.cdl', 'texts.ingest.outputs.json'), JSON.stringify({ dataset: train.digest }));
    const listed = await ok<{ version: string; entries: { path: string; label?: string; size: number }[] }>([
      'data',
      'ls',
      'texts',
    ]);
    expect(listed.version).toBe(train.digest);
    const items = listed.entries.filter(({ label }) => label);
    expect(items).toHaveLength(train.meta.count);
    expect((await cdl(['data', 'get', 'texts', items[0]!.path])).stdout).toHaveLength(items[0]!.size);
    expect(await ok(['data', 'log', 'texts'])).toMatchObject({
      versions: [{ name: 'texts-train', count: train.meta.count }],
    });
    // The next version that ingest makes comes after it.
    await noteMade(zone, 'letters', 'texts-train', train.digest);
    writeFileSync(
      path,
      `${readFileSync(path, 'utf8')}${JSON.stringify({ t: 'a newt', y: 'odd' })}\n${JSON.stringify({ t: 'six owls', y: 'even' })}\n`,
    );
    const next = await buildRawDataset('texts', config, fetched, 'train', zone);
    expect(next.meta.count).toBeGreaterThan(train.meta.count);
    await noteMade(zone, 'letters', 'texts-train', next.digest);
    // Made once more, it keeps its place.
    await noteMade(zone, 'letters', 'texts-train', train.digest);
    const history = await ok<{ versions: { version: string }[] }>(['data', 'log', next.digest]);
    expect(history.versions.map(({ version }) => version)).toEqual([next.digest, train.digest]);
    expect(await ok(['data', 'diff', next.digest])).toMatchObject({
      from: train.digest,
      to: next.digest,
      added: expect.arrayContaining([expect.stringMatching(/\.txt$/)]),
      removed: [],
    });
    expect((await cdl(['data', 'ls', 'texts~1'])).stderr).toContain('no version before');
    expect((await cdl(['data', 'checkout', 'texts', '--to', 'out'])).code).toBe(0);
    expect(readdirSync(join(work, 'out')).sort()).toEqual(listed.entries.map(({ path }) => path).sort());
    expect((await cdl(['data', 'checkout', 'texts'])).stderr).toContain('--to');
    for (const action of [['ls'], ['log'], ['diff', train.digest], ['get']]) {
      const [name, ...more] = action;
      const last = name === 'get' ? ['classes.json'] : [];
      const refused = await cdl(['data', name!, ...more, test.digest, ...last]);
      expect([refused.code, refused.stdout]).toEqual([3, '']);
    }
  });

  it('says what it did not understand', async () => {
    plant(join(work, 'data'), files(2));
    plant(join(work, 'more'), { 'in/a.txt': { bytes: 'a', exec: false } });
    await ok(['data', 'add', 'data', 'more/in']);
    for (const [args, said] of [
      [['data', 'ad'], 'did you mean add'],
      [['data', 'add'], 'takes the folders'],
      [['data', 'add', '..'], 'below'],
      [['data', 'add', '.cdl'], 'below'],
      [['data', 'add', 'absent'], 'does not exist'],
      [['data', 'add', 'two\nlines'], 'a control character'],
      [['data', 'add', 'data/d0'], 'data/d0 is part of data:'],
      [['data', 'add', 'more'], 'more/in is part of more:'],
      [['data', 'add', 'other', 'other/inner'], 'other/inner is part of other:'],
      [['data', 'ls', 'absent'], 'is no version'],
      [['data', 'diff', 'data'], 'no version before'],
      [['data', 'get', 'data', 'absent'], 'has no file absent'],
      [['data', 'checkout', '--ref', 'absent'], 'no ref absent'],
    ] as const) {
      const done = await cdl([...args]);
      expect(done.code, args.join(' ')).toBeGreaterThan(1);
      expect(done.code, args.join(' ')).toBeLessThan(70);
      expect(done.stderr).toContain(said);
    }
    writeFileSync(join(work, 'cdl.data.lock'), '<<<<<<< ours\n');
    expect((await cdl(['data', 'checkout'])).stderr).toContain('conflict markers');
  });
});

describe('cdl gc', () => {
  it('removes what was added and given up, keeps what a commit has, and asks before', async () => {
    plant(join(work, 'data'), files(4));
    const [kept] = (await ok<Versions>(['data', 'add', 'data'])).versions;
    spawnSync('git', ['add', '-A'], { cwd: work });
    spawnSync('git', ['-c', 'user.email=a@b', 'commit', '-qm', 'data'], { cwd: work });
    plant(join(work, 'scratch'), files(3, 'scratch'));
    const [lost] = (await ok<Versions>(['data', 'add', 'scratch'])).versions;
    spawnSync('git', ['checkout', '-q', 'cdl.data.lock'], { cwd: work });
    const store = join(work, '.cdl', 'store', 'work', 'keys');
    rmSync(join(store, 'work.d', 'records.d', 'data-refs.d', 'scratch.json'));
    rmSync(join(work, 'scratch'), { recursive: true });
    for (const name of readdirSync(join(work, '.cdl', 'data')))
      rmSync(join(work, '.cdl', 'data', name), { recursive: true });
    const past = new Date(Date.now() - 30 * 86_400_000);
    for (const path of readdirSync(store, { recursive: true, encoding: 'utf8' }))
      utimesSync(join(store, path), past, past);

    const told = await ok<{ manifests: string[]; objects: unknown[] }>(['gc']);
    expect(told.manifests).toEqual([lost!.version]);
    expect(told.objects.length).toBeGreaterThan(0);
    expect(
      existsSync(
        join(
          store,
          'work.d',
          'artifacts.d',
          `${lost!.version.slice(7, 9)}.d`,
          `${lost!.version.slice(7)}.json`,
        ),
      ),
    ).toBe(true);
    expect(await ok(['gc', '--delete'])).toMatchObject({ removed: true, manifests: [lost!.version] });
    expect((await cdl(['data', 'ls', lost!.version])).code).toBe(3);
    rmSync(join(work, 'data'), { recursive: true });
    expect((await cdl(['data', 'checkout', kept!.version])).code).toBe(0);
    expect(seen(join(work, 'data'))).toEqual(files(4));
    expect((await cdl(['gc', '--grace', '1'])).code).toBe(2);
  });

  it('does not remove what another repository in the same store may hold on to, until its clone is given', async () => {
    const shared = { CDL_WORK_STORE: `file:${join(root, 'shared')}` };
    const other = join(root, 'other');
    const there = { cwd: other, env: shared };
    const git = (cwd: string, ...args: string[]) => expect(spawnSync('git', args, { cwd }).status).toBe(0);
    git(root, 'init', '-q', other);
    for (const clone of [work, other]) git(clone, 'config', 'user.email', 'ann@example.com');
    git(other, 'config', 'user.name', 'Bob');
    git(other, 'remote', 'add', 'origin', 'http://127.0.0.1:1/team/other.git');
    // A version that only a lock of the other repository names: its ref has gone another way since.
    plant(join(other, 'theirs'), files(3, 'theirs'));
    const [before] = (await ok<Versions>(['data', 'add', 'theirs'], there)).versions;
    await ok(['data', 'push'], there);
    git(other, 'add', '-A');
    git(other, 'commit', '-qm', 'theirs');
    plant(join(other, 'theirs'), files(3, 'anew'));
    rmSync(join(other, 'cdl.data.lock'));
    rmSync(join(other, '.cdl'), { recursive: true });
    await ok(['data', 'add', 'theirs'], there);
    await ok(['data', 'push', '--force'], there);
    const past = new Date(Date.now() - 30 * 86_400_000);
    for (const path of readdirSync(join(root, 'shared'), { recursive: true, encoding: 'utf8' }))
      utimesSync(join(root, 'shared', path), past, past);

    const gc = (...args: string[]) => cdl(['gc', '--json', ...args], { env: shared });
    const gone = '127.0.0.1/team/other';
    const manifests = async (...args: string[]) =>
      ((await gc(...args)).json() as { manifests: string[] }).manifests;
    const refused = await gc('--delete');
    expect(refused.code).toBe(3);
    expect(refused.stdout).toContain('127.0.0.1/team/other keeps data here too');
    const also = await gc('--also', '../other');
    expect(also.json()).toMatchObject({
      manifests: [],
      doubts: [expect.stringContaining('origin does not answer')],
    });
    // Come from elsewhere since, under another name.
    git(other, 'remote', 'set-url', 'origin', other);
    expect(await manifests('--gone', gone, '--also', '../other', '--delete')).toEqual([]);
    expect(await manifests('--gone', gone, '--delete')).toEqual([before!.version]);
  });

  it('knows the repositories that push what is there already, or only take it', async () => {
    const shared = { CDL_WORK_STORE: `file:${join(root, 'shared')}` };
    plant(join(work, 'data'), files(3));
    await ok(['data', 'add', 'data'], { env: shared });
    await ok(['data', 'push'], { env: shared });
    for (const action of ['pull', 'checkout', 'push']) {
      const clone = join(root, action);
      mkdirSync(clone);
      spawnSync('git', ['init', '-q'], { cwd: clone });
      spawnSync('git', ['remote', 'add', 'origin', `git@forge:team/${action}.git`], { cwd: clone });
      copyFileSync(join(work, 'cdl.data.lock'), join(clone, 'cdl.data.lock'));
      if (action === 'push') cpSync(join(work, '.cdl/store'), join(clone, '.cdl/store'), { recursive: true });
      expect((await cdl(['data', action], { cwd: clone, env: shared })).code).toBe(0);
    }
    const { doubts } = await ok<{ doubts: string[] }>(['gc'], { env: shared });
    for (const action of ['pull', 'checkout', 'push'])
      expect(doubts.join('\n')).toContain(`forge/team/${action} keeps data here too`);
  });
});
