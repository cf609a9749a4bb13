import { spawnSync } from 'node:child_process';
import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Artifact } from '../../src/core/artifact.ts';
import { type Digest, digestBytes } from '../../src/core/digest.ts';
import { copyVersions, fetchArtifact } from '../../src/data/folder/transfer.ts';
import { collectGarbage, type GarbageInput } from '../../src/data/gc.ts';
import { readGitRoots } from '../../src/data/git-roots.ts';
import {
  listRepositories,
  noteRepository,
  remoteName,
  repositoryNames,
} from '../../src/data/repositories.ts';
import { artifactKey, createZone, openLocalZone, openStore } from '../../src/store/index.ts';
import type { LocalZone, Zone } from '../../src/store/types.ts';
import { add as addTree } from './folder/folder-place.ts';

const day = 24 * 60 * 60 * 1000;
const grace = 2 * day;

let root: string;
let zone: LocalZone;
let trusted: Zone;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'cdl-gc-'));
  zone = await openLocalZone(join(root, 'store'));
  trusted = createZone('trusted', await openStore(`file:${join(root, 'trusted')}`, null));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const run = (more: Partial<GarbageInput> = {}) =>
  collectGarbage({
    zone,
    others: [trusted],
    roots: [],
    grace,
    now: () => Date.now(),
    remove: true,
    signal: new AbortController().signal,
    ...more,
  });

/** Makes an object of the work zone as old as given, in days. */
function age(key: string, days: number): void {
  const time = new Date(Date.now() - days * day);
  utimesSync(zone.store.pathOf(key), time, time);
}
const ageBlob = (digest: Digest, days: number) => {
  const time = new Date(Date.now() - days * day);
  utimesSync(zone.blobPath(digest), time, time);
};
const ageManifest = (digest: Digest, days: number) => age(artifactKey('work', digest), days);

const artifact = (
  name: string,
  files: Artifact['files'],
  parents: Digest[],
  meta: Artifact['meta'] = {},
): Artifact => ({
  kind: 'folder',
  name,
  files,
  parents,
  meta,
});

interface Graph {
  /** Ages of objects in days. */
  blobs: number[];
  manifests: { files: number[]; parents: number[]; meta: number | null; days: number }[];
  records: { kind: 'version' | 'ref' | 'cache' | 'decision'; names: number; days: number }[];
  /** Manifests that a lock in git names. */
  locks: number[];
}

const days = fc.constantFrom(0, 1, 3, 40);
const graphs: fc.Arbitrary<Graph> = fc.record({
  blobs: fc.array(days, { minLength: 1, maxLength: 8 }),
  manifests: fc.array(
    fc.record({
      files: fc.array(fc.nat(7), { maxLength: 3 }),
      parents: fc.array(fc.nat(7), { maxLength: 2 }),
      meta: fc.option(fc.nat(7)),
      days,
    }),
    { minLength: 1, maxLength: 8 },
  ),
  records: fc.array(
    fc.record({ kind: fc.constantFrom('version', 'ref', 'cache', 'decision'), names: fc.nat(7), days }),
    { maxLength: 3 },
  ),
  locks: fc.array(fc.nat(7), { maxLength: 2 }),
});

