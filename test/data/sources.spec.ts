import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { SourceConfig } from '../../src/core/project.ts';
import { defaultLimits } from '../../src/core/project-read.ts';
import { progressText } from '../../src/data/source/options.ts';
import { type FetchProgress, fetchFirst, fetchSource } from '../../src/data/sources.ts';

const read = { format: 'idx', images: ['i'], labels: ['l'] } as const satisfies SourceConfig['read'];
const body = Buffer.from('some bytes worth having'.repeat(1000));
const sha256 = createHash('sha256').update(body).digest('hex');

let folder: string;
let server: Server;
let base: string;
let seen: string[];
let answer: (request: IncomingMessage, response: ServerResponse) => void;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-sources-'));
  seen = [];
  answer = (_, response) => response.end(body);
  server = createServer((request, response) => {
    seen.push(request.url ?? '');
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true, force: true });
});

const https = (path: string, pin = sha256): SourceConfig => ({ https: [base + path], sha256: pin, read });
const options = () => ({ cacheFolder: folder, retryDelay: 1 });

test('keeps a download by its sha256 and does not ask again', async () => {
  const progress: FetchProgress[] = [];
  const first = await fetchSource(https('/a'), { ...options(), onProgress: (one) => progress.push(one) });
  expect(await readFile(first.files[0]!.path)).toEqual(body);
  const again = await fetchSource(https('/b'), options());
  expect(again.files[0]!.path).toBe(first.files[0]!.path);
  expect(seen).toEqual(['/a']);
  expect(progress.at(-1)).toEqual({ what: `${base}/a`, bytes: body.length, total: body.length });
});

test('tells how far it is in units that fit', () => {
  const at = (bytes: number, total: number | null, counts?: 'files') =>
    progressText({ what: 'imgs', bytes, total, ...(counts && { counts }) });
  expect(at(3, 60, 'files')).toEqual(['reading imgs, 3 of 60 files', 0.05]);
  expect(at(12, 812, undefined)[0]).toBe('reading imgs, 12 of 812 B');
  expect(at(0, 0)).toEqual(['reading imgs, 0 of 0 B', 0]);
  expect(at(500, 1500)[0]).toBe('reading imgs, 0.5 of 1.5 kB');
  expect(at(2_500_000, null)).toEqual(['reading imgs, 2.5 MB', 0]);
});

test('notices a damaged cache and downloads again', async () => {
  const { files } = await fetchSource(https('/a'), options());
  await writeFile(files[0]!.path, 'rotten');
  const again = await fetchSource(https('/a'), options());
  expect(await readFile(again.files[0]!.path)).toEqual(body);
  expect(seen.length).toBe(2);
});

test('refuses bytes that are not those of the pin, keeps nothing and does not fall back', async () => {
  const sources = [https('/wrong', 'a'.repeat(64)), https('/right')];
  await expect(fetchFirst(sources, options())).rejects.toMatchObject({
    code: 'source-mismatch',
    message: expect.stringContaining(sha256),
  });
  expect(await readdir(join(folder, 'sources'))).toEqual([]);
  expect(seen).toEqual(['/wrong']);
});

test('tries again after a server error and a broken connection', async () => {
  answer = (_, response) => {
    if (seen.length === 1) response.writeHead(503).end();
    else if (seen.length === 2) {
      response.writeHead(200, { 'content-length': body.length });
      response.write(body.subarray(0, 100), () => response.destroy());
    } else response.end(body);
  };
  const { files } = await fetchSource(https('/a'), options());
  expect(await readFile(files[0]!.path)).toEqual(body);
  expect(seen.length).toBe(3);
});

