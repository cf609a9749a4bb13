import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SourceConfig } from '../../src/core/project.ts';
import { fetchFirst, fetchSource } from '../../src/data/sources.ts';

const read = { format: 'idx', images: ['i'], labels: ['l'] } as const satisfies SourceConfig['read'];
const body = Buffer.from(Array.from({ length: 1_500_000 }, (_, at) => (at * 31 + (at >> 8)) % 251));
const other = Buffer.from(body.map((byte) => 255 - byte));
const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const sha256 = hash(body);

interface Seen {
  url: string;
  range: string | undefined;
  ifRange: string | undefined;
  authorization: string | undefined;
}
type Answer = (request: IncomingMessage, response: ServerResponse) => void;

let folder: string;
let servers: Server[];
let seen: Seen[];

async function serve(answer: Answer): Promise<string> {
  const server = createServer((request, response) => {
    const { range, 'if-range': ifRange, authorization } = request.headers;
    seen.push({ url: request.url ?? '', range, ifRange: ifRange as string | undefined, authorization });
    answer(request, response);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** What a server with ranges does (RFC 9110 §14). */
function whole(request: IncomingMessage, response: ServerResponse, bytes: Buffer, etag: string | null): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? -1);
  const condition = request.headers['if-range'];
  if (etag) response.setHeader('etag', etag);
  if (from < 0 || (condition !== undefined && condition !== etag)) {
    response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
  } else if (from >= bytes.length) {
    response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end('no such range');
  } else {
    const range = `bytes ${from}-${bytes.length - 1}/${bytes.length}`;
    response.writeHead(206, { 'content-range': range }).end(bytes.subarray(from));
  }
}

/** Sends a beginning of the bytes, and breaks off. */
function broken(response: ServerResponse, bytes: Buffer, end: number, etag: string | null): void {
  response.writeHead(200, { 'content-length': bytes.length, ...(etag && { etag }) });
  response.write(bytes.subarray(0, end), () => response.destroy());
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-http-'));
  servers = [];
  seen = [];
});
afterEach(async () => {
  for (const server of servers) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
  await rm(folder, { recursive: true, force: true });
});

const source = (url: string, pin: string | null = sha256): SourceConfig => ({
  https: [url],
  ...(pin !== null && { sha256: pin }),
  read,
});
const options = () => ({ cacheFolder: folder, retryDelay: 1 });
const kept = async () => ({
  sources: await readdir(join(folder, 'sources')),
  partial: await readdir(join(folder, 'partial')),
});
const nothing = { sources: [], partial: [] };