describe('cdl gc', () => {
  it('never removes what anything reaches, and leaves nothing old that nothing does', async () => {
    let turn = 0;
    await fc.assert(
      fc.asyncProperty(graphs, async (graph) => {
        zone = await openLocalZone(join(root, `store-${turn}`));
        trusted = createZone('trusted', await openStore(`file:${join(root, `trusted-${turn++}`)}`, null));
        const blobs: { digest: Digest; size: number }[] = [];
        for (const index of graph.blobs.keys()) blobs.push(await zone.putBlob(`blob ${index}`));
        const versions: Digest[] = [];
        for (const [index, { files, parents, meta }] of graph.manifests.entries()) {
          // Only to those before it, so that there is no ring.
          const list = [...new Set(files.map((file) => file % blobs.length))];
          const earlier = (one: number) => versions[one % Math.max(1, index)]!;
          versions.push(
            await zone.putArtifact(
              artifact(
                `m${index}`,
                list.map((file) => ({ path: `f${file}`, ...blobs[file]! })),
                index === 0 ? [] : parents.map(earlier),
                meta === null || index === 0 ? {} : { made: { of: earlier(meta) } },
              ),
            ),
          );
        }
        const at = (one: number) => one % versions.length;
        for (const [index, { kind, names, days }] of graph.records.entries()) {
          const version = versions[at(names)]!;
          const payload = Buffer.from(
            JSON.stringify({ subject: [{ digest: { sha256: version.slice(7) } }] }),
          );
          if (kind === 'decision')
            await trusted.writeRecord(`decisions/p/${index}`, { payload: payload.toString('base64') });
          else
            await zone.writeRecord(
              `${kind === 'cache' ? 'cache/x' : kind === 'ref' ? 'data-refs' : 'versions/p'}/${index}`,
              { version },
            );
          if (kind === 'cache') age(`work/records/cache/x/${index}.json`, days);
        }
        for (const [index, days] of graph.blobs.entries()) ageBlob(blobs[index]!.digest, days);
        for (const [index, { days }] of graph.manifests.entries()) ageManifest(versions[index]!, days);

        // The same in terms of the graph alone.
        const isYoung = (age: number) => age * day < grace;
        const reached = new Set<number>(graph.locks.map(at));
        for (const record of graph.records) {
          if (record.kind !== 'cache' || isYoung(record.days)) reached.add(at(record.names));
        }
        for (const [index, one] of graph.manifests.entries()) if (isYoung(one.days)) reached.add(index);
        for (let index = versions.length - 1; index > 0; index--) {
          if (!reached.has(index)) continue;
          const { parents, meta } = graph.manifests[index]!;
          for (const one of meta === null ? parents : [...parents, meta]) reached.add(one % index);
        }
        const used = new Set(
          [...reached].flatMap((index) => graph.manifests[index]!.files.map((file) => file % blobs.length)),
        );

        const roots = graph.locks.map((one) => versions[at(one)]!.slice(7));
        const told = await run({ roots, remove: false });
        const done = await run({ roots });
        expect(told).toEqual(done);
        for (const [index, version] of versions.entries()) {
          const there = (await zone.store.stat(artifactKey('work', version))) !== null;
          expect(there, `manifest ${index}`).toBe(reached.has(index));
          if (there) expect(await zone.hasArtifact(version)).toBe(true);
        }
        for (const [index, blob] of blobs.entries()) {
          const stays = used.has(index) || isYoung(graph.blobs[index]!);
          expect(await zone.hasBlob(blob.digest), `blob ${index}`).toBe(stays);
        }
      }),
      { numRuns: 40 },
    );
  });

  it('leaves a version whole that somebody adds again while it runs', async () => {
    const blob = await zone.putBlob('shared bytes');
    const version = artifact('v', [{ path: 'a', ...blob }], []);
    const digest = await zone.putArtifact(version);
    ageBlob(blob.digest, 40);
    ageManifest(digest, 40);
    // Between marking and removing, as the worst moment is: the manifests were listed, nothing is gone yet.
    let isAdded = false;
    const store = {
      ...zone.store,
      delete: async (key: string, options?: { before: number }) => {
        if (!isAdded && key.includes('/artifacts/')) {
          isAdded = true;
          await zone.putBlob('shared bytes');
          await zone.putArtifact(version);
          await zone.writeRecord('data-refs/v', { v: 1, version: digest });
        }
        return zone.store.delete(key, options);
      },
    };
    const done = await run({ zone: { ...zone, store } });
    expect(isAdded).toBe(true);
    expect(done.manifests).toEqual([]);
    expect(await zone.hasArtifact(digest)).toBe(true);
  });

  it('leaves the objects of a folder whole that somebody adds, or fetches, while it runs', async () => {
    const folder = join(root, 'photos');
    mkdirSync(folder);
    writeFileSync(join(folder, 'small'), 'small');
    writeFileSync(join(folder, 'large'), 'x'.repeat(100));
    const first = await addTree(zone, folder, { statCache: join(root, 'first.stat') });
    const other = await openLocalZone(join(root, 'other'));
    await copyVersions(zone, other, first.version);
    const { files } = await zone.getArtifact(first.version);
    const again: (() => Promise<unknown>)[] = [
      () => addTree(zone, folder, { statCache: join(root, 'second.stat') }),
      () => fetchArtifact(zone, other, first.version),
    ];
    for (const makeAgain of again) {
      // Given up long ago, manifest and all; what it named is still there.
      await zone.store.delete(artifactKey('work', first.version));
      for (const { digest } of files) ageBlob(digest, 40);
      let isAdded = false;
      const store = {
        ...zone.store,
        async *list(prefix: string) {
          for await (const entry of zone.store.list(prefix)) {
            if (!isAdded && prefix.includes('/objects/')) {
              isAdded = true;
              await makeAgain();
            }
            yield entry;
          }
        },
      };
      await run({ zone: { ...zone, store } });
      expect(isAdded).toBe(true);
      expect(await zone.hasArtifact(first.version)).toBe(true);
    }
  });

  it('takes nothing from a version that is copied, where a store cannot delete by age in one', async () => {
    const other = await openLocalZone(join(root, 'other'));
    const blobs = [await other.putBlob('one'), await other.putBlob('two')];
    const digest = await other.putArtifact(
      artifact(
        'v',
        [
          { path: 'a', ...blobs[0]! },
          { path: 'b', ...blobs[1]! },
        ],
        [],
      ),
    );
    for (const name of ['a blob', 'the manifest']) {
      await zone.copyArtifact(other, digest);
      for (const blob of blobs) ageBlob(blob.digest, 40);
      ageManifest(digest, 40);
      let left = name === 'a blob' ? 1 : 3;
      // What was old when it was looked at goes right after it was made young.
      const store = {
        ...zone.store,
        touch: async (key: string) => {
          const done = await zone.store.touch(key);
          if (--left === 0) await zone.store.delete(key);
          return done;
        },
      };
      await createZone('work', store).copyArtifact(other, digest);
      expect(left).toBeLessThanOrEqual(0);
      expect(await zone.hasArtifact(digest)).toBe(true);
    }
  });

  it('removes nothing unless it is told to', async () => {
    const blob = await zone.putBlob('old');
    ageBlob(blob.digest, 40);
    expect(await run({ remove: false })).toMatchObject({
      objects: [{ digest: blob.digest, size: 3 }],
      bytes: 3,
    });
    expect(await zone.hasBlob(blob.digest)).toBe(true);
    await run();
    expect(await zone.hasBlob(blob.digest)).toBe(false);
  });

  it('stops at a manifest that is damaged, for it cannot tell what it holds', async () => {
    const blob = await zone.putBlob('old');
    const digest = await zone.putArtifact(artifact('v', [{ path: 'a', ...blob }], []));
    await zone.writeRecord('data-refs/v', { v: 1, version: digest });
    ageBlob(blob.digest, 40);
    await zone.store.put(artifactKey('work', digest), '{"kind":"folder"}');
    await expect(run()).rejects.toMatchObject({ code: 'artifact-corrupt' });
    expect(await zone.hasBlob(blob.digest)).toBe(true);
  });
});