test('goes on to the next source, and names every one with its reason when none is left', async () => {
  answer = (request, response) => {
    if (request.url === '/ok') response.end(body);
    else response.writeHead(404).end();
  };
  const gone: SourceConfig = { file: ['nowhere.gz'], sha256, read };
  const found = await fetchFirst([https('/gone'), gone, https('/ok')], { ...options(), root: folder });
  expect(found.files[0]!.name).toBe(`${base}/ok`);
  await rm(join(folder, 'sources'), { recursive: true });
  const failure = await fetchFirst([https('/gone'), gone], { ...options(), root: folder }).catch(
    (e: unknown) => e,
  );
  expect(failure).toMatchObject({ code: 'source-unreachable' });
  expect(String(failure)).toContain('/gone answered 404');
  expect(String(failure)).toContain(`there is no file ${join(folder, 'nowhere.gz')}`);
  expect(seen.filter((url) => url === '/gone').length).toBe(2);
});

test('finds an npm package where its registry says', async () => {
  answer = (request, response) => {
    if (request.url !== '/npm/@scope%2fpack') return response.end(body);
    expect(request.headers.accept).toContain('application/vnd.npm.install-v1+json');
    response.end(
      JSON.stringify({ versions: { '1.2.3': { dist: { tarball: `${base}/elsewhere/pack.tgz` } } } }),
    );
  };
  const source: SourceConfig = { npm: '@scope/pack@1.2.3', sha256, read };
  const { files } = await fetchSource(source, { ...options(), npmRegistry: `${base}/npm` });
  expect(await readFile(files[0]!.path)).toEqual(body);
  expect(seen).toEqual(['/npm/@scope%2fpack', '/elsewhere/pack.tgz']);
  const other: SourceConfig = { npm: '@scope/pack@9.9.9', sha256: 'b'.repeat(64), read };
  await expect(fetchSource(other, { ...options(), npmRegistry: `${base}/npm` })).rejects.toMatchObject({
    code: 'source-unreachable',
    message: expect.stringContaining('has no version 9.9.9'),
  });
});

test('refuses a file above limits.file, by what the server says or by what comes, and keeps nothing', async () => {
  const limits = { ...defaultLimits, file: 1000 };
  const large = { code: 'data-invalid', message: expect.stringContaining('limits.file') };
  await expect(fetchSource({ ...https('/said'), limits }, options())).rejects.toMatchObject(large);
  let sent = 0;
  answer = (_, response) => {
    // No length, and no end: only counting stops it.
    const more = () => {
      while (response.write(body)) sent += body.length;
      response.once('drain', more);
    };
    more();
  };
  const mirrors = [{ ...https('/endless'), limits }, https('/other')];
  await expect(fetchFirst(mirrors, options())).rejects.toMatchObject(large);
  expect(seen).toEqual(['/said', '/endless']);
  await writeFile(join(folder, 'local.bin'), body);
  const local: SourceConfig = { file: ['local.bin'], sha256, read, limits };
  await expect(fetchSource(local, { ...options(), root: folder })).rejects.toMatchObject(large);
  expect(await readdir(join(folder, 'sources'))).toEqual([]);
  expect(sent).toBeLessThan(64 << 20);
});

test('copies local files, and stops when told', async () => {
  await writeFile(join(folder, 'local.bin'), body);
  const local: SourceConfig = { file: ['local.bin'], sha256, read };
  const { files } = await fetchSource(local, { ...options(), root: folder });
  expect(await readFile(files[0]!.path)).toEqual(body);
  await rm(files[0]!.path);
  const stop = new AbortController();
  answer = (_, response) => {
    response.write('x', () => stop.abort());
  };
  await expect(fetchSource(https('/slow'), { ...options(), signal: stop.signal })).rejects.toMatchObject({
    code: 'interrupted',
  });
  expect(await readdir(join(folder, 'sources'))).toEqual([]);
});

test('says when there is not one sha256 for each file', async () => {
  const source: SourceConfig = { https: [`${base}/a`, `${base}/b`], sha256, read };
  await expect(fetchSource(source, options())).rejects.toMatchObject({ code: 'config-invalid' });
});
