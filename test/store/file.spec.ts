import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Digest, digestBytes } from '../../src/core/digest.ts';
import { ownerName } from '../../src/exec/owner.ts';
import { createZone, openStore } from '../../src/store/index.ts';
import type { ObjectStore, Zone } from '../../src/store/types.ts';
import { storeContract } from '../contract/store.ts';

let folder: string;

storeContract(
  'the file store',
  async () => {
    folder = await mkdtemp(join(tmpdir(), 'cdl-file-store-'));
    const url = pathToFileURL(folder).href;
    return { open: () => openStore(url, null), url, env: {} };
  },
  () => rm(folder, { recursive: true, force: true }),
);

describe('the file store', () => {
  let root: string;
  let store: ObjectStore;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'cdl-file-store-'));
    store = await openStore(`file:${root}`, null);
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  it('holds a key that is the folder of another', async () => {
    for (const key of ['a', 'a/b', 'a.d', 'a.d/b', 'a%2Ed']) await store.put(key, key);
    const listed: string[] = [];
    for await (const { key } of store.list('')) listed.push(key);
    expect(listed).toEqual(['a', 'a%2Ed', 'a.d', 'a.d/b', 'a/b']);
    for (const key of listed) expect(await text((await store.get(key))!)).toBe(key);
  });

  it('lists what is there now, also where it remembers what was there', async () => {
    const etags = async () => {
      const found: string[] = [];
      for await (const { key, etag } of store.list('r/')) found.push(`${key} ${etag}`);
      return found;
    };
    // Long after the files were written.
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
    try {
      await store.put('r/one', 'first');
      await store.put('r/two', 'first');
      const before = await etags();
      expect(await etags()).toEqual(before);
      await store.put('r/one', 'other', { ifMatch: (await store.stat('r/one'))!.etag });
      await store.delete('r/two');
      const after = await etags();
      expect(after).toEqual([`r/one ${(await store.stat('r/one'))!.etag}`]);
      expect(after[0]).not.toBe(before[0]);
    } finally {
      vi.useRealTimers();
    }
  });

  it('makes an old object young when it is touched', async () => {
    await store.put('a', 'one');
    const past = new Date('2020-01-01T00:00:00Z');
    await utimes(join(root, 'keys', 'a'), past, past);
    expect((await store.stat('a'))?.modified).toBe(past.getTime());
    await store.touch('a');
    expect((await store.stat('a'))!.modified).toBeGreaterThan(past.getTime());
  });

  it('sweeps up what killed writers left, and leaves alone what living ones write', async () => {
    const dead = ownerName().replace(/-\d+-\d+-/, '-1-1-');
    const alive = ownerName();
    await writeFile(join(root, 'tmp', dead), 'half');
    await writeFile(join(root, 'tmp', alive), 'half');
    await openStore(`file:${root}`, null);
    expect(await readdir(join(root, 'tmp'))).toEqual([alive]);
  });

  it('takes over the lock of a killed process, and waits for that of a living one', async () => {
    await store.put('a', 'one');
    const lock = join(root, 'locks', createHash('sha256').update('a').digest('hex'));
    await mkdir(lock);
    await writeFile(join(lock, ownerName().replace(/-\d+-\d+-/, '-1-1-')), '');
    expect(await store.put('a', 'two')).toBe('stored');

    await mkdir(lock, { recursive: true });
    const holder = join(lock, ownerName());
    await writeFile(holder, '');
    let released = false;
    const waiting = store.put('a', 'three').then(() => released);
    await store.put('b', 'not concerned');
    released = true;
    await unlink(holder);
    expect(await waiting).toBe(true);
    expect(await readdir(join(root, 'locks'))).toEqual([]);
  });

  it('says which folder cannot be written, and what to do', async () => {
    await rm(join(root, 'keys'), { recursive: true });
    await writeFile(join(root, 'keys'), 'a file where the folder should be');
    await expect(store.put('a', 'one')).rejects.toMatchObject({
      name: 'UpstreamError',
      retryable: true,
      message: expect.stringContaining(root),
    });
  });
});

