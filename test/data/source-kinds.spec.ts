import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, createServer as createSocket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { DatasetConfig, SourceConfig } from '../../src/core/project.ts';
import { datasetSchema } from '../../src/core/project-data.ts';
import { defaultLimits } from '../../src/core/project-read.ts';
import { idxHeader } from '../../src/data/idx.ts';
import { pollSources } from '../../src/data/poll.ts';
import { readRawSource } from '../../src/data/raw-read.ts';
import { readItems } from '../../src/data/read.ts';
import { decodeListing, encodeListing, listingDigest } from '../../src/data/source/listing.ts';
import { type FetchedSource, fetchSource } from '../../src/data/sources.ts';
import { run } from '../../src/exec/run.ts';
import { openStore } from '../../src/store/index.ts';
import { findMinio, type MinioServer, startMinio } from '../contract/minio.ts';

const read = { format: 'class-folders', folder: '' } as const satisfies SourceConfig['read'];
const sha = (text: string | Buffer) => createHash('sha256').update(text).digest('hex');
const config = { item: 'text', classes: ['cat', 'dog'] } as unknown as DatasetConfig;

const parseSource = (source: object) =>
  datasetSchema.parse({
    item: 'text',
    classes: ['cat', 'dog'],
    sources: [{ ...source, read }],
    split: { key: 'k', test: 0.2, validation: 0.1 },
  });

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-kinds-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const options = () => ({ cacheFolder: join(folder, 'cache'), root: folder, retryDelay: 1 });

async function write(files: Record<string, string | Buffer>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), content);
  }
}

/** What a source gives to a reader: label and text, or the reason and the place. */
async function itemsOf(fetched: FetchedSource): Promise<string[]> {
  const all: string[] = [];
  for await (const one of readRawSource(config, fetched)) {
    all.push('reason' in one ? `${one.reason} ${one.position}` : `${one.label} ${one.bytes.toString()}`);
  }
  return all;
}

const texts = { 'cat/a.txt': 'miaow', 'cat/deep/b.txt': 'purr', 'dog/c.txt': 'woof', 'cat/empty.txt': '' };
const below = (at: string) =>
  Object.fromEntries(Object.entries(texts).map(([path, text]) => [at + path, text]));
const lines = Object.entries(texts)
  .sort(([a], [b]) => (a < b ? -1 : 1))
  .map(([path, text]) => `${sha(text)}  ${path}\n`);
const pin = sha(lines.join(''));
const items = ['0 miaow', '0 purr', 'empty cat/empty.txt', '1 woof'];

describe('a listing', () => {
  it('survives any names, and does not depend on their order', () => {
    const name = fc.string({
      minLength: 1,
      unit: fc.constantFrom('a', 'é', ' ', '\\', '\n', '\r', '/', 'n'),
    });
    const file = fc.record({ path: name, sha256: fc.constantFrom(sha('x'), sha('y')) });
    fc.assert(
      fc.property(fc.uniqueArray(file, { selector: (one) => one.path }), (files) => {
        const text = encodeListing(files);
        expect(new Set(decodeListing(text))).toEqual(new Set(files));
        expect(listingDigest([...files].reverse())).toBe(sha(text));
      }),
    );
  });
});

