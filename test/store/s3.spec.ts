import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UpstreamError } from '../../src/core/error.ts';
import { createZone, openStore } from '../../src/store/index.ts';
import { parseS3Url } from '../../src/store/s3.ts';
import { findMinio, type MinioServer, startMinio } from '../contract/minio.ts';
import { storeContract } from '../contract/store.ts';

const binary = findMinio();
const credentials = { accessKey: 'someone', secretKey: 'something' };

if (binary) {
  let minio: MinioServer;
  let url: string;

  storeContract(
    'the S3 store on MinIO',
    async () => {
      minio = await startMinio(binary);
      url = `s3://${minio.bucket}/team/project?endpoint=${minio.endpoint}`;
      const { accessKey, secretKey } = minio.root;
      return {
        open: () => openStore(url, minio.root),
        url,
        env: { ACCESS_KEY: accessKey, SECRET_KEY: secretKey },
      };
    },
    () => minio.dispose(),
  );

  describe('the S3 store on MinIO', () => {
    let server: MinioServer;
    let at: string;

    beforeAll(async () => {
      server = await startMinio(binary);
      at = `s3://${server.bucket}?endpoint=${server.endpoint}`;
    });
    afterAll(() => server.dispose());

    it('keeps the zones apart: each has credentials that reach it alone', async () => {
      const work = createZone('work', await openStore(at, await server.restrictedTo('work/')));
      const trusted = createZone('trusted', await openStore(at, await server.restrictedTo('trusted/')));
      await work.writeRecord('claim', { accuracy: 1 }, { ifAbsent: true });
      await trusted.writeRecord('decision', { approved: true }, { ifAbsent: true });
      const secret = await trusted.putBlob('the test set');

      const author = await openStore(at, await server.restrictedTo('work/'));
      const denied = { name: 'UserError', code: 'store-denied' };
      await expect(createZone('trusted', author).readRecord('decision')).rejects.toMatchObject(denied);
      await expect(createZone('trusted', author).readBlob(secret.digest)).rejects.toMatchObject(denied);
      await expect(createZone('trusted', author).writeRecord('decision', {})).rejects.toMatchObject(denied);
      await expect(
        createZone('trusted', author).writeRecord('more', {}, { ifAbsent: true }),
      ).rejects.toMatchObject(denied);
      await expect(author.delete('trusted/records/decision')).rejects.toMatchObject(denied);
      await expect(author.list('trusted/')[Symbol.asyncIterator]().next()).rejects.toMatchObject(denied);
      expect((await trusted.readRecord('decision'))?.value).toEqual({ approved: true });

      const judge = createZone('work', await openStore(at, await server.restrictedTo('')));
      expect((await judge.readRecord('claim'))?.value).toEqual({ accuracy: 1 });
      const artifact = {
        kind: 'dataset' as const,
        name: 'test',
        files: [{ path: 'a', ...(await judge.putBlob('a claimed file')) }],
        parents: [],
        meta: {},
      };
      const digest = await work.putArtifact(artifact);
      const both = createZone('trusted', await openStore(at, server.root));
      await both.copyArtifact(judge, digest);
      await both.copyArtifact(judge, digest);
      expect(await trusted.getArtifact(digest)).toEqual(artifact);
      expect(await trusted.hasArtifact(digest)).toBe(true);
    });

    it('lists more objects than one answer holds', async () => {
      const store = await openStore(at, server.root);
      const keys = Array.from({ length: 1005 }, (_, index) => `many/${String(index).padStart(4, '0')}`);
      for (let start = 0; start < keys.length; start += 50) {
        await Promise.all(keys.slice(start, start + 50).map((key) => store.put(key, '')));
      }
      const listed: string[] = [];
      for await (const { key } of store.list('many/')) listed.push(key);
      expect(listed).toEqual(keys);
    });

    it('names what is wrong with keys, bucket and address', async () => {
      await expect(openStore(at, { ...server.root, secretKey: 'wrong' })).rejects.toMatchObject({
        code: 'store-denied',
      });
      await expect(openStore(at.replace('//cdl', '//other'), server.root)).rejects.toMatchObject({
        code: 'config-invalid',
        message: expect.stringContaining('other'),
      });
      await expect(openStore(at, null)).rejects.toMatchObject({ code: 'environment-missing' });
    });

    it('says "try again" when the store goes down', async () => {
      const mortal = await startMinio(binary);
      try {
        const store = await openStore(`s3://cdl?endpoint=${mortal.endpoint}`, mortal.root);
        await store.put('a', 'one');
        await mortal.kill();
        for (const action of [() => store.get('a'), () => store.put('a', 'two', { ifAbsent: true })]) {
          const failure = await action().catch((error: unknown) => error);
          expect(failure).toBeInstanceOf(UpstreamError);
          expect(failure).toMatchObject({ service: 'store', retryable: true });
        }
      } finally {
        await mortal.dispose();
      }
    });
  });
} else {
  const reason = 'no MinIO server: run test/services/minio.sh once, or set CDL_MINIO';
  process.stderr.write(`skipped: the S3 store on MinIO (${reason})\n`);
  describe.skip(`the S3 store on MinIO (${reason})`, () => {
    it('keeps the store contract', () => undefined);
  });
}

describe('the S3 store', () => {
  it('refuses a store that takes conditional writes and writes all the same', async () => {
    const server = createServer(async (request, response) => {
      await text(request);
      response.setHeader('etag', '"x"').end();
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const opening = openStore(`s3://bucket?endpoint=http://127.0.0.1:${port}`, credentials);
    await expect(opening).rejects.toMatchObject({ name: 'UserError', code: 'store-unsupported' });
    server.close();
    server.closeAllConnections();
  });

  it('repeats a read that failed on the way, and no conditional write', async () => {
    const seen: string[] = [];
    const server = createServer(async (request, response) => {
      await text(request);
      const what = `${request.method} ${request.url}`;
      seen.push(what);
      if (request.url?.includes('.cdl-probe')) response.writeHead(412).end();
      else if (request.method === 'GET' && seen.filter((one) => one === what).length === 3)
        response.end('yes');
      else response.writeHead(503).end();
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const store = await openStore(`s3://bucket?endpoint=http://127.0.0.1:${port}`, credentials);
    expect(await text((await store.get('a'))!)).toBe('yes');
    await expect(store.put('b', 'x', { ifAbsent: true })).rejects.toMatchObject({
      name: 'UpstreamError',
      status: 503,
      retryable: true,
    });
    expect(seen.filter((one) => one.endsWith('/bucket/a'))).toHaveLength(3);
    expect(seen.filter((one) => one.endsWith('/bucket/b'))).toHaveLength(1);
    server.close();
    server.closeAllConnections();
  });

  it('reads its address from a URL', () => {
    expect(parseS3Url('s3://b/p/q/?endpoint=http://127.0.0.1:9000&region=eu-1')).toEqual({
      endpoint: 'http://127.0.0.1:9000',
      bucket: 'b',
      prefix: 'p/q',
      region: 'eu-1',
      pathStyle: true,
    });
    expect(parseS3Url('s3://b?region=eu-1')).toMatchObject({
      endpoint: 'https://s3.eu-1.amazonaws.com',
      prefix: '',
      pathStyle: false,
    });
    for (const url of ['s3:///p', 's3://b?endpont=x', 's3://b?endpoint=x', 's3://a:b@c/']) {
      expect(() => parseS3Url(url), url).toThrow(expect.objectContaining({ code: 'config-invalid' }));
    }
  });
});
