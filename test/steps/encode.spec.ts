import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { artifactProblems } from '../../bot/claim.ts';
import type { Candidate } from '../../src/core/candidate.ts';
import { parseProject } from '../../src/core/project.ts';
import { openDataset } from '../../src/data/dataset.ts';
import { configuredEncoder } from '../../src/model/encoder.ts';
import { filesFromSource, packageProblems } from '../../src/model/source-files.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { packageStep } from '../../src/steps/package.ts';
import { register } from '../../src/steps/register.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { train } from '../../src/steps/train.ts';
import { transform } from '../../src/steps/transform.ts';
import type { Ctx } from '../../src/steps/types.ts';
import { expectOneAnswer, registered, saved } from './one-answer.ts';
import { openScratch, type Scratch } from './project.ts';

const all = { dataset: '', model: '', side: 'train' as const };

const config = (data: string, encode: string) => `version: 1
project: sides
requirements: { problem: which half is bright, owner: tests }
datasets:
  pictures:
    ${data}
    classes: [left, right]
    split: { key: sides-1, test: 0.2, validation: 0.2 }
models:
  sides:
    data: pictures
    code: [model.ts]
    encode: ${encode}
    hyperparameters: { epochs: 4, batch_size: 8, learning_rate: 0.05 }
`;

/** Neither fit nor encode: cdl.yaml says how items become numbers. */
const code = `export const preprocess = (tf, raw) => tf.div(tf.cast(raw, 'float32'), 255);
export const build = (tf, hyperparameters, { shape, classes }) =>
  tf.sequential({
    layers: [
      tf.layers.reshape({ inputShape: shape, targetShape: [shape.reduce((a, b) => a * b)] }),
      tf.layers.dense({ units: classes.length, activation: 'softmax' }),
    ],
  });
`;

/** Brightness of a pixel of picture `index`: the half of its class is bright. */
const pixel = (index: number, x: number, width: number) =>
  (x < width / 2 ? 0 : 1) === index % 2 ? 200 + (index % 50) : (index * 7) % 40;

/** PNG and JPEG, grey and in colour, of several sizes, one of them transparent. */
async function pictures(): Promise<Record<string, Buffer>> {
  const files: Record<string, Buffer> = {};
  for (let index = 0; index < 60; index++) {
    const [width, height, channels] = [8 + (index % 5), 6 + (index % 3), ([1, 3, 4] as const)[index % 3]!];
    const raw = Buffer.alloc(width * height * channels, 255);
    for (let at = 0; at < width * height; at++) {
      for (let channel = 0; channel < Math.min(channels, 3); channel++)
        raw[at * channels + channel] = pixel(index, at % width, width);
    }
    const picture = sharp(raw, { raw: { width, height, channels } });
    const isPhoto = index % 4 === 0 && channels !== 4;
    const name = `data/${['left', 'right'][index % 2]}/${index}.${isPhoto ? 'jpg' : 'png'}`;
    files[name] = await (isPhoto ? picture.jpeg() : picture.png()).toBuffer();
  }
  return files;
}

const csv = () =>
  [
    'side,id,a,b',
    ...Array.from({ length: 60 }, (_, index) => {
      const [a, b] = [pixel(index, 0, 2), pixel(index, 1, 2)];
      return `${['left', 'right'][index % 2]},n${index},${a},${index === 7 ? ' 1.5e1' : b}`;
    }),
    '',
  ].join('\n');