describe('a folder', () => {
  it('is read where it lies, pinned by what sha256sum prints of it', async () => {
    await write(below('data/'));
    const printed = await run('sh', ['-c', 'find * -type f | LC_ALL=C sort | xargs sha256sum'], {
      cwd: join(folder, 'data'),
    });
    expect(sha(printed.stdout)).toBe(pin);
    const fetched = await fetchSource({ file: ['data/'], sha256: pin, read }, options());
    expect(fetched.files[0]!.path).toBe(join(folder, 'data/cat/a.txt'));
    expect((await itemsOf(fetched)).sort()).toEqual([...items].sort());
    expect(await readdir(join(folder, 'cache', 'sources'))).toEqual([]);
  });

  it('by a glob gives what matches, and says when nothing does', async () => {
    await write({ ...below('data/'), 'data/cat/notes.md': 'no' });
    const fetched = await fetchSource({ file: ['data/**/*.txt'], read }, options());
    expect(fetched.source.sha256).toBe(pin);
    await expect(fetchSource({ file: ['data/**/*.png'], read }, options())).rejects.toMatchObject({
      code: 'source-unreachable',
      message: expect.stringContaining('no file'),
    });
  });

  it('gives tensor files that are packed, and refuses one that changed since it was looked at', async () => {
    await write({
      'data/images.gz': gzipSync(Buffer.concat([idxHeader([2, 1, 2]), Buffer.from([1, 2, 3, 4])])),
    });
    await write({ 'data/labels': Buffer.concat([idxHeader([2]), Buffer.from([1, 0])]) });
    const idx = { format: 'idx', images: ['images.gz'], labels: ['labels'] } as const;
    const fetched = await fetchSource({ file: ['data'], read: idx as never }, options());
    const tensors = { item: 'tensor', shape: [1, 2], classes: ['cat', 'dog'] } as unknown as DatasetConfig;
    expect([...(await readItems(tensors, fetched)).x]).toEqual([1, 2, 3, 4]);
    await write({
      'data/images.gz': gzipSync(Buffer.concat([idxHeader([2, 1, 2]), Buffer.from([9, 2, 3, 4])])),
    });
    await expect(readItems(tensors, fetched)).rejects.toMatchObject({
      message: expect.stringContaining('images.gz changed while it was read'),
    });
  });

  it('gives the rows of packed tables, held to what was looked at, and packed items as they are', async () => {
    const rows = (...texts: string[]) =>
      gzipSync(texts.map((text) => `${JSON.stringify({ text, y: 'cat' })}\n`).join(''));
    const day = (name: string) => join(folder, 'data', name);
    await write({ 'data/a/1.jsonl.gz': rows('miaow', 'purr'), 'data/2.jsonl': '{"text":"mew"}\n' });
    await write({ 'data/cat/x.gz': rows('no table') });
    const tables = { format: 'jsonl', text: 'text', label: 'y' } as never;
    const fetched = await fetchSource({ file: ['data'], read: tables }, options());
    expect((await itemsOf(fetched)).sort()).toEqual(['0 miaow', '0 purr', 'null mew']);
    const glob = await fetchSource(
      { file: ['data/**/*.jsonl.gz'], read: { ...(tables as object), files: '**/1.jsonl.gz' } as never },
      options(),
    );
    expect((await itemsOf(glob)).sort()).toEqual(['0 miaow', '0 purr']);
    const packed = await fetchSource(
      { file: ['data/cat'], read: { format: 'text-folder', folder: '', extensions: ['gz'] } as never },
      options(),
    );
    expect(await itemsOf(packed)).toEqual([`null ${rows('no table').toString('utf8')}`]);

    const limits = { ...defaultLimits, unpacked: 40 };
    await expect(itemsOf({ ...fetched, source: { ...fetched.source, limits } })).rejects.toMatchObject({
      code: 'data-invalid',
      message: 'a/1.jsonl.gz unpacks to more than 40 bytes (limits.unpacked)',
    });
    await writeFile(day('a/1.jsonl.gz'), rows('miaow', 'hiss'));
    await expect(itemsOf(fetched)).rejects.toMatchObject({
      message: expect.stringContaining('1.jsonl.gz changed while it was read'),
    });
    await writeFile(day('a/1.jsonl.gz'), rows('miaow').subarray(0, 25));
    await expect(
      itemsOf(await fetchSource({ file: ['data'], read: tables }, options())),
    ).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringMatching(/^a\/1\.jsonl\.gz cannot be unpacked: /),
    });
  });

  it('sets links and names that are no text aside, and leads nowhere', async () => {
    await write(below('data/'));
    await symlink('/etc/passwd', join(folder, 'data/cat/link.txt'));
    const odd = Buffer.concat([Buffer.from(join(folder, 'data/dog/')), Buffer.from([0xff, 0x2e])]);
    await writeFile(odd, 'odd');
    const fetched = await fetchSource({ file: ['data'], read }, options());
    expect((await itemsOf(fetched)).sort()).toEqual(
      [...items, 'link cat/link.txt', 'name-not-utf-8 dog/\ufffd.'].sort(),
    );
  });

  it('says of sockets and pipes what they are', async () => {
    await write(below('data/'));
    const server = createSocket();
    await new Promise<void>((resolve) => server.listen(join(folder, 'data/cat/s.txt'), resolve));
    try {
      await run('mkfifo', [join(folder, 'data/cat/p.txt')]);
      const fetched = await fetchSource({ file: ['data'], read }, options());
      expect((await itemsOf(fetched)).sort()).toEqual(
        [...items, 'pipe cat/p.txt', 'socket cat/s.txt'].sort(),
      );
      // Nobody waits for what a pipe never says.
      const idx = { format: 'idx', images: ['p.txt'], labels: ['s.txt'] } as never;
      const tensors = { item: 'tensor', shape: [1], classes: ['cat', 'dog'] } as unknown as DatasetConfig;
      const tensorSource = { ...fetched, source: { ...fetched.source, read: idx } };
      await expect(readItems(tensors, tensorSource)).rejects.toMatchObject({ code: 'file-missing' });
    } finally {
      server.close();
    }
  });

  it('by a glob lists of the names that are no text those that match it, below folders of such names too', async () => {
    await write(below('data/'));
    const odd = Buffer.concat([Buffer.from(join(folder, 'data/cat/')), Buffer.from([0xff])]);
    await mkdir(odd);
    for (const name of ['/in.txt', '/in.md', '.txt', '.md']) {
      await writeFile(Buffer.concat([odd, Buffer.from(name)]), 'odd');
    }
    const fetched = await fetchSource({ file: ['data/**/*.txt'], read }, options());
    expect((await itemsOf(fetched)).sort()).toEqual(
      [...items, 'name-not-utf-8 cat/\ufffd.txt', 'name-not-utf-8 cat/\ufffd/in.txt'].sort(),
    );
  });

  it('that is not what is pinned, or changes while it is read, is refused', async () => {
    await write(below('data/'));
    const source: SourceConfig = { file: ['data'], sha256: pin, read };
    const fetched = await fetchSource(source, options());
    await write({ 'data/dog/c.txt': 'WOOF' });
    await expect(itemsOf(fetched)).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringContaining('changed while it was read'),
    });
    await expect(fetchSource(source, options())).rejects.toMatchObject({ code: 'source-mismatch' });
  });
});