describe('a download that breaks off', () => {
  it('goes on where it was, on the condition that the file is still the same', async () => {
    const at = await serve((request, response) =>
      seen.length === 1 ? broken(response, body, 700_000, '"1"') : whole(request, response, body, '"1"'),
    );
    const { files } = await fetchSource(source(`${at}/a`), options());
    expect(hash(await readFile(files[0]!.path))).toBe(sha256);
    expect(seen[1]!.range).toMatch(/^bytes=[1-9]\d*-$/);
    expect(seen[1]!.ifRange).toBe('"1"');
    expect((await kept()).partial).toEqual([]);
  });

  it('is taken up by the next process, when the first was stopped', async () => {
    const stop = new AbortController();
    const at = await serve((request, response) => {
      if (seen.length > 1) return whole(request, response, body, '"1"');
      response.writeHead(200, { 'content-length': body.length, etag: '"1"' });
      response.write(body.subarray(0, 800_000));
    });
    const stopped = fetchSource(source(`${at}/a`), {
      ...options(),
      signal: stop.signal,
      onProgress: ({ bytes }) => bytes >= 800_000 && stop.abort(),
    });
    await expect(stopped).rejects.toMatchObject({ code: 'interrupted' });
    const { files } = await fetchSource(source(`${at}/a`), options());
    expect(hash(await readFile(files[0]!.path))).toBe(sha256);
    expect(Number(/\d+/.exec(seen[1]!.range!)![0])).toBeGreaterThan(0);
  });

  it('begins anew when the file is another one by now', async () => {
    const at = await serve((request, response) =>
      seen.length === 1 ? broken(response, other, 700_000, '"1"') : whole(request, response, body, '"2"'),
    );
    const { files } = await fetchSource(source(`${at}/a`), options());
    expect(hash(await readFile(files[0]!.path))).toBe(sha256);
    expect(seen.map((one) => one.ifRange)).toEqual([undefined, '"1"']);
  });

  it('without a validator goes on for a pinned file alone, and begins anew when the parts do not fit', async () => {
    const at = await serve((request, response) =>
      seen.length === 1 ? broken(response, other, 700_000, null) : whole(request, response, body, null),
    );
    const { files } = await fetchSource(source(`${at}/a`), options());
    expect(hash(await readFile(files[0]!.path))).toBe(sha256);
    expect(seen.map((one) => one.range !== undefined)).toEqual([false, true, false]);
    await rm(folder, { recursive: true });
    seen = [];
    const first = await fetchSource(source(`${at}/a`, null), options());
    expect(hash(await readFile(first.files[0]!.path))).toBe(sha256);
    expect(first.source.sha256).toBe(sha256);
    expect(seen.map((one) => one.range)).toEqual([undefined, undefined]);
  });

  it('is whole already when the server has nothing beyond it', async () => {
    const at = await serve((request, response) => {
      if (seen.length > 1) return whole(request, response, body, '"1"');
      // One byte more is promised than there is.
      response.writeHead(200, { 'content-length': body.length + 1, etag: '"1"' });
      response.write(body, () => response.destroy());
    });
    const { files } = await fetchSource(source(`${at}/a`), options());
    expect(files[0]!.sha256).toBe(sha256);
    expect(seen.length).toBe(2);
  });

  it('throws away a part that is longer than the file', async () => {
    const at = await serve((request, response) =>
      seen.length === 1
        ? broken(response, Buffer.concat([other, body]), 2_000_000, '"1"')
        : whole(request, response, body, '"1"'),
    );
    const { files } = await fetchSource(source(`${at}/a`), options());
    expect(files[0]!.sha256).toBe(sha256);
  });

  it('goes on from another mirror, and the pin tells whether the parts fit', async () => {
    const first = await serve((_, response) => {
      if (seen.length === 1) broken(response, body, 700_000, '"x"');
      else response.writeHead(404).end();
    });
    const second = await serve((request, response) => whole(request, response, body, '"y"'));
    const { files } = await fetchFirst([source(`${first}/a`), source(`${second}/a`)], options());
    expect(hash(await readFile(files[0]!.path))).toBe(sha256);
    expect(seen.at(-1)).toMatchObject({ ifRange: undefined, range: expect.stringMatching(/^bytes=[1-9]/) });
  });

  it('is not given up while each attempt gets further', async () => {
    const at = await serve((request, response) => {
      const from = Number(/\d+/.exec(request.headers.range ?? '0')![0]);
      const end = Math.min(from + 300_000, body.length);
      const head = { etag: '"1"', 'content-length': body.length - from };
      if (from === 0) response.writeHead(200, head);
      else
        response.writeHead(206, {
          ...head,
          'content-range': `bytes ${from}-${body.length - 1}/${body.length}`,
        });
      response.write(body.subarray(from, end), () =>
        end === body.length ? response.end() : response.destroy(),
      );
    });
    const { files } = await fetchSource(source(`${at}/a`), options());
    expect(files[0]!.sha256).toBe(sha256);
    expect(seen.length).toBeGreaterThan(4);
  });
});