describe('what git holds on to', () => {
  const git = (cwd: string, ...args: string[]) => {
    const done = spawnSync('git', args, {
      cwd,
      encoding: 'utf8',
      env: {
        ...process.env,
        GIT_AUTHOR_NAME: 'a',
        GIT_AUTHOR_EMAIL: 'a@b',
        GIT_COMMITTER_NAME: 'a',
        GIT_COMMITTER_EMAIL: 'a@b',
      },
    });
    if (done.status !== 0) throw new Error(done.stderr);
    return done.stdout;
  };
  const lines = (what: string) => `${digestBytes(what)} data/${what}\n`;
  const hex = (what: string) => digestBytes(what).slice(7);

  it('is every lock of every branch, tag and stash, now and before, whatever state it is in', async () => {
    const work = join(root, 'work');
    mkdirSync(work);
    git(work, 'init', '-q', '-b', 'main');
    const commit = (name: string, text: string) => {
      mkdirSync(join(work, 'sub'), { recursive: true });
      writeFileSync(join(work, name), text);
      git(work, 'add', '-A');
      git(work, 'commit', '-qm', text.slice(0, 20));
    };
    commit('cdl.data.lock', lines('first'));
    commit('cdl.data.lock', lines('second'));
    git(work, 'checkout', '-qb', 'side');
    commit('cdl.lock', `models:\n<<<<<<< ours\n  candidate: ${digestBytes('conflict')}\n`);
    git(work, 'checkout', '-q', 'main');
    git(work, 'checkout', '-q', '--detach');
    commit('sub/cdl.data.lock', lines('tagged'));
    git(work, 'tag', 'v1');
    git(work, 'checkout', '-q', 'main');
    writeFileSync(join(work, 'cdl.data.lock'), lines('stashed'));
    git(work, 'stash', '-q');
    writeFileSync(join(work, 'cdl.data.lock'), lines('uncommitted'));
    writeFileSync(join(work, 'other.txt'), lines('elsewhere'));
    const { digests, doubts } = await readGitRoots(work, true);
    for (const one of ['first', 'second', 'conflict', 'tagged', 'stashed', 'uncommitted']) {
      expect(digests.has(hex(one)), one).toBe(true);
    }
    expect(digests.has(hex('elsewhere'))).toBe(false);
    expect(doubts).toEqual([]);

    git(root, 'clone', '-q', work, 'clone');
    git(work, 'checkout', '-q', '-f', 'side');
    commit('cdl.data.lock', lines('not fetched'));
    expect((await readGitRoots(join(root, 'clone'), true)).doubts.join()).toContain('refs/heads/side');
    git(root, 'clone', '-q', '--depth', '1', `file://${work}`, 'shallow');
    expect((await readGitRoots(join(root, 'shallow'), false)).doubts.join()).toContain('shallow');
  });

  it('is told from other repositories by where they come from, however that is reached', async () => {
    const names: [string, string][] = [
      ['https://ci-token:secret@Git.example.com:8443/team/photos.git', 'git.example.com/team/photos'],
      ['git@git.example.com:team/photos.git', 'git.example.com/team/photos'],
      ['git.example.com:/team/photos/', 'git.example.com/team/photos'],
      ['ssh://git@[::1]:22/team/photos.git', '[::1]/team/photos'],
      ['file:///srv/photos.git', '/srv/photos'],
      ['/srv/photos', '/srv/photos'],
      ['../photos.git/', '/w/photos'],
    ];
    for (const [url, name] of names) expect(remoteName(url, '/w/clone'), url).toBe(name);

    git(root, 'init', '-q', 'fresh');
    const fresh = join(root, 'fresh');
    await noteRepository(zone, fresh);
    git(fresh, 'commit', '-q', '--allow-empty', '-m', 'first');
    for (let twice = 0; twice < 2; twice++) await noteRepository(zone, fresh);
    const noted = await listRepositories(zone);
    expect(noted).toHaveLength(2);
    expect(await repositoryNames(fresh)).toEqual(expect.arrayContaining(noted));
  });
});