describe('a git repository', () => {
  let url: string;
  let commit: string;
  const git = async (...args: string[]) => {
    const env = { PATH: process.env.PATH, GIT_CONFIG_NOSYSTEM: '1', HOME: folder };
    const set = ['-c', 'user.name=Ada', '-c', 'user.email=ada@example.com', '-c', 'init.defaultBranch=main'];
    const result = await run('git', ['-C', join(folder, 'repo'), ...set, ...args], { env });
    if (result.code !== 0) throw new Error(result.stderr.toString());
    return result.stdout.toString().trim();
  };
  beforeEach(async () => {
    await write({ ...below('repo/data/'), 'repo/other.txt': 'not wanted' });
    await git('init', '--quiet');
    await git('add', '--all');
    await git('commit', '--quiet', '-m', 'one');
    await git('tag', 'v1');
    commit = await git('rev-parse', 'HEAD');
    await writeFile(join(folder, 'repo/data/dog/c.txt'), 'later');
    await git('commit', '--quiet', '-am', 'two');
    url = `file://${join(folder, 'repo')}`;
  });
  const source = (ref: string, path = 'data'): SourceConfig => ({ git: { url, ref, path }, read });

  it('gives the files of a commit or tag below a path, and is not asked again for what is pinned', async () => {
    for (const ref of ['v1', commit]) {
      const fetched = await fetchSource(source(ref), options());
      expect(fetched.source.sha256).toBe(pin);
      expect((await itemsOf(fetched)).sort()).toEqual([...items].sort());
    }
    await rm(join(folder, 'repo'), { recursive: true });
    await rm(join(folder, 'cache', 'git'), { recursive: true });
    const fetched = await fetchSource({ ...source('v1'), sha256: pin }, options());
    expect((await itemsOf(fetched)).length).toBe(4);
    const file = await fetchSource({ ...source('v1'), sha256: pin }, options());
    expect(file.files.length).toBe(4);
  });

  it('names one file as well as a folder, and says what it has not', async () => {
    const one = await fetchSource(source('v1', 'data/dog/c.txt'), options());
    expect(one.files.map((file) => file.name)).toEqual(['c.txt']);
    await expect(fetchSource(source('v1', 'nothing'), options())).rejects.toMatchObject({
      code: 'file-missing',
    });
    for (const ref of ['v9', 'main', 'f'.repeat(40)])
      await expect(fetchSource(source(ref), options())).rejects.toMatchObject({ code: 'source-unreachable' });
  });

  it('sets links, other repositories and names that are no text aside, also when it comes from the cache', async () => {
    const inner = join(folder, 'repo/data/cat/inner');
    await symlink('/etc/passwd', join(folder, 'repo/data/cat/link.txt'));
    for (const byte of [0xfe, 0xff]) {
      const odd = Buffer.concat([Buffer.from(join(folder, 'repo/data/dog/')), Buffer.from([byte, 0x2e])]);
      await writeFile(odd, `odd ${byte}`);
    }
    await write({ 'repo/data/dog/[x]*/d.txt': 'howl' });
    await git('init', '--quiet', inner);
    await git('-C', inner, 'commit', '--quiet', '--allow-empty', '-m', 'inner');
    await git('-c', 'advice.addEmbeddedRepo=false', 'add', '--all');
    await git('commit', '--quiet', '-m', 'odd');
    await git('tag', 'odd');
    const odd = 'name-not-utf-8 dog/\ufffd.';
    const all = [...items.map((one) => (one === '1 woof' ? '1 later' : one)), '1 howl', odd, odd];
    all.push('link cat/inner', 'link cat/link.txt');
    const fetched = await fetchSource(source('odd'), options());
    expect((await itemsOf(fetched)).sort()).toEqual(all.sort());
    const one = await fetchSource(source('odd', 'data/dog/[x]*'), options());
    expect(one.files.map((file) => file.name)).toEqual(['d.txt']);
    await rm(join(folder, 'repo'), { recursive: true });
    const again = await fetchSource(fetched.source, options());
    expect((await itemsOf(again)).sort()).toEqual(all);
    await expect(fetchSource(source('v1'), options())).rejects.toMatchObject({
      code: 'source-unreachable',
      message: expect.stringContaining('does not appear to be a git repository'),
    });
  });

  it('whose tag was moved is refused, and so are pointers of Git LFS', async () => {
    await git('tag', '--force', 'v1');
    await expect(fetchSource({ ...source('v1'), sha256: pin }, options())).rejects.toMatchObject({
      code: 'source-mismatch',
    });
    const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n';
    await writeFile(join(folder, 'repo/data/cat/big.bin'), pointer);
    await git('add', '--all');
    await git('commit', '--quiet', '-m', 'lfs');
    await git('tag', 'v2');
    await expect(fetchSource(source('v2'), options())).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringMatching(/cat\/big\.bin .* pointer of Git LFS/),
    });
  });

  it('of a name that git would run a program for is none', () => {
    for (const bad of ['ext::sh -c id', '-u', 'https://me:secret@host/r.git'])
      expect(() => parseSource({ git: { url: bad, ref: 'v1' } })).toThrow();
    expect(parseSource({ git: { url, ref: 'v1' } }).sources[0]!.git!.path).toBe('');
    for (const bad of ['--upload-pack=x', 'a..b', 'v1 v2'])
      expect(() => parseSource({ git: { url, ref: bad } })).toThrow();
  });
});