describe('a zone', () => {
  let root: string;
  let store: ObjectStore;
  let zone: Zone;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'cdl-zone-'));
    store = await openStore(`file:${root}/store`, null);
    zone = createZone('work', store);
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  const corrupt = async (digest: Digest, bytes: string) => {
    const hex = digest.slice(7);
    const folder = join(root, 'store/keys/work.d/objects.d/sha256.d', `${hex.slice(0, 2)}.d`);
    await writeFile(join(folder, hex), bytes);
  };
  const broken = { name: 'UserError', code: 'artifact-corrupt' };

  it('notices a damaged object on every way of reading it', async () => {
    const { digest } = await zone.putBlob('true bytes');
    await corrupt(digest, 'fake bytes');
    await expect(zone.readBlob(digest)).rejects.toMatchObject(broken);
    await expect(buffer(await zone.openBlob(digest))).rejects.toMatchObject(broken);
    await expect(zone.saveBlob(digest, join(root, 'out', 'a'))).rejects.toMatchObject(broken);
    expect(await readdir(join(root, 'out'))).toEqual([]);
    await expect(
      createZone('work', store, { cache: join(root, 'c') }).readBlob(digest),
    ).rejects.toMatchObject(broken);
    const file = { path: 'a', digest, size: 10 };
    const artifact = { kind: 'dataset' as const, name: 'd', files: [file], parents: [], meta: {} };
    const id = await zone.putArtifact(artifact);
    await expect(zone.saveArtifact(id, join(root, 'all'))).rejects.toMatchObject(broken);
    const trusted = createZone('trusted', store);
    await expect(trusted.copyArtifact(zone, id)).rejects.toMatchObject(broken);
    expect(await trusted.hasBlob(digest)).toBe(false);
    expect(await trusted.hasArtifact(id)).toBe(false);
  });

  it('replaces a truncated object when the same bytes are stored again', async () => {
    const { digest } = await zone.putBlob('true bytes');
    await corrupt(digest, 'true');
    await zone.putBlob('true bytes');
    expect(String(await zone.readBlob(digest))).toBe('true bytes');
  });

  it('heals a damaged copy in its cache, and reads what is cached without the store', async () => {
    const cached = createZone('work', store, { cache: join(root, 'cache') });
    const { digest } = await cached.putBlob('true bytes');
    await cached.readBlob(digest);
    const copy = join(root, 'cache', 'sha256', digest.slice(7, 9), digest.slice(7));
    await writeFile(copy, 'fake bytes');
    expect(String(await cached.readBlob(digest))).toBe('true bytes');
    await rm(join(root, 'store', 'keys'), { recursive: true });
    expect(String(await cached.readBlob(digest))).toBe('true bytes');
  });

  it('keeps as many manifests in memory as it is told, and calls none complete that is gone', async () => {
    const keeping = createZone('work', store, { manifests: 1 });
    const put = (name: string) =>
      keeping.putArtifact({ kind: 'run', name, files: [], parents: [], meta: {} });
    const [first, last] = [await put('first'), await put('last')];
    for (const id of [first, last]) expect(await keeping.hasArtifact(id)).toBe(true);
    await rm(join(root, 'store', 'keys'), { recursive: true });
    expect((await keeping.getArtifact(last)).name).toBe('last');
    await expect(keeping.getArtifact(first)).rejects.toMatchObject({ code: 'artifact-missing' });
    expect(await keeping.hasArtifact(last)).toBe(false);
  });

  it('names what is missing, and does not call an artifact complete without its files', async () => {
    const absent = digestBytes('nowhere');
    await expect(zone.readBlob(absent)).rejects.toMatchObject({ code: 'artifact-missing' });
    await expect(zone.getArtifact(absent)).rejects.toMatchObject({ code: 'artifact-missing' });
    expect(await zone.hasArtifact(absent)).toBe(false);
    const files = [{ path: 'a', digest: absent, size: 7 }];
    const id = await zone.putArtifact({ kind: 'run', name: 'r', files, parents: [], meta: {} });
    expect(await zone.hasArtifact(id)).toBe(false);
    await expect(zone.putFile(join(root, 'absent'))).rejects.toMatchObject({ code: 'file-missing' });
  });

  it('stores a stream that fails half-way not at all', async () => {
    const failing = Readable.from(
      (async function* () {
        yield 'half';
        throw new Error('the source broke');
      })(),
    );
    await expect(zone.putBlob(failing)).rejects.toThrow('the source broke');
    expect(await readdir(join(root, 'store', 'keys'))).toEqual([]);
  });

  it('calls a record that is not JSON corrupt', async () => {
    await store.put('work/records/r.json', '{');
    await expect(zone.readRecord('r')).rejects.toMatchObject(broken);
    expect(await zone.readRecord('absent')).toBeNull();
  });
});

describe('openStore', () => {
  it('refuses a URL it does not know', async () => {
    for (const url of ['gs://bucket', '/a/folder', 'file:']) {
      await expect(openStore(url, null)).rejects.toMatchObject({ code: 'config-invalid' });
    }
  });
});
