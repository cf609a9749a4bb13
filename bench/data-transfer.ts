import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { Client } from 'minio';
import { addFolder } from '../src/data/folder/add.ts';
import { openFilePool } from '../src/data/folder/pool.ts';
import { copyVersions, fetchArtifact } from '../src/data/folder/transfer.ts';
import { createZone, openLocalZone, openStore } from '../src/store/index.ts';
import { findMinio, startMinio } from '../test/contract/minio.ts';
import { noise } from './noise.ts';
import type { Row } from './row.ts';

const atOnce = 8;

async function each<T>(items: readonly T[], action: (item: T) => Promise<unknown>): Promise<number> {
  const rest = items.values();
  const start = performance.now();
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (const item of rest) await action(item);
    }),
  );
  return performance.now() - start;
}

/**
 * Pushing and pulling a version (8 000 × 32 KB, 4 × 64 MB) through a real MinIO, beside putting and getting the same objects
 * with nothing but the client, as many at once. In turns, the best of three of each. No rows where MinIO was not built.
 */
export async function benchTransfer(folder: string): Promise<Row[]> {
  const binary = findMinio();
  if (!binary) {
    process.stderr.write('left out: push and pull (no MinIO server: run test/services/minio.sh once)\n');
    return [];
  }
  const data = join(folder, 'data');
  for (let outer = 0; outer < 80; outer++) {
    await mkdir(join(data, `d${outer}`), { recursive: true });
    for (let index = 0; index < 100; index++) {
      await writeFile(join(data, `d${outer}`, `f${index}`), noise(32 << 10, outer * 100 + index));
    }
  }
  for (let index = 0; index < 4; index++)
    await writeFile(join(data, `large-${index}`), noise(64 << 20, index));
  const local = await openLocalZone(join(folder, 'store'));
  const pool = openFilePool();
  const { version } = await addFolder({
    path: data,
    name: 'data',
    zone: local,
    statCache: join(folder, 'stat'),
    previous: null,
    sources: [],
    code: null,
    pool,
    signal: new AbortController().signal,
  });
  await pool.close();
  const objects = (await local.getArtifact(version)).files;
  const server = await startMinio(binary);
  try {
    const { hostname, port } = new URL(server.endpoint);
    const client = new Client({
      endPoint: hostname,
      port: Number(port),
      useSSL: false,
      region: 'us-east-1',
      ...server.root,
    });
    const at = (prefix: string) => `s3://${server.bucket}/${prefix}?endpoint=${server.endpoint}`;
    const best = { put: Infinity, push: Infinity, get: Infinity, pull: Infinity };
    for (let turn = 0; turn < 3; turn++) {
      const put = await each(objects, ({ digest, size }) =>
        client.putObject(
          server.bucket,
          `plain-${turn}/${digest}`,
          createReadStream(local.blobPath(digest)),
          size,
        ),
      );
      const remote = createZone('work', await openStore(at(`ours-${turn}`), server.root));
      let start = performance.now();
      await copyVersions(local, remote, version);
      const push = performance.now() - start;
      const plain = join(folder, `got-${turn}`);
      await mkdir(plain);
      const get = await each(objects, async ({ digest }) =>
        pipeline(
          await client.getObject(server.bucket, `plain-${turn}/${digest}`),
          createWriteStream(join(plain, digest.slice(7))),
        ),
      );
      const back = await openLocalZone(join(folder, `back-${turn}`));
      start = performance.now();
      await fetchArtifact(back, remote, version);
      const pull = performance.now() - start;
      for (const [name, value] of Object.entries({ put, push, get, pull })) {
        best[name as keyof typeof best] = Math.min(best[name as keyof typeof best], value);
      }
      await rm(plain, { recursive: true });
      await rm(join(folder, `back-${turn}`), { recursive: true });
    }
    const mb = objects.reduce((sum, { size }) => sum + size, 0) / 1e6;
    const row = (name: string, ours: number, plain: number): Row => ({
      name,
      value: (mb / ours) * 1000,
      unit: 'MB/s',
      baseline: (mb / plain) * 1000,
      ratio: plain / ours,
    });
    return [
      row(
        `push ${Math.round(mb)} MB to MinIO, beside plain parallel PUT of the same objects`,
        best.push,
        best.put,
      ),
      row(
        `pull ${Math.round(mb)} MB from MinIO, beside plain parallel GET of the same objects`,
        best.pull,
        best.get,
      ),
    ];
  } finally {
    await server.dispose();
  }
}