describe.each([
  {
    what: 'pictures',
    data: `item: image
    sources: [{ file: data, read: { format: image-folder } }]`,
    encode: '{ pixels: [4, 6, 1] }',
    files: pictures,
    coding: 'base64' as const,
    shape: [4, 6, 1],
    type: Uint8Array,
  },
  {
    what: 'records',
    data: `item: record
    sources: [{ file: data/sides.csv, read: { format: csv, label: side } }]`,
    encode: '{ numbers: [b, a] }',
    files: async () => ({ 'data/sides.csv': Buffer.from(csv()) }),
    coding: 'utf8' as const,
    shape: [2],
    type: Float32Array,
  },
])('$what that cdl.yaml makes numbers of', ({ data, encode, files, coding, shape, type }) => {
  const text = config(data, encode);
  let scratch: Scratch;
  let ctx: Ctx;
  let candidate: Candidate;
  beforeAll(async () => {
    scratch = await openScratch({
      'cdl.yaml': text,
      'model.ts': code,
      '.gitignore': '.cdl/\n',
      ...(await files()),
    });
    ctx = await scratch.context();
    candidate = await registered(ctx, [ingest, transform, train, packageStep, register], 'sides');
  });
  afterAll(() => scratch.remove());

  it('have the shape and type it says, and are what was learned', async () => {
    const folder = await saved(ctx, 'work', candidate.transform!, join(scratch.root, '.cdl', 'numbers'));
    const set = await openDataset(folder);
    expect(set.shape).toEqual(shape);
    expect(set.x).toBeInstanceOf(type);
    const size = shape.reduce((product, dim) => product * dim, 1);
    // The half of its class is the bright one, in each row.
    for (let index = 0; index < set.count; index++) {
      const row = [...set.x.subarray(index * size, (index + 1) * size)].slice(0, shape[1] ?? 2);
      const [first, last] = coding === 'utf8' ? [row[1]!, row[0]!] : [row[0]!, row.at(-1)!];
      expect(first > last ? 0 : 1).toBe(set.y[index]);
    }
  });

  it('are the same to training, the isolated evaluation and the server', async () => {
    await expectOneAnswer(ctx, candidate, join(scratch.root, '.cdl'), coding);
  });

  it('are encoded in the package as the commit says, whatever a job claims to have learned', async () => {
    const zone = await ctx.zone('work');
    const filesOf = async (digest: Candidate['package']) => (await zone.getArtifact(digest)).files;
    const source = (of: string) => {
      const project = parseProject(of);
      const model = project.models.sides!;
      const { item, shape: dims, classes } = project.datasets.pictures!;
      return {
        model: 'sides',
        files: [{ path: 'model.ts', bytes: Buffer.from(code) }],
        entry: model.entry,
        encode: model.encode,
        item,
        shape: dims,
        classes,
      };
    };
    const problems = async (of: string) =>
      packageProblems(
        await filesOf(candidate.package),
        await filesOf(candidate.checkpoint),
        await filesFromSource(source(of)),
        await filesOf(candidate.transform!),
      );
    expect(await problems(text)).toEqual([]);
    const other = text.replace('[4, 6, 1]', '[6, 4, 1]').replace('[b, a]', '[a, b]');
    expect(await problems(other)).toEqual([
      'the transform encodes otherwise than cdl.yaml of the commit says',
      'state.json of the package is not what the commit and the checkpoint make',
    ]);
    // The bot asks no more of the transform: there is no code that it could have been made with.
    const { encode } = parseProject(text).models.sides!;
    const item = parseProject(text).datasets.pictures!.item;
    const remake = () => filesFromSource(source(text));
    expect((await artifactProblems(zone, candidate, { item, encode }, remake)).problems).toEqual([]);
  });
});

describe('an item that is none of its kind', () => {
  it.each([
    ['a text', { pixels: [2, 2, 3] as [number, number, 3] }, 'no picture', /no picture that can be decoded/],
    ['half a picture', { pixels: [2, 2, 1] as [number, number, 1] }, null, /no picture that can be decoded/],
    ['a list', { numbers: ['a'] }, '[1]', /no record/],
    ['a record without the field', { numbers: ['a'] }, '{"b":1}', /"a" is missing/],
    ['an empty field', { numbers: ['a'] }, '{"a":""}', /"a" is "", not a number/],
    ['a word', { numbers: ['a'] }, '{"a":"1 apple"}', /"a" is "1 apple", not a number/],
    ['something beyond float32', { numbers: ['a'] }, '{"a":1e300}', /"a" is 1e\+300, not a number/],
    ['what every object has', { numbers: ['toString'] }, '{}', /"toString" is missing/],
  ])('is refused: %s', async (_what, encode, text, message) => {
    const whole = await sharp({ create: { width: 60, height: 60, channels: 3, background: '#123456' } })
      .png()
      .toBuffer();
    const bytes = text === null ? whole.subarray(0, whole.length - 40) : Buffer.from(text);
    await expect((async () => configuredEncoder(encode)(bytes))()).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringMatching(message),
    });
  });

  it('is named with its place by the transform', async () => {
    const scratch = await openScratch({
      'cdl.yaml': config(
        'item: record\n    sources: [{ file: data/sides.csv, read: { format: csv, label: side } }]',
        '{ numbers: [a, id] }',
      ),
      'model.ts': code,
      '.gitignore': '.cdl/\n',
      'data/sides.csv': Buffer.from(csv()),
    });
    try {
      const ctx = await scratch.context();
      await runStep(ingest as never, ctx, all as never);
      await expect(runStep(transform as never, ctx, all as never)).rejects.toMatchObject({
        code: 'data-invalid',
        message: expect.stringMatching(
          /^item [0-9a-f]{12} \(.*sides\.csv.*\): field "id" is "n\d+", not a number$/,
        ),
      });
    } finally {
      await scratch.remove();
    }
  });
});

describe('cdl.yaml', () => {
  it.each([
    ['pixels of records', 'item: record', '{ pixels: [2, 2, 1] }', /pixels are made of item: image/],
    ['both', 'item: image', '{ pixels: [2, 2, 1], numbers: [a] }', /exactly one of pixels and numbers/],
    ['two channels', 'item: image', '{ pixels: [2, 2, 2] }', /encode\.pixels/],
  ])('says what is wrong with encode: %s', (_what, item, encode, message) => {
    const text = config(
      `${item}\n    sources: [{ file: [data], read: { format: ${item === 'item: image' ? 'image-folder' : 'csv'} } }]`,
      encode,
    );
    expect(() => parseProject(text)).toThrow(message);
  });

  it('reads the one file of a source without brackets', () => {
    const text = config(
      'item: image\n    sources: [{ file: data, read: { format: image-folder } }]',
      '{ pixels: [2, 2, 1] }',
    );
    expect(parseProject(text).datasets.pictures!.sources[0]!.file).toEqual(['data']);
    expect(() => parseProject(text.replace('file: data', 's3: data'))).toThrow(
      /sources\.0\.s3 "data": not s3:\/\/bucket\/key/,
    );
  });
});
