import { createHash } from 'node:crypto';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { Header } from 'tar';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ZipFile } from 'yazl';
import { type DatasetConfig, parseProject, type SourceConfig } from '../../src/core/project.ts';
import { defaultLimits, type ReadConfig } from '../../src/core/project-read.ts';
import { readRawSource } from '../../src/data/raw-read.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-read-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

type Files = Record<string, string | Buffer>;

async function zipOf(files: Files, compress = true): Promise<Buffer> {
  const zip = new ZipFile();
  for (const [path, bytes] of Object.entries(files)) zip.addBuffer(Buffer.from(bytes), path, { compress });
  zip.end();
  return buffer(zip.outputStream as unknown as AsyncIterable<Uint8Array>);
}

/** A tar with these members; `size` may lie. */
function tarOf(
  members: { path: string; bytes?: Buffer; type?: 'File' | 'SymbolicLink' | 'FIFO'; linkpath?: string }[],
) {
  const blocks = members.flatMap(({ path, bytes = Buffer.alloc(0), type = 'File', linkpath }) => {
    const head = Buffer.alloc(512);
    new Header({ path, size: bytes.length, type, mode: 0o644, ...(linkpath && { linkpath }) }).encode(head);
    return [head, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

const filesOf = (files: Files) =>
  tarOf(Object.entries(files).map(([path, bytes]) => ({ path, bytes: Buffer.from(bytes) })));

async function readAll(
  name: string,
  bytes: Buffer,
  read: ReadConfig,
  more: { item?: DatasetConfig['item']; limits?: Partial<typeof defaultLimits> } = {},
) {
  const path = join(folder, createHash('sha256').update(bytes).digest('hex'));
  await writeFile(path, bytes);
  return readPath(path, name, read, more);
}

async function readPath(
  path: string,
  name: string,
  read: ReadConfig,
  more: { item?: DatasetConfig['item']; limits?: Partial<typeof defaultLimits> } = {},
) {
  const sha256 = 'a'.repeat(64);
  const source: SourceConfig = { file: [name], sha256, read, limits: { ...defaultLimits, ...more.limits } };
  const config: DatasetConfig = {
    item: more.item ?? 'text',
    shape: [],
    classes: ['food', 'sport'],
    sources: [source],
    split: { key: 'k', test: 0.2, validation: 0.1 },
    rules: { min_items: 1, min_per_class: 1, max_invalid: 0.5 },
  };
  const items: { text: string; label: number | null; extension: string; attributes: object }[] = [];
  const aside: [string, string][] = [];
  for await (const one of readRawSource(config, { source, files: [{ name, path, sha256 }] })) {
    if ('reason' in one) aside.push([one.reason, one.position]);
    else {
      const { label, extension, attributes } = one;
      items.push({ text: Buffer.from(one.bytes).toString('utf8'), label, extension, attributes });
    }
  }
  return { items, aside };
}

const folders: ReadConfig = { format: 'class-folders', folder: 'texts' };
const csv = (rest: object): ReadConfig => ({ format: 'csv', delimiter: ',', ...rest });

describe('folders of classes', () => {
  const files = {
    'texts/food/1.txt': 'soup',
    'texts/sport/a.txt': 'goal',
    'texts/other/x.txt': 'no',
    'y.txt': '',
  };
  test('read the same from a zip, a tar and a tgz', async () => {
    const expected = [
      { text: 'soup', label: 0, extension: 'txt', attributes: { path: 'texts/food/1.txt' } },
      { text: 'goal', label: 1, extension: 'txt', attributes: { path: 'texts/sport/a.txt' } },
    ];
    expect((await readAll('a.zip', await zipOf(files), folders)).items).toEqual(expected);
    expect((await readAll('a.tar', filesOf(files), folders)).items).toEqual(expected);
    expect((await readAll('a.tgz', gzipSync(filesOf(files)), folders)).items).toEqual(expected);
  });

  test('text-folder takes every text, labelled where a folder is called as a class', async () => {
    const read: ReadConfig = { format: 'text-folder', folder: '', extensions: ['txt'] };
    const { items } = await readAll(
      'b.zip',
      await zipOf({ 'd/food/1.txt': 'soup', 'd/z.txt': 'plain', 'd/p.png': 'no' }),
      read,
    );
    expect(items.map(({ text, label }) => [text, label])).toEqual([
      ['soup', 0],
      ['plain', null],
    ]);
  });

  test('a source without anything that is described says so', async () => {
    await expect(readAll('c.zip', await zipOf({ 'q.txt': 'x' }), folders)).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringContaining('c.zip holds nothing'),
      hint: 'it has q.txt: compare that with read: (format class-folders) and classes: in cdl.yaml',
    });
    const many = Object.fromEntries(Array.from({ length: 7 }, (_, index) => [`x/${index}.txt`, 'x']));
    await expect(readAll('d.tar', filesOf(many), folders)).rejects.toMatchObject({
      hint: expect.stringContaining('it has x/0.txt, x/1.txt, x/2.txt, x/3.txt, x/4.txt, …:'),
    });
    await expect(readAll('e.zip', await zipOf({}), folders)).rejects.toMatchObject({ hint: 'it is empty' });
  });

  test('a folder is called by its own name, however many files it has', async () => {
    const path = join(folder, 'q.txt');
    await writeFile(path, 'x');
    const sha256 = 'a'.repeat(64);
    const source: SourceConfig = { file: ['photos'], sha256, read: folders, limits: defaultLimits };
    const files = ['a', 'b'].map((name) => ({
      name: `x/${name}.txt`,
      path,
      sha256,
      plain: { problem: null },
    }));
    const config = {
      item: 'text',
      classes: ['food', 'sport'],
      sources: [source],
    } as unknown as DatasetConfig;
    await expect(readRawSource(config, { source, files }).next()).rejects.toMatchObject({
      message: 'photos holds nothing that read: describes',
    });
  });

  test.each(['tar', 'tgz', 'tar.gz'])('an archive without members (%s) is an empty source', async (kind) => {
    const bytes = kind === 'tar' ? tarOf([]) : gzipSync(tarOf([]));
    await expect(readAll(`e.${kind}`, bytes, folders)).rejects.toMatchObject({
      code: 'data-invalid',
      message: `e.${kind} holds nothing that read: describes`,
      hint: 'it is empty',
    });
    const short = kind === 'tar' ? bytes.subarray(0, 300) : gzipSync(Buffer.alloc(300));
    await expect(readAll(`e.${kind}`, short, folders)).rejects.toMatchObject({
      message: expect.stringContaining(`e.${kind} cannot be unpacked`),
    });
  });

  test.each([
    ['bzip2', 'BZh91AY'],
    ['xz', '\xfd7zXZ\0\0'],
    ['zstd', '\x28\xb5\x2f\xfd'],
    ['7z', '7z\xbc\xaf\x27\x1c'],
    ['rar', 'Rar!\x1a\x07\x01'],
  ])('a source packed with %s is told how to be packed', async (packing, magic) => {
    const bytes = Buffer.concat([Buffer.from(magic, 'latin1'), Buffer.alloc(300, 7)]);
    await expect(readAll('c.tar.x', bytes, folders)).rejects.toMatchObject({
      code: 'data-invalid',
      hint: `c.tar.x is packed with ${packing}, which is not read: pack it as .tar.gz or .zip`,
    });
  });
});

describe('rows', () => {
  const table =
    '\ufeffid,story,topic,who,note\n1,"soup, ""hot""\nand salt",food,ann,x\n2,goal,,bob,\n3,oops,maths,,\n4,short\n';

  test('of a CSV become texts with label, group and attributes; what is none is set aside by line', async () => {
    const read = csv({ text: 'story', label: 'topic', group: 'who', attributes: ['note'] });
    const { items, aside } = await readAll('t.csv', Buffer.from(table), read);
    expect(items).toEqual([
      {
        text: 'soup, "hot"\nand salt',
        label: 0,
        extension: 'txt',
        attributes: { path: 't.csv', group: 'ann', note: 'x' },
      },
      { text: 'goal', label: null, extension: 'txt', attributes: { path: 't.csv', group: 'bob', note: '' } },
    ]);
    expect(aside).toEqual([
      ['unknown-class', 't.csv:5'],
      ['wrong-length', 't.csv:6'],
    ]);
    const packed = await readAll('https://host/t.csv.gz?x=1', gzipSync(Buffer.from(table)), read);
    expect(packed.items).toEqual(items);
  });

  test('become records without their label, the same whatever the order of the columns', async () => {
    const one = await readAll('r.csv', Buffer.from('b,y,a\n2,food,1\n'), csv({ label: 'y' }), {
      item: 'record',
    });
    const other = await readAll('s.csv', Buffer.from('a,b,y\n1,2,food\n'), csv({ label: 'y' }), {
      item: 'record',
    });
    expect(one.items[0]).toMatchObject({ text: '{"a":"1","b":"2"}', label: 0, extension: 'json' });
    expect(other.items[0]!.text).toBe(one.items[0]!.text);
  });

  test('name the pictures of an archive', async () => {
    const bytes = await zipOf({
      'list.csv': 'p,y\nimg/1.png,food\nimg/2.png,sport\nimg/3.png,\n',
      'img/1.png': 'one',
      'img/2.png': 'two',
    });
    const { items, aside } = await readAll('p.zip', bytes, csv({ file: 'p', label: 'y' }), { item: 'image' });
    expect(items.map(({ text, label }) => [text, label])).toEqual([
      ['one', 0],
      ['two', 1],
    ]);
    expect(aside).toEqual([['file-missing', 'list.csv:4 img/3.png']]);
  });

  test('of JSON lines: what is no record, no UTF-8 or too large is set aside', async () => {
    const lines = Buffer.concat([
      Buffer.from('{"t":"soup","y":"food"}\r\n[1]\n{"t":\n\n{"t":5}\n'),
      Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d, 10]),
      Buffer.from(`{"t":"${'x'.repeat(200)}"}\n{"t":"\\ud800"}\n{"t":"last"}`),
    ]);
    const read: ReadConfig = { format: 'jsonl', text: 't', label: 'y' };
    const { items, aside } = await readAll('l.jsonl', lines, read, { limits: { item: 100 } });
    expect(items.map(({ text }) => text)).toEqual(['soup', 'last']);
    expect(aside).toEqual([
      ['not-a-record', 'l.jsonl:2'],
      ['not-a-record', 'l.jsonl:3'],
      ['no-text', 'l.jsonl:5'],
      ['not-utf-8', 'l.jsonl:6'],
      ['too-large', 'l.jsonl:7'],
      ['not-utf-8', 'l.jsonl:8'],
    ]);
  });

  test('of a CSV that are too large or no UTF-8 are set aside; the sign for what is none is a character', async () => {
    const bytes = Buffer.concat([
      Buffer.from('\ufeff"t"§y\nsoup \ufffd é§food\n"big\n'),
      Buffer.from(`${'x'.repeat(200)}"§food\nbad`),
      Buffer.from([0xff]),
      Buffer.from('§food\n\ufefflast§sport\n'),
    ]);
    const read = csv({ text: 't', label: 'y', delimiter: '§' });
    const { items, aside } = await readAll('u.csv', bytes, read, { limits: { item: 100 } });
    expect(items.map(({ text, label }) => [text, label])).toEqual([
      ['soup \ufffd é', 0],
      ['\ufefflast', 1],
    ]);
    expect(aside).toEqual([
      ['too-large', 'u.csv:3'],
      ['not-utf-8', 'u.csv:5'],
    ]);
  });

  test('of a CSV in UTF-16 with its mark are read, too', async () => {
    const bytes = Buffer.from('\ufefft,y\r\nsüß,food\r\n', 'utf16le');
    const { items } = await readAll('w.csv', bytes, csv({ text: 't', label: 'y' }));
    expect(items.map(({ text, label }) => [text, label])).toEqual([['süß', 0]]);
  });

  test.each([
    ['label', { label: 'topics' }],
    ['group', { group: 'topics' }],
    ['attributes', { attributes: ['story', 'topics'] }],
  ])('without a column that %s names are refused, and the nearest one is told', async (key, wrong) => {
    const expected = {
      code: 'data-invalid',
      message: expect.stringMatching(
        new RegExp(`^m\\.\\w+ has no column "topics", which read.${key} names$`),
      ),
      hint: 'did you mean "topic"?',
    };
    const rows = Buffer.from('story,topic\nsoup,food\n');
    await expect(readAll('m.csv', rows, csv({ text: 'story', ...wrong }))).rejects.toMatchObject(expected);
    const lines = '{"story":"soup","topic":"food"}\n';
    const read: ReadConfig = { format: 'jsonl', text: 'story', ...wrong };
    await expect(readAll('m.jsonl', Buffer.from(lines), read)).rejects.toMatchObject(expected);
    // Here one row has it, which need not be each.
    const some = Buffer.from(`${lines}{"story":"goal","topics":"sport"}\n`);
    expect((await readAll('m.jsonl', some, read)).items).toHaveLength(2);
  });

  test('a file that is no CSV is named with the line', async () => {
    await expect(readAll('bad.csv', Buffer.from('a,b\n1,"x" y\n'), csv({ text: 'a' }))).rejects.toMatchObject(
      { code: 'data-invalid', message: expect.stringMatching(/^bad.csv is no CSV: .* line 2/) },
    );
  });
});