describe('a server', () => {
  it('that asks for a pause gets it; one that asks for a long one is left for the next mirror', async () => {
    const waits = ['0', '3600'];
    const busy = await serve((_, response) => {
      response.writeHead(503, { 'retry-after': waits[seen.length - 1] }).end();
    });
    const free = await serve((request, response) => whole(request, response, body, null));
    const { files } = await fetchFirst([source(`${busy}/a`), source(`${free}/a`)], options());
    expect(files[0]!.name).toBe(`${free}/a`);
    expect(seen.length).toBe(3);
    await rm(folder, { recursive: true });
    waits.unshift('', '', '');
    await expect(fetchSource(source(`${busy}/a`), options())).rejects.toMatchObject({
      message: expect.stringContaining('asks for a pause of 3600 s'),
    });
  });

  it('is told what belongs to it, and where it leads to is not', async () => {
    const bucket = await serve((request, response) => whole(request, response, body, null));
    const front = await serve((_, response) => {
      response.writeHead(302, { location: `${bucket}/b?signature=x` }).end();
    });
    const authorization = (host: string) => (host === new URL(front).host ? 'Bearer of-the-front' : null);
    await fetchSource(source(`${front}/a`), { ...options(), authorization });
    expect(seen.map((one) => [one.url, one.authorization])).toEqual([
      ['/a', 'Bearer of-the-front'],
      ['/b?signature=x', undefined],
    ]);
  });

  it('that leads round in a circle, or to something that is not http, is given up', async () => {
    const at = await serve((request, response) => {
      response.writeHead(302, { location: request.url === '/file' ? 'file:///etc/passwd' : '/a' }).end();
    });
    for (const path of ['/a', '/file'])
      await expect(fetchSource(source(at + path), options())).rejects.toMatchObject({
        code: 'source-unreachable',
      });
    expect(seen.length).toBe(12);
  });

  it('is reached by the proxy, unless it is one that is asked directly', async () => {
    const proxy = await serve((request, response) => whole(request, response, body, null));
    const through = (no: string | null) => ({
      ...options(),
      network: { proxy: { http: proxy, https: null, no } },
    });
    const { files } = await fetchSource(source('http://data.example.invalid/a'), through(null));
    expect(files[0]!.sha256).toBe(sha256);
    expect(seen[0]!.url).toBe('http://data.example.invalid/a');
    await rm(folder, { recursive: true });
    const direct = await serve((request, response) => whole(request, response, body, null));
    await fetchSource(source(`${direct}/b`), through('127.0.0.1'));
    expect(seen[1]!.url).toBe('/b');
  });

  it('does not get its signed links repeated in errors', async () => {
    const at = await serve((_, response) => response.writeHead(403).end());
    const failure = await fetchSource(source(`${at}/a?signature=secret`), options()).catch((e: unknown) => e);
    expect(String(failure)).toContain('/a?… answered 403');
    expect(String(failure)).not.toContain('secret');
  });
});

describe('several downloads', () => {
  it('of one source go on side by side, a few at a time, and stay in order', async () => {
    const parts = Array.from({ length: 9 }, (_, at) => Buffer.from(`part ${at}`));
    let open = 0;
    let most = 0;
    const waiting: (() => void)[] = [];
    const at = await serve((request, response) => {
      most = Math.max(most, ++open);
      response.on('close', () => {
        open -= 1;
      });
      waiting.push(() => response.end(parts[Number(request.url!.slice(1))]));
      // Answered when four have come, or when the rest is fewer: only work side by side gets here.
      if (waiting.length === 4 || seen.length === 9) for (const go of waiting.splice(0)) go();
    });
    const { files } = await fetchSource(
      { https: parts.map((_, index) => `${at}/${index}`), sha256: parts.map(hash), read },
      options(),
    );
    expect(files.map((file) => file.sha256)).toEqual(parts.map(hash));
    expect(most).toBe(4);
  });

  it('of the same file at once are one', async () => {
    let finish: (() => void) | null = null;
    const at = await serve((request, response) => {
      finish = () => whole(request, response, body, null);
      begun();
    });
    let begun: () => void = () => {};
    const started = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const both = [1, 2, 3].map(() => fetchSource(source(`${at}/a`), options()));
    await started;
    finish!();
    const all = await Promise.all(both);
    expect(new Set(all.map(({ files }) => files[0]!.path)).size).toBe(1);
    expect(seen.length).toBe(1);
  });

  it('end together when one of them has wrong bytes, and nothing of that one is kept', async () => {
    const at = await serve((_, response) => response.end(other));
    await expect(
      fetchSource({ https: [`${at}/a`, `${at}/b`], sha256: [sha256, sha256], read }, options()),
    ).rejects.toMatchObject({ code: 'source-mismatch' });
    expect(await kept()).toEqual(nothing);
  });
});
