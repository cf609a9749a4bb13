import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { createZone } from '../../src/store/index.ts';
import type { ObjectStore } from '../../src/store/types.ts';
import { bundleForNode } from './bundle.ts';

/** How the suite reaches a driver. Every call of `open` opens the same store anew. */
export interface StoreUnderTest {
  open(): Promise<ObjectStore>;
  /** With what another process opens the same store: its URL, and the credentials as store-process.ts reads them. */
  url: string;
  env: Record<string, string>;
}

/** What every driver of the store port must do. `prepare` makes an empty store, `dispose` removes it. */
export function storeContract(
  name: string,
  prepare: () => Promise<StoreUnderTest>,
  dispose: () => Promise<void>,
): void {
  describe(`${name} keeps the store contract`, () => {
    let under: StoreUnderTest;
    let store: ObjectStore;
    let folder: string;
    let counter = 0;
    let base: string;
    let program: Awaited<ReturnType<typeof bundleForNode>>;

    beforeAll(async () => {
      program = await bundleForNode(new URL('./store-process.ts', import.meta.url));
      under = await prepare();
      store = await under.open();
    });
    afterAll(async () => {
      await dispose();
      await program.remove();
    });
    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), 'cdl-store-spec-'));
      base = `case-${counter++}`;
    });
    afterEach(() => rm(folder, { recursive: true, force: true }));

    const read = async (key: string) => {
      const body = await store.get(key);
      return body && (await text(body));
    };
    const keys = async (prefix: string) => {
      const found: string[] = [];
      for await (const entry of store.list(prefix)) found.push(entry.key);
      const alone: string[] = [];
      for await (const key of store.listKeys(prefix)) alone.push(key);
      expect(alone).toEqual(found);
      return found;
    };
    const start = (action: string, key: string, count = '1') =>
      spawn(process.execPath, [program.path, action, under.url, key, count], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { PATH: process.env.PATH ?? '', ...under.env },
      });
    const processes = (count: number, ...args: Parameters<typeof start>) =>
      Promise.all(
        Array.from({ length: count }, async () => {
          const child = start(...args);
          const [output] = await Promise.all([text(child.stdout), once(child, 'exit')]);
          expect(child.exitCode).toBe(0);
          return output.trim().split('\n');
        }),
      );

    it('gives back what was put, and null for what was not', async () => {
      expect(await store.put(`${base}/a`, 'one')).toBe('stored');
      expect(await read(`${base}/a`)).toBe('one');
      expect(await store.get(`${base}/absent`)).toBeNull();
      expect(await store.stat(`${base}/absent`)).toBeNull();
      expect(await store.open(`${base}/absent`)).toBeNull();
    });

    it('replaces an object whole, and changes its etag with its content', async () => {
      await store.put(`${base}/a`, 'one');
      const first = await store.stat(`${base}/a`);
      await store.put(`${base}/a`, 'two');
      const second = await store.stat(`${base}/a`);
      expect(first?.size).toBe(3);
      expect(second?.etag).not.toBe(first?.etag);
      expect(await read(`${base}/a`)).toBe('two');
    });

    it('holds an empty object', async () => {
      await store.put(`${base}/empty`, '');
      expect(await read(`${base}/empty`)).toBe('');
      expect((await store.stat(`${base}/empty`))?.size).toBe(0);
    });

    it('tells of the very bytes it opens', async () => {
      await store.put(`${base}/a`, new Uint8Array([1, 2, 3]));
      const opened = await store.open(`${base}/a`);
      expect(opened?.entry).toEqual(await store.stat(`${base}/a`));
      expect(await buffer(opened!.body)).toEqual(Buffer.from([1, 2, 3]));
    });

    it('gives any part of an object, cut at its end, with the entry of the whole', async () => {
      // Small objects and large ones go different ways in drivers.
      for (const size of [0, 1000, 200_000]) {
        const whole = Buffer.alloc(size, 'abcdefghijklmnopqrstuvwxyz0123456789!');
        const key = `${base}/part-${size}`;
        await store.put(key, whole);
        const entry = await store.stat(key);
        for (const [offset, length] of [
          [0, 1],
          [0, size],
          [17, 500],
          [size - 3, 3],
          [size - 3, 9],
          [size, 5],
          [size + 9, 5],
          [5, 0],
        ] as const) {
          if (offset < 0) continue;
          const opened = await store.open(key, { offset, length });
          expect(opened?.entry).toEqual(entry);
          expect(String(await buffer(opened!.body))).toBe(String(whole.subarray(offset, offset + length)));
        }
        const part = await store.get(key, { offset: 2, length: 4 });
        expect(await text(part!)).toBe(String(whole.subarray(2, 6)));
      }
      expect(await store.open(`${base}/absent`, { offset: 0, length: 5 })).toBeNull();
      expect(await store.open(`${base}/absent`, { offset: 0, length: 0 })).toBeNull();
      for (const range of [
        { offset: -1, length: 1 },
        { offset: 0, length: 0.5 },
      ]) {
        await expect(store.open(`${base}/part-0`, range)).rejects.toMatchObject({ code: 'usage' });
      }
    });

    it('knows when an object was put, and makes it young again when asked', async () => {
      // S3 tells whole seconds, and the store has a clock of its own.
      const slack = 2000;
      const before = Date.now();
      await store.put(`${base}/a b+c`, 'one');
      const put = (await store.stat(`${base}/a b+c`))!;
      expect(put.modified).toBeGreaterThan(before - slack);
      expect(put.modified).toBeLessThan(Date.now() + slack);
      for await (const entry of store.list(`${base}/a`)) {
        expect(Math.abs(entry.modified - put.modified)).toBeLessThan(slack);
      }
      expect(await store.touch(`${base}/a b+c`)).toBe(true);
      const touched = (await store.stat(`${base}/a b+c`))!;
      expect(touched.modified).toBeGreaterThanOrEqual(put.modified);
      expect(touched.etag).toBe(put.etag);
      expect(await read(`${base}/a b+c`)).toBe('one');
      expect(await store.touch(`${base}/absent`)).toBe(false);
      expect(await store.stat(`${base}/absent`)).toBeNull();
    });

    it('links to an object for a while, or says that it cannot', async () => {
      await store.put(`${base}/a picture+1.png`, 'bytes');
      const link = await store.link(`${base}/a picture+1.png`, { seconds: 60, type: 'image/png' });
      if (link === null) {
        expect(store.url).toMatch(/^file:/);
        return;
      }
      const answer = await fetch(link);
      expect([answer.status, answer.headers.get('content-type'), await answer.text()]).toEqual([
        200,
        'image/png',
        'bytes',
      ]);
      const forged = link.replace(encodeURIComponent('image/png'), 'text%2Fhtml');
      expect(forged).not.toBe(link);
      expect((await fetch(forged)).status).toBe(403);
    });

    it('deletes, also what is not there', async () => {
      await store.put(`${base}/a`, 'one');
      await store.delete(`${base}/a`);
      await store.delete(`${base}/a`);
      expect(await store.get(`${base}/a`)).toBeNull();
    });

    it('deletes only what is as old as was said', async () => {
      await store.put(`${base}/a`, 'one');
      const { modified } = (await store.stat(`${base}/a`))!;
      expect(await store.delete(`${base}/a`, { before: modified })).toBe(false);
      expect(await read(`${base}/a`)).toBe('one');
      expect(await store.delete(`${base}/a`, { before: modified + 1000 })).toBe(true);
      expect(await store.get(`${base}/a`)).toBeNull();
      expect(await store.delete(`${base}/a`, { before: modified + 1000 })).toBe(true);
    });

    it('streams bodies larger than one request', async () => {
      const chunk = Buffer.alloc(1 << 20, 'cdl');
      const chunks = 36;
      const body = Readable.from(
        (function* () {
          for (let index = 0; index < chunks; index++) yield chunk;
        })(),
      );
      expect(await store.put(`${base}/large`, body)).toBe('stored');
      expect((await store.stat(`${base}/large`))?.size).toBe(chunks << 20);
      const whole = Buffer.concat(Array.from({ length: chunks }, () => chunk));
      expect(digestBytes(await buffer((await store.get(`${base}/large`))!))).toBe(digestBytes(whole));
      expect(await store.put(`${base}/large`, Readable.from([chunk]), { ifAbsent: true })).toBe('exists');
      const etag = (await store.stat(`${base}/large`))!.etag;
      expect(await store.put(`${base}/large`, Readable.from([whole, chunk]), { ifMatch: etag })).toBe(
        'stored',
      );
      expect(await store.put(`${base}/large`, Readable.from([whole, chunk]), { ifMatch: etag })).toBe(
        'changed',
      );
      expect((await store.stat(`${base}/large`))?.size).toBe((chunks + 1) << 20);
    });

    it('stores nothing when the body fails half-way', async () => {
      const chunk = Buffer.alloc(1 << 20);
      for (const chunks of [1, 20]) {
        const body = Readable.from(
          (async function* () {
            for (let index = 0; index < chunks; index++) yield chunk;
            throw new Error('the source broke');
          })(),
        );
        await expect(store.put(`${base}/half`, body)).rejects.toThrow('the source broke');
        expect(await store.stat(`${base}/half`)).toBeNull();
      }
      expect(await keys(base)).toEqual([]);
    });

    it('stores if absent only once', async () => {
      expect(await store.put(`${base}/a`, 'one', { ifAbsent: true })).toBe('stored');
      expect(await store.put(`${base}/a`, 'two', { ifAbsent: true })).toBe('exists');
      expect(await store.put(`${base}/a`, Readable.from(['three']), { ifAbsent: true })).toBe('exists');
      expect(await read(`${base}/a`)).toBe('one');
    });

    it('swaps only what it was compared with', async () => {
      await store.put(`${base}/a`, 'one');
      const etag = (await store.stat(`${base}/a`))!.etag;
      expect(await store.put(`${base}/a`, 'two', { ifMatch: etag })).toBe('stored');
      expect(await store.put(`${base}/a`, 'three', { ifMatch: etag })).toBe('changed');
      expect(await read(`${base}/a`)).toBe('two');
      await store.delete(`${base}/a`);
      expect(await store.put(`${base}/a`, 'four', { ifMatch: etag })).toBe('changed');
      expect(await store.get(`${base}/a`)).toBeNull();
    });

    it('lets exactly one of 20 writers in 4 processes store if absent', async () => {
      const results = (await processes(4, 'if-absent', `${base}/race`, '5')).flat();
      expect(results).toHaveLength(20);
      expect(results.filter((result) => result === 'stored')).toHaveLength(1);
      expect(results.filter((result) => result === 'exists')).toHaveLength(19);
    });

    it('loses no update when processes count by compare-and-swap', async () => {
      await store.put(`${base}/counter`, '0');
      await processes(4, 'count', `${base}/counter`, '15');
      expect(await read(`${base}/counter`)).toBe('60');
    });

    it('shows nothing of what a killed writer was writing', async () => {
      const child = start('put-forever', `${base}/killed`);
      await once(child.stdout, 'data');
      child.kill('SIGKILL');
      await once(child, 'exit');
      const again = await under.open();
      expect(await again.get(`${base}/killed`)).toBeNull();
      expect(await keys(base)).toEqual([]);
      expect(await store.put(`${base}/killed`, 'whole')).toBe('stored');
    });

    it('lists by prefix in the order of the bytes of the keys, also many', async () => {
      const names = [
        'a/b',
        'a!',
        'a/c.d/c',
        'a.d',
        'ab/c',
        'b%2Ed',
        '007',
        'ü/日本 語',
        '\u{1f600}',
        '\uff5e',
      ];
      await Promise.all(names.map((key) => store.put(`${base}/${key}`, key)));
      const all = [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      expect(await keys(`${base}/`)).toEqual(all.map((key) => `${base}/${key}`));
      expect(await keys(`${base}/a/`)).toEqual([`${base}/a/b`, `${base}/a/c.d/c`]);
      expect(await keys(`${base}/ab`)).toEqual([`${base}/ab/c`]);
      expect(await keys(`${base}/none`)).toEqual([]);
      expect(await keys('none/at/all')).toEqual([]);
      for (const key of names) expect(await read(`${base}/${key}`)).toBe(key);
    });

    it('holds any well-formed key, and refuses those that lead elsewhere', async () => {
      for (const key of ['', '/a', 'a/', 'a//b', '../a', 'a/../b', 'a/.', 'a\\b', 'a\0', 'a\nb', '\ud800']) {
        await expect(store.put(key, 'x')).rejects.toMatchObject({ code: 'usage' });
        await expect(store.get(key)).rejects.toMatchObject({ code: 'usage' });
      }
      await expect(store.put('x'.repeat(901), 'x')).rejects.toMatchObject({ code: 'usage' });
      const part = fc
        .string({ unit: 'binary', minLength: 1, maxLength: 12 })
        .filter((text) => !/[\p{Cc}\p{Cs}\uFFFE\uFFFF/\\]/u.test(text) && text !== '.' && text !== '..');
      const key = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => `any/${parts.join('/')}`);
      await fc.assert(
        fc.asyncProperty(key, async (key) => {
          await store.put(key, key);
          expect(await read(key)).toBe(key);
          expect(await keys(key)).toContain(key);
          await store.delete(key);
        }),
        { numRuns: 25 },
      );
    });

    it('carries a zone: blobs once, manifests, files and records', async () => {
      const zone = createZone('work', store, { cache: join(folder, 'cache') });
      const path = join(folder, 'weights.bin');
      await writeFile(path, Buffer.alloc(200_000, base));
      const file = await zone.putFile(path);
      expect(await zone.putBlob(Readable.from([Buffer.alloc(200_000, base)]))).toEqual(file);
      const artifact = {
        kind: 'checkpoint' as const,
        name: base,
        files: [{ path: 'sub/weights.bin', ...file }],
        parents: [],
        meta: { epoch: 3 },
      };
      const digest = await zone.putArtifact(artifact);
      expect(await zone.getArtifact(digest)).toEqual(artifact);
      expect(await zone.hasArtifact(digest)).toBe(true);
      await zone.saveArtifact(digest, join(folder, 'out'));
      expect(digestBytes(await zone.readBlob(file.digest))).toBe(file.digest);

      expect(await zone.writeRecord(`${base}/r`, { n: 1 }, { ifAbsent: true })).toBe('stored');
      const record = (await zone.readRecord(`${base}/r`))!;
      expect(record.value).toEqual({ n: 1 });
      expect(await zone.writeRecord(`${base}/r`, { n: 2 }, { ifMatch: record.etag })).toBe('stored');
      expect(await zone.writeRecord(`${base}/r`, { n: 3 }, { ifMatch: record.etag })).toBe('changed');
      const listed: string[] = [];
      await zone.writeRecord(`${base}/r/1`, 'below a record');
      for await (const entry of zone.listRecords(`${base}/r`)) listed.push(entry.key);
      expect(listed.sort()).toEqual([`${base}/r`, `${base}/r/1`]);
      for await (const key of zone.listRecordKeys(`${base}/r`)) listed.splice(listed.indexOf(key), 1);
      expect(listed).toEqual([]);
      expect((await zone.readRecord(`${base}/r/1`))?.value).toBe('below a record');

      expect(await zone.touchRecord(`${base}/none`)).toBe(false);
      expect(await zone.touchRecord(`${base}/r`)).toBe(true);
      for await (const { key, modified } of zone.listRecords(`${base}/r`)) {
        expect(await zone.deleteRecord(key, modified - 2000), 'it is not as old as that').toBe(false);
        expect(await zone.deleteRecord(key, modified)).toBe(true);
        expect(await zone.deleteRecord(key)).toBe(false);
      }
      expect(await zone.readRecord(`${base}/r`)).toBeNull();
    });
  });
}