describe('an archive that is not to be trusted', () => {
  test.each(['../evil.txt', '/etc/passwd', 'texts/food/../../../x.txt'])(
    'with %s is refused',
    async (path) => {
      const bad = { code: 'data-invalid', message: expect.stringContaining('leads out of it') };
      await expect(readAll('e.tar', filesOf({ [path]: 'x' }), folders)).rejects.toMatchObject(bad);
      // A writer of zips refuses such a name, so it is put into the bytes afterwards.
      const other = path.replace(/[./]/g, '_');
      const zip = Buffer.from(
        (await zipOf({ [other]: 'x' })).toString('latin1').replaceAll(other, path),
        'latin1',
      );
      await expect(readAll('e.zip', zip, folders)).rejects.toMatchObject(bad);
    },
  );

  test('has links, empty and too large files and names that are no text set aside', async () => {
    const latin = filesOf({ 'texts/food/caf\u00e9.txt': 'x' });
    const bytes = tarOf([
      { path: 'texts/food/link.txt', type: 'SymbolicLink', linkpath: '/etc/passwd' },
      { path: 'texts/food/pipe.txt', type: 'FIFO' },
      { path: 'texts/food/0.txt' },
      { path: 'texts/food/big.txt', bytes: Buffer.alloc(2000, 65) },
      { path: 'texts/food/ok.txt', bytes: Buffer.from('ok') },
    ]);
    const { items, aside } = await readAll('l.tar', bytes, folders, { limits: { item: 1000 } });
    expect(items.map(({ text }) => text)).toEqual(['ok']);
    expect(aside).toEqual([
      ['link', 'texts/food/link.txt'],
      ['pipe', 'texts/food/pipe.txt'],
      ['empty', 'texts/food/0.txt'],
      ['too-large', 'texts/food/big.txt'],
    ]);
    const at = latin.indexOf(Buffer.from('\u00e9'));
    latin.write('\xe9\x20', at, 'latin1');
    // The checksum of the header counts its bytes (POSIX ustar).
    latin.fill(' ', 148, 156);
    const sum = latin.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    latin.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    expect((await readAll('n.tar', latin, folders)).aside[0]![0]).toBe('name-not-utf-8');
    const zip = await zipOf({ 'texts/food/cafE.txt': 'x' });
    const named = Buffer.from(zip.toString('latin1').replaceAll('cafE', 'caf\xe9'), 'latin1');
    expect((await readAll('n.zip', named, folders)).aside[0]![0]).toBe('name-not-utf-8');
  });

  test('that unpacks to too much is refused before it fills anything', async () => {
    const zeros = Buffer.alloc(32 << 20);
    const zip = await zipOf({ 'texts/food/a.txt': zeros });
    await expect(readAll('z.zip', zip, folders)).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringContaining('limits.ratio'),
    });
    const tgz = gzipSync(filesOf({ 'texts/food/a.txt': zeros }));
    await expect(readAll('z.tgz', tgz, folders)).rejects.toMatchObject({
      message: expect.stringMatching(/limits.ratio|decompression ratio/),
    });
    await expect(readAll('y.zip', zip, folders, { limits: { unpacked: 1000 } })).rejects.toMatchObject({
      message: expect.stringContaining('limits.unpacked'),
    });
    const lines = gzipSync(zeros);
    await expect(
      readAll('z.jsonl.gz', lines, { format: 'jsonl', text: 't' }, { limits: { unpacked: 1 << 20 } }),
    ).rejects.toMatchObject({ message: expect.stringContaining('limits.unpacked') });
  });

  test.each(['tar', 'tgz', 'zip'])('that breaks off (%s) is refused', async (kind) => {
    const files = {
      'texts/food/a.txt': Buffer.alloc(5000, 'abc'),
      'texts/food/b.txt': Buffer.alloc(5000, 'xyz'),
    };
    const whole = { tar: filesOf(files), tgz: gzipSync(filesOf(files)), zip: await zipOf(files, false) }[
      kind
    ]!;
    const bytes = whole.subarray(0, Math.floor(whole.length * 0.6));
    await expect(readAll(`h.${kind}`, bytes, folders)).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringMatching(/cannot be unpacked/),
    });
  });

  test('a huge file that claims to be a table is one line too large, and is not held', async () => {
    const path = join(folder, 'huge.jsonl');
    await writeFile(path, '');
    await truncate(path, 300 << 20);
    const { items, aside } = await readPath(path, 'huge.jsonl', { format: 'jsonl', text: 't' });
    expect([items, aside]).toEqual([[], [['too-large', 'huge.jsonl:1']]]);
  });
});

describe('cdl.yaml', () => {
  const project = (dataset: string) => `version: 1
project: p
requirements: { problem: p, owner: o }
datasets:
  d:
    ${dataset}
    classes: [a, b]
    split: { key: k, test: 0.2 }
models: {}
`;
  const source = (read: string, more = '') =>
    `sources: [{ file: [x], sha256: ${'a'.repeat(64)}, read: ${read}${more} }]`;

  test.each([
    [source('{ format: idx, images: [i], labels: [l] }'), /shape/],
    [`item: text\n    shape: [1]\n    ${source('{ format: csv, text: t }')}`, /only tensors have a shape/],
    [`item: text\n    ${source('{ format: csv }')}`, /read.text names no column/],
    [`item: image\n    ${source('{ format: text-folder }')}`, /text-folder gives texts/],
    [`item: text\n    ${source('{ format: text-folder, folder: ../x }')}`, /without "\.\."/],
    [`item: text\n    ${source('{ format: text-folder }', ', side: test')}`, /no source is of side: train/],
  ])('says what does not go together: %s', (dataset, message) => {
    expect(() => parseProject(project(dataset))).toThrow(message);
  });
});
