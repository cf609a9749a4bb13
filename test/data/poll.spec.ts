import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { applyNews } from '../../bot/data-news.ts';
import { dataNewsSchema } from '../../src/core/data-news.ts';
import type { SourceConfig } from '../../src/core/project.ts';
import { defaultLimits } from '../../src/core/project-read.ts';
import { parseMemory, pollSources } from '../../src/data/poll.ts';
import { tinyConfig } from '../steps/project.ts';

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

let server: Server;
let url: string;
let answers: Record<string, { body: string; etag?: string }>;
let requests: string[];
beforeAll(async () => {
  server = createServer((request, response) => {
    const answer = answers[request.url ?? ''];
    const same = answer?.etag !== undefined && request.headers['if-none-match'] === answer.etag;
    response.statusCode = !answer ? 404 : same ? 304 : 200;
    requests.push(`${request.url} ${response.statusCode}`);
    if (answer?.etag) response.setHeader('etag', answer.etag);
    response.end(same || !answer ? undefined : answer.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => new Promise((resolve) => server.close(resolve)));
beforeEach(() => {
  requests = [];
  answers = {};
});

const read = { format: 'idx', images: ['a'], labels: ['b'] } as const;
const poll = (sources: SourceConfig[], memory = {}) =>
  pollSources(sources, parseMemory(memory), {
    root: '/',
    npmRegistry: `${url}/`,
    signal: new AbortController().signal,
  });

describe('polling sources', () => {
  it('finds bytes of another sha256, and asks for an unchanged file without its body', async () => {
    answers['/x'] = { body: 'one', etag: '"1"' };
    const source: SourceConfig = {
      https: [`${url}/x`],
      sha256: [sha256('one')],
      read: { ...read, images: ['x'], labels: ['x'] },
    };
    const first = await poll([source]);
    expect(first.changes).toEqual([]);
    const second = await poll([source], first.memory);
    expect(second).toEqual(first);
    expect(requests).toEqual(['/x 200', '/x 304']);
    answers['/x'] = { body: 'two', etag: '"2"' };
    const third = await poll([source], second.memory);
    expect(third.changes).toEqual([
      { source: 0, file: 0, kind: 'sha256', from: sha256('one'), to: sha256('two') },
    ]);
    // The server calls it unchanged, but it is still not what is pinned.
    expect((await poll([source], third.memory)).changes).toEqual(third.changes);
  });

  it('finds a later version of an npm package, with the digest of its archive', async () => {
    const versions = Object.fromEntries(
      ['1.0.0', '1.1.0'].map((one) => [one, { dist: { tarball: `${url}/${one}.tgz` } }]),
    );
    answers['/data'] = { body: JSON.stringify({ 'dist-tags': { latest: '1.1.0' }, versions }) };
    answers['/1.1.0.tgz'] = { body: 'archive' };
    const { changes } = await poll([
      { npm: 'data@1.0.0', sha256: sha256('old'), read: { ...read, images: ['a'], labels: ['b'] } },
    ]);
    expect(changes).toEqual([
      { source: 0, kind: 'npm', from: 'data@1.0.0', to: 'data@1.1.0' },
      { source: 0, file: null, kind: 'sha256', from: sha256('old'), to: sha256('archive') },
    ]);
  });

  it('names a source that cannot be reached, and that is no news', async () => {
    const found = await poll([
      { https: [`${url}/gone`], sha256: sha256('x'), read: { ...read, images: ['a'], labels: ['b'] } },
    ]);
    expect(found.changes).toEqual([]);
    expect(found.seen).toEqual([{ name: `${url}/gone`, state: 'unreachable', detail: 'answered 404' }]);
  });

  it('reads no more of a source than limits.file', async () => {
    answers['/x'] = { body: 'y'.repeat(5000) };
    const source = {
      https: [`${url}/x`],
      sha256: sha256('x'),
      read: { ...read, images: ['a'], labels: ['b'] },
    };
    const found = await poll([{ ...source, limits: { ...defaultLimits, file: 1000 } }]);
    expect(found.changes).toEqual([]);
    expect(found.seen[0]!.detail).toBe('has more than 1000 bytes (limits.file)');
    expect((await poll([source])).changes).toHaveLength(1);
  });
});

describe('a finding', () => {
  const text = tinyConfig();
  const pins = [...text.matchAll(/[0-9a-f]{64}/g)].map(([pin]) => pin);
  const change = { source: 0, file: 1, kind: 'sha256', from: pins[1]!, to: 'e'.repeat(64) } as const;
  const news = { v: 1, dataset: 'halves', changes: [change] } as const;

  it('changes just its pins in cdl.yaml, and nothing a second time', () => {
    const written = applyNews(text, { ...news, changes: [change] });
    expect(written).toBe(text.replace(pins[1]!, 'e'.repeat(64)));
    expect(applyNews(written!, { ...news, changes: [change] })).toBeNull();
  });

  it('about an older cdl.yaml, another data set or a place that is no pin changes nothing', () => {
    for (const odd of [
      { ...news, changes: [{ ...change, from: 'd'.repeat(64) }] },
      { ...news, dataset: 'other', changes: [change] },
      { ...news, changes: [{ ...change, source: 7 }] },
      { ...news, changes: [{ ...change, file: null }] },
    ])
      expect(applyNews(text, odd)).toBeNull();
  });

  it('made up by a job can hold nothing but digests and exact npm versions', () => {
    const npm = (to: string) => ({ ...news, changes: [{ source: 0, kind: 'npm', from: 'a@1.0.0', to }] });
    expect(dataNewsSchema.safeParse(npm('@scope/a@1.2.3-rc.1')).success).toBe(true);
    for (const to of ['a@latest', 'a@1.0.0\nroles: {}', 'https://evil/a@1.0.0', 'a@1.0.0 # x'])
      expect(dataNewsSchema.safeParse(npm(to)).success).toBe(false);
  });
});
