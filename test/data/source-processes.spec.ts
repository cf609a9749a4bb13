import { on } from 'node:events';
import { watch } from 'node:fs';
import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCdl, startCdl } from '../cli/run-cdl.ts';
import { openScratch, type Scratch, tinyConfig, tinyData, tinyFiles } from '../steps/project.ts';

const { images, labels } = tinyData();

let server: Server;
let base: string;
let seen: { url: string; range: string | undefined }[];
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let scratch: Scratch;

beforeEach(async () => {
  seen = [];
  server = createServer((request, response) => {
    seen.push({ url: request.url!, range: request.headers.range });
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  scratch = await openScratch({
    ...tinyFiles(),
    'cdl.yaml': tinyConfig().replace(
      'file: [data/images.idx, data/labels.idx]',
      `https: ["${base}/images.idx", "${base}/labels.idx"]`,
    ),
  });
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await scratch.remove();
});

const bytesOf = (url: string) => (url === '/images.idx' ? images : labels);
const whole = (request: IncomingMessage, response: ServerResponse) => {
  const bytes = bytesOf(request.url!);
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  response.setHeader('etag', '"1"');
  if (from > 0)
    response.writeHead(206, { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` });
  response.end(bytes.subarray(from));
};
const options = () => ({ cwd: scratch.root, env: scratch.env });
const folder = (name: string) => join(scratch.env.CDL_CACHE!, name);

/** Waits until some file in a folder has bytes. */
async function written(path: string, bytes: number): Promise<void> {
  const has = async () => {
    for (const name of await readdir(path)) {
      const size = (await stat(join(path, name)).catch(() => null))?.size ?? 0;
      if (!name.endsWith('.json') && !name.includes('.lock') && size >= bytes) return true;
    }
    return false;
  };
  // The watcher of node:fs/promises forgets what happens while one looks; these events wait.
  const watcher = watch(path);
  const changes = on(watcher, 'change');
  try {
    if (await has()) return;
    for await (const _ of changes) if (await has()) return;
  } finally {
    watcher.close();
  }
}

describe('cdl ingest', () => {
  it('that is killed half-way goes on with what it had, and makes the same version', async () => {
    const half = images.length >> 1;
    answer = (request, response) => {
      if (request.url === '/labels.idx' || seen.filter((one) => one.url === '/images.idx').length > 1)
        return whole(request, response);
      response.writeHead(200, { etag: '"1"', 'content-length': images.length });
      response.write(images.subarray(0, half));
    };
    await mkdir(folder('partial'), { recursive: true });
    const { child, ended } = startCdl(['ingest', '--json'], options());
    const tooSoon = ended.then(({ stderr }) => expect.fail(`ended by itself: ${stderr}`));
    await Promise.race([written(folder('partial'), half), tooSoon]);
    child.kill('SIGKILL');
    expect((await ended).code).toBeNull();
    const second = await runCdl(['ingest', '--json'], options());
    expect(second.stderr).not.toContain('cdl:');
    expect(second.code).toBe(0);
    expect(seen.filter((one) => one.url === '/images.idx').map((one) => one.range)).toEqual([
      undefined,
      `bytes=${half}-`,
    ]);
    await scratch.write({ 'cdl.yaml': tinyConfig() });
    const local = await runCdl(['ingest', '--json'], options());
    const version = (text: string) => (JSON.parse(text) as { outputs: { items: string } }).outputs.items;
    expect(version(local.stdout)).toBe(version(second.stdout));
  });

  it('twice at once asks for each file once, and leaves whole files alone', async () => {
    answer = whole;
    const both = await Promise.all([1, 2].map(() => runCdl(['ingest', '--json'], options())));
    expect(both.map((one) => one.code)).toEqual([0, 0]);
    expect(seen.map((one) => one.url).sort()).toEqual(['/images.idx', '/labels.idx']);
    expect(await readdir(folder('partial'))).toEqual([]);
    const kept = await readdir(folder('sources'));
    const all = await Promise.all(kept.map((name) => readFile(join(folder('sources'), name))));
    expect(all.map((bytes) => bytes.length).sort((a, b) => a - b)).toEqual([labels.length, images.length]);
  });
});
