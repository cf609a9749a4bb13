import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { applyNews } from '../../bot/data-news.ts';
import { type DataNews, dataNewsSchema } from '../../src/core/data-news.ts';
import type { SourceConfig } from '../../src/core/project.ts';
import { defaultLimits } from '../../src/core/project-read.ts';
import { parseMemory, pollSources } from '../../src/data/poll.ts';
import { run } from '../../src/exec/run.ts';
import { poll as pollStep } from '../../src/steps/poll.ts';
import { openScratch, tinyConfig, tinyFiles } from '../steps/project.ts';

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-poll-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

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
const anyRead: SourceConfig['read'] = { ...read, images: ['a'], labels: ['b'] };
const poll = (sources: SourceConfig[], memory = {}) =>
  pollSources(sources, parseMemory(memory), {
    cacheFolder: join(folder, 'cache'),
    root: folder,
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

  it('finds what changed in a folder', async () => {
    await mkdir(join(folder, 'data'));
    await writeFile(join(folder, 'data', 'a.txt'), 'one');
    const folderPin = (text: string) => sha256(`${sha256(text)}  a.txt\n`);
    const source: SourceConfig = { file: ['data'], sha256: folderPin('one'), read: anyRead };
    expect((await poll([source])).changes).toEqual([]);
    await writeFile(join(folder, 'data', 'a.txt'), 'two');
    expect((await poll([source])).changes).toEqual([
      { source: 0, file: null, kind: 'sha256', from: folderPin('one'), to: folderPin('two') },
    ]);
  });

  it('finds a later version tag of a repository, and a tag that was moved', async () => {
    const git = async (...args: string[]) => {
      const env = { PATH: process.env.PATH, HOME: folder, GIT_CONFIG_NOSYSTEM: '1' };
      const who = ['-c', 'user.name=Ada', '-c', 'user.email=ada@example.com'];
      const done = await run('git', ['-C', join(folder, 'repo'), ...who, ...args], { env });
      if (done.code !== 0) throw new Error(done.stderr.toString());
    };
    const commit = async (text: string, tag: string) => {
      await writeFile(join(folder, 'repo', 'a.txt'), text);
      await git('add', '--all');
      await git('commit', '--quiet', '-m', text);
      await git('tag', '--force', '-a', '-m', tag, tag);
    };
    await mkdir(join(folder, 'repo'));
    await git('init', '--quiet');
    await commit('one', 'v1.9.0');
    const pin = (text: string) => sha256(`${sha256(text)}  a.txt\n`);
    const source: SourceConfig = {
      git: { url: `file://${join(folder, 'repo')}`, ref: 'v1.9.0', path: '' },
      sha256: pin('one'),
      read: anyRead,
    };
    const first = await poll([source]);
    expect(first.changes).toEqual([]);
    await commit('moved', 'v1.9.0');
    expect((await poll([source], first.memory)).changes).toEqual([
      { source: 0, file: null, kind: 'sha256', from: pin('one'), to: pin('moved') },
    ]);
    await commit('two', 'v1.10.0');
    await commit('not yet', 'v2.0.0-rc.1');
    const later = await poll([source], first.memory);
    expect(later.changes).toEqual([
      { source: 0, kind: 'git', from: 'v1.9.0', to: 'v1.10.0' },
      { source: 0, file: null, kind: 'sha256', from: pin('one'), to: pin('two') },
    ]);
    expect(dataNewsSchema.safeParse({ v: 1, dataset: 'd', changes: later.changes }).success).toBe(true);
    const text = tinyConfig().replace(
      /- file: .*\n.*\n/,
      `- git: { url: "file:///r", ref: v1.9.0 } # here\n        sha256: ${pin('one')}\n`,
    );
    const written = applyNews(text, { v: 1, dataset: 'halves', changes: later.changes });
    expect(written).toBe(text.replace('v1.9.0', 'v1.10.0').replace(pin('one'), pin('two')));
  });

  it('has no news of what is not pinned, and says so', async () => {
    const found = await poll([{ https: [`${url}/x`], read: anyRead }]);
    expect(found).toMatchObject({ changes: [], seen: [{ state: 'not pinned' }] });
    expect(requests).toEqual([]);
  });

  it('names a source that cannot be reached, and that is no news', async () => {
    const found = await poll([
      { https: [`${url}/gone`], sha256: sha256('x'), read: { ...read, images: ['a'], labels: ['b'] } },
    ]);
    expect(found.changes).toEqual([]);
    expect(found.seen).toEqual([
      { name: `${url}/gone`, state: 'unreachable', detail: `${url}/gone answered 404` },
    ]);
  });

  it('fails when none of the pinned sources can be looked at, and names those that cannot', async () => {
    const second = `      - file: [data/gone.idx]
        read: { format: idx, images: [gone.idx], labels: [labels.idx] }
`;
    const scratch = await openScratch({
      ...tinyFiles(),
      'cdl.yaml': tinyConfig().replace('    split:', `${second}    split:`),
    });
    try {
      await rm(join(scratch.root, 'data', 'images.idx'));
      const given = { dataset: 'halves' };
      const told = async () => {
        const ctx = await scratch.context();
        return pollStep.run(ctx, given, folder, await pollStep.inputs(ctx, given));
      };
      const { report } = await told();
      expect(report.verdict).toBe('warn');
      expect(report.summary).toMatch(/1 of 3 could not be looked at: data\/images.idx: .*ENOENT/);
      await rm(join(scratch.root, 'data'), { recursive: true });
      await expect(told()).rejects.toMatchObject({
        code: 'source-unreachable',
        message: expect.stringMatching(/images.idx: .*\n.*labels.idx: /),
      });
    } finally {
      await scratch.remove();
    }
  });

  it('takes a mistake of its own for no source that is away', async () => {
    const source = { https: [`${url}/x`], sha256: sha256('x'), read: anyRead };
    const broken = Object.defineProperty({ ...source }, 'limits', {
      get: () => {
        throw new TypeError('a mistake');
      },
    });
    answers['/x'] = { body: 'x' };
    await expect(poll([broken as SourceConfig])).rejects.toThrow('a mistake');
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

  it('brings the sides of the items so far with the new pins, where items are grouped', () => {
    const raw = text
      .replace('shape: [4, 4]', 'item: text')
      .replace(/read: .*\}/, 'read: { format: text-folder }');
    const [one, two] = [`sha256:${'1'.repeat(64)}`, `sha256:${'2'.repeat(64)}`] as const;
    const first: DataNews = { ...news, changes: [change, { kind: 'after', from: null, to: one }] };
    const written = applyNews(raw, first)!;
    expect(written).toContain(`split: { after: ${one}, key: halves-1,`);
    expect(applyNews(written, first)).toBeNull();
    const next: DataNews = { ...news, changes: [{ kind: 'after', from: one, to: two }] };
    expect(applyNews(written, next)).toBe(written.replace(one, two));
    expect(applyNews(raw, next), 'of an older cdl.yaml').toBeNull();
    expect(
      dataNewsSchema.safeParse({ ...news, changes: [{ kind: 'after', from: null, to: 'x' }] }).success,
    ).toBe(false);
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