describe('an address', () => {
  it('holds no credentials', () => {
    expect(() => parseSource({ https: ['https://me:secret@host/x'] })).toThrow(/CDL_SOURCE_TOKENS/);
    expect(parseSource({ https: ['https://host/x@1'] }).sources[0]!.https).toEqual(['https://host/x@1']);
  });
});

describe('an npm package', () => {
  let server: Server;
  let base: string;
  let integrity: string;
  const archive = Buffer.from('this stands for an archive');
  const seen: (string | undefined)[] = [];
  beforeAll(async () => {
    server = createServer((request, response) => {
      seen.push(request.headers.authorization);
      if (request.url === '/data/-/data-1.0.0.tgz') return response.end(archive);
      if (request.url !== '/data') return response.writeHead(404).end('{}');
      const dist = { tarball: `${base}data/-/data-1.0.0.tgz`, integrity };
      response.setHeader('content-type', 'application/json');
      response.end(
        JSON.stringify({
          name: 'data',
          'dist-tags': { latest: '1.0.0' },
          versions: { '1.0.0': { name: 'data', version: '1.0.0', dist } },
        }),
      );
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  });
  afterAll(() => server.close());
  const source: SourceConfig = { npm: 'data@1.0.0', read };

  it('has the integrity that its registry tells, or is refused', async () => {
    integrity = `sha512-${createHash('sha512').update(archive).digest('base64')}`;
    const wanted = { ...options(), npmRegistry: base, authorization: () => 'Bearer of-the-registry' };
    const { files } = await fetchSource(source, wanted);
    expect(await readFile(files[0]!.path)).toEqual(archive);
    expect(files[0]!.sha256).toBe(sha(archive));
    expect(new Set(seen)).toEqual(new Set(['Bearer of-the-registry']));
    await rm(join(folder, 'cache'), { recursive: true });
    integrity = `sha512-${createHash('sha512').update('else').digest('base64')}`;
    await expect(fetchSource(source, wanted)).rejects.toMatchObject({
      code: 'source-mismatch',
      message: expect.stringContaining('EINTEGRITY'),
    });
    expect(await readdir(join(folder, 'cache', 'sources'))).toEqual([]);
  });

  it('is one exact version: no range, folder or repository', async () => {
    for (const npm of ['data', 'data@^1.0.0', 'data@latest', './data', 'github:a/b', 'data@file:../x'])
      await expect(fetchSource({ npm, read }, options())).rejects.toMatchObject({ code: 'config-invalid' });
    await expect(
      fetchSource({ npm: 'gone@1.0.0', read }, { ...options(), npmRegistry: base }),
    ).rejects.toMatchObject({ code: 'source-unreachable', message: expect.stringContaining('404') });
  });
});

const minioBinary = findMinio();
describe.skipIf(minioBinary === null)('a bucket (of a real MinIO)', () => {
  let minio: MinioServer;
  beforeAll(async () => {
    minio = await startMinio(minioBinary!);
  });
  afterAll(() => minio.dispose());
  const url = (key: string) => `s3://${minio.bucket}/${key}?endpoint=${minio.endpoint}`;
  const put = async (files: Record<string, string | Buffer>) => {
    const store = await openStore(`s3://${minio.bucket}?endpoint=${minio.endpoint}`, minio.root);
    for (const [key, content] of Object.entries(files)) await store.put(key, content);
  };
  const access = () => ({ ...options(), s3: minio.root });

  it('gives one object, or all below a prefix, by the pin of a folder', async () => {
    await put({ ...below('set/'), 'single.bin': 'just one' });
    const one = await fetchSource({ s3: [url('single.bin')], sha256: sha('just one'), read }, access());
    expect(await readFile(one.files[0]!.path, 'utf8')).toBe('just one');
    const all = await fetchSource({ s3: [url('set/')], read }, access());
    expect(all.source.sha256).toBe(pin);
    expect((await itemsOf(all)).sort()).toEqual([...items].sort());
    // With the pin nobody is asked: not even credentials are needed.
    const again = await fetchSource({ s3: [url('set/')], sha256: pin, read }, options());
    expect((await itemsOf(again)).length).toBe(4);
  });

  it('goes on with an object whose download was stopped, unless it is another one by now', async () => {
    const large = Buffer.alloc(9 << 20, 'abcdefg');
    await put({ 'large.bin': large });
    const source: SourceConfig = { s3: [url('large.bin')], read };
    const stopped = async () => {
      const stop = new AbortController();
      const onProgress = ({ bytes }: { bytes: number }) => bytes > 1 << 20 && stop.abort();
      const going = fetchSource(source, { ...access(), signal: stop.signal, onProgress });
      await expect(going).rejects.toMatchObject({ code: 'interrupted' });
    };
    await stopped();
    const seen: number[] = [];
    const first = await fetchSource(source, { ...access(), onProgress: ({ bytes }) => seen.push(bytes) });
    expect(first.source.sha256).toBe(sha(large));
    expect(seen[0]).toBeGreaterThan(1 << 20);
    await stopped();
    const other = Buffer.alloc(9 << 20, 'hijklmn');
    await put({ 'large.bin': other });
    expect((await fetchSource(source, access())).source.sha256).toBe(sha(other));
  });

  it('is polled by its ETags: the bytes are asked for only when one is another', async () => {
    await put(below('polled/'));
    const source: SourceConfig = { s3: [url('polled/')], sha256: pin, read };
    const polling = { ...access(), npmRegistry: 'http://127.0.0.1:9/', signal: new AbortController().signal };
    const first = await pollSources([source], {}, polling);
    expect(first.changes).toEqual([]);
    await rm(join(folder, 'cache'), { recursive: true });
    expect(await pollSources([source], first.memory, polling)).toEqual(first);
    expect(await readdir(folder)).toEqual([]);
    await put({ 'polled/dog/c.txt': 'WOOF' });
    const { changes } = await pollSources([source], first.memory, polling);
    expect(changes).toMatchObject([
      { kind: 'sha256', from: pin, to: expect.stringMatching(/^[0-9a-f]{64}$/) },
    ]);
  });

  it('says which credentials are missing, and what is not there', async () => {
    await put({ 'single.bin': 'just one' });
    await expect(fetchSource({ s3: [url('single.bin')], read }, options())).rejects.toMatchObject({
      code: 'store-denied',
      hint: expect.stringContaining('CDL_SOURCE_ACCESS_KEY'),
    });
    for (const key of ['nowhere.bin', 'nowhere/'])
      await expect(fetchSource({ s3: [url(key)], read }, access())).rejects.toMatchObject({
        code: 'source-unreachable',
      });
  });
});
