import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Digest } from '../../src/core/digest.ts';
import { collectGarbage } from '../../src/data/gc.ts';
import { clean } from '../../src/steps/clean.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { train } from '../../src/steps/train.ts';
import { transform } from '../../src/steps/transform.ts';
import type { Ctx } from '../../src/steps/types.ts';
import { outsideOf } from '../../src/steps/zones.ts';
import { createZone, type ObjectStore, openStore, type Zone } from '../../src/store/index.ts';
import { runCdl } from '../cli/run-cdl.ts';
import { findMinio, type MinioServer, startMinio } from '../contract/minio.ts';
import { openScratch, type Scratch } from './project.ts';
import { textFiles, texts } from './text-project.ts';

const all = { dataset: '', model: '', side: 'train' as const };

const binary = findMinio();
describe.skipIf(binary === null)('data that stays in a bucket (of a real MinIO)', () => {
  let minio: MinioServer;
  let bucket: ObjectStore;
  let scratch: Scratch;
  let env: Record<string, string>;
  let ctx: Ctx;
  let work: Zone;
  let version: Digest;
  const opened: Scratch[] = [];
  const items = texts(80);
  const url = (key: string) => `s3://${minio.bucket}/${key}?endpoint=${minio.endpoint}`;

  async function project(source: string): Promise<Scratch> {
    const files = await textFiles();
    const config = (files['cdl.yaml'] as string).replace(/file: \[.*\]\n.*sha256:.*\n/, `${source}\n`);
    const made = await openScratch({
      ...files,
      'cdl.yaml': config.replace('rules:', 'clean: [trim]\n    rules:'),
    });
    opened.push(made);
    return made;
  }

  beforeAll(async () => {
    minio = await startMinio(binary!);
    bucket = await openStore(`s3://${minio.bucket}?endpoint=${minio.endpoint}`, minio.root);
    await Promise.all(
      items.map(({ path, text }, index) => bucket.put(`the set/${path}`, index === 2 ? ` ${text}` : text)),
    );
    env = { CDL_SOURCE_ACCESS_KEY: minio.root.accessKey, CDL_SOURCE_SECRET_KEY: minio.root.secretKey };
    scratch = await project(`s3: ["${url('the%20set/')}"]\n        in_place: true`);
    ctx = await scratch.context(env);
    version = (await runStep(ingest, ctx, all)).outputs.dataset as Digest;
    work = await ctx.zone('work');
  });
  afterAll(async () => {
    await minio.dispose();
    for (const one of opened) await one.remove();
  });

  it('is the version that a copy would be, without the copy', async () => {
    const copied = await project(`s3: ["${url('the%20set/')}"]`);
    const other = await copied.context(env);
    expect((await runStep(ingest, other, all)).outputs.dataset).toBe(version);
    const objectsOf = async (zone: Zone) => {
      const bodies: Buffer[] = [];
      for await (const { key } of zone.store.list('work/objects/'))
        bodies.push(await buffer((await zone.store.get(key))!));
      return Buffer.concat(bodies);
    };
    const words = items.map(({ text }) => text.split(' ').at(-1)!);
    const held = async (zone: Zone) => {
      const bytes = await objectsOf(zone);
      return words.filter((word) => bytes.includes(word)).length;
    };
    expect(await held(work)).toBe(0);
    expect(await held(await other.zone('work'))).toBeGreaterThan(40);
  });

  it('is cleaned and trained from there, and what cleaning leaves as it is stays there, too', async () => {
    await rm(join(scratch.root, '.cdl', 'cache'), { recursive: true, force: true });
    const { outputs } = await runStep(clean, ctx, all);
    const cleaned = await work.getArtifact(outputs.dataset as Digest);
    const shard = cleaned.files.find(({ path }) => path === 'shard-00000.tar')!;
    const pieces = (await work.piecesOf(shard.digest))!;
    expect(pieces.length).toBeGreaterThanOrEqual(Number(outputs.items) - 1);
    await runStep(transform, ctx, all);
    expect((await runStep(train, ctx, all)).report.verdict).toBe('pass');
  });

  it('is pushed and collected as garbage by its note alone', async () => {
    const folder = join(scratch.root, '.cdl', 'pushed');
    const pushed = createZone('work', await openStore(`file:${folder}`, null), {
      outside: outsideOf(env, 'work', scratch.root),
    });
    await pushed.copyArtifact(work, version);
    const { files } = await pushed.getArtifact(version);
    const shard = files.find(({ path }) => path === 'shard-00000.tar')!;
    expect(
      await pushed.store.stat(`work/objects/sha256/${shard.digest.slice(7, 9)}/${shard.digest.slice(7)}`),
    ).toBe(null);
    expect(await pushed.hasArtifact(version)).toBe(true);
    expect((await pushed.readBlob(shard.digest)).length).toBe(shard.size);
    const piece = (await pushed.piecesOf(shard.digest))![3]!;
    const range = { offset: piece.offset - 300, length: 310 };
    const part = await buffer(await pushed.openBlobPart(shard.digest, range));
    expect(part).toEqual((await pushed.readBlob(shard.digest)).subarray(range.offset, range.offset + 310));

    const garbage = (roots: string[]) =>
      collectGarbage({
        zone: pushed,
        others: [],
        roots,
        grace: 0,
        now: () => Date.now() + 1000,
        remove: true,
        signal: new AbortController().signal,
      });
    expect((await garbage([version.slice(7)])).objects).toEqual([]);
    expect((await garbage([])).objects.map(({ digest }) => digest)).toContain(shard.digest);
    expect(await pushed.hasBlob(shard.digest)).toBe(false);
    expect((await bucket.stat(`the set/${items[0]!.path}`))?.size).toBe(Buffer.byteLength(items[0]!.text));
  });

  it('can be checked out, and read item by item', async () => {
    const cdl = (...args: string[]) => runCdl(args, { cwd: scratch.root, env: { ...process.env, ...env } });
    expect((await cdl('data', 'checkout', version, '--to', 'out')).stderr).toBe('');
    const names = await readdir(join(scratch.root, 'out'));
    const name = names.find((one) => one.endsWith('.txt'))!;
    const text = await readFile(join(scratch.root, 'out', name), 'utf8');
    expect(items.map((item) => item.text.trim())).toContain(text.trim());
    expect((await cdl('data', 'get', version, name)).stdout).toBe(text);
  });

  it('is read from no bucket that the project does not name, and only as it was', async () => {
    const outside = outsideOf(env, 'work', scratch.root);
    for (const at of [
      url('the%20set%2F..%2Fother/x'),
      url('other/x'),
      url('the%20set'),
      's3://%zz',
      'file:///etc/passwd',
    ])
      await expect(
        outside(at).then(({ store, key }) => store.get(key)),
        at,
      ).rejects.toMatchObject({
        code: expect.stringMatching(/^(store-denied|usage)$/),
      });
    const { files } = await work.getArtifact(version);
    const shard = files.find(({ path }) => path === 'shard-00000.tar')!;
    const piece = (await work.piecesOf(shard.digest))![5]!;
    const key = decodeURIComponent(new URL(piece.at).pathname).slice(1);
    const before = await buffer((await bucket.get(key))!);
    await bucket.put(key, before.toString().toUpperCase());
    const failure = (code: string) => ({ code, message: expect.stringContaining(piece.at) });
    await expect(work.readBlob(shard.digest)).rejects.toMatchObject(failure('source-mismatch'));
    await bucket.delete(key);
    await expect(work.readBlob(shard.digest)).rejects.toMatchObject(failure('source-unreachable'));
    await bucket.put(key, before);
    expect((await work.readBlob(shard.digest)).length).toBe(shard.size);
  });
});
