import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Candidate, candidateDigest } from '../../src/core/candidate.ts';
import { candidateKey } from '../../src/core/claim.ts';
import { openDataset } from '../../src/data/dataset.ts';
import { evaluate } from '../../src/steps/evaluate.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { packageStep } from '../../src/steps/package.ts';
import { register } from '../../src/steps/register.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { train } from '../../src/steps/train.ts';
import { transform } from '../../src/steps/transform.ts';
import { readEvaluation } from '../../src/steps/trusted.ts';
import type { Ctx } from '../../src/steps/types.ts';
import { validate } from '../../src/steps/validate.ts';
import { expectOneAnswer, registered, saved } from './one-answer.ts';
import { openScratch, type Scratch, tinyFiles } from './project.ts';
import { textFiles, textModel } from './text-project.ts';

const all = { dataset: '', model: '', side: 'train' as const };

describe('texts from collection to an answer', () => {
  let scratch: Scratch;
  let ctx: Ctx;
  let candidate: Candidate;
  beforeAll(async () => {
    scratch = await openScratch(await textFiles());
    ctx = await scratch.context();
    candidate = await registered(ctx, [ingest, validate, transform, train, packageStep, register], 'words');
  });
  afterAll(() => scratch.remove());

  it('the transform is a data set of its own, whose vocabulary holds no word of the withheld texts alone', async () => {
    const folder = await saved(ctx, 'work', candidate.transform!, join(scratch.root, '.cdl', 'transform'));
    const set = await openDataset(folder);
    const { state } = JSON.parse(await readFile(join(folder, 'state.json'), 'utf8')) as {
      state: { words: string[] };
    };
    expect(state.words).toContain('kürbis');
    expect(state.words.filter((word) => word.startsWith('only'))).toEqual([]);
    expect(set.shape).toEqual([state.words.length]);
    expect(set.x).toBeInstanceOf(Float32Array);
    const everything = await openScratch(await textFiles({ transform: '{ min_documents: 1 }' }));
    const other = await everything.context();
    const { outputs } = await runStep(ingest, other, all);
    const made = await runStep(transform, other, all);
    const learned = JSON.parse(
      await readFile(
        join(
          await saved(other, 'work', made.outputs.transform!, join(everything.root, '.cdl', 't')),
          'state.json',
        ),
        'utf8',
      ),
    ) as { state: { words: string[] } };
    expect(learned.state.words.filter((word) => word.startsWith('only'))).toHaveLength(Number(outputs.items));
    await everything.remove();
  });

  it('training, the isolated evaluation and the server compute the very same numbers from the same texts', async () => {
    await expectOneAnswer(ctx, candidate, join(scratch.root, '.cdl'), 'utf8');
  });

  it('another learning rate leaves the transform as it is; its own parameters and the code do not', async () => {
    const again = async (change: Parameters<typeof textFiles>[0]) => {
      await scratch.write(await textFiles(change));
      return runStep(transform, await scratch.context(), all);
    };
    const slower = await again({ hyperparameters: '{ epochs: 1, learning_rate: 0.01 }' });
    expect(slower).toMatchObject({ cached: true, outputs: { transform: candidate.transform } });
    expect(await again({ transform: '{ min_documents: 3 }' })).toMatchObject({ cached: false });
    expect(await again({ model: `${textModel}// changed\n` })).toMatchObject({ cached: false });
    expect(await again({})).toMatchObject({ cached: true });
  });

  it('is evaluated on the withheld texts; a package that encodes with something else is not', async () => {
    const trusted = await ctx.zone('trusted');
    const sliced = { ...ctx, project: structuredClone(ctx.project) };
    const [model] = Object.values(sliced.project.models);
    model!.evaluate = { slices: { fields: ['path'], classes: {} } };
    const judge = async (one: Candidate) => {
      const digest = candidateDigest(one);
      await trusted.writeRecord(candidateKey(digest), one);
      await runStep(ingest, ctx, { ...all, side: 'test' });
      return runStep(evaluate, sliced, {
        model: '',
        environment: 'production',
        candidate: digest,
        question: '',
      });
    };
    const judged = await judge(candidate);
    expect(judged.outputs.verdict).toBe('pass');
    const { scores } = await readEvaluation(trusted, judged.outputs.evaluation as never);
    const paths = Object.keys(scores.metrics).filter((name) =>
      /^accuracy\[path=texts\/.*\.txt\]$/.test(name),
    );
    expect(paths, 'what the source says of items makes slices, the most frequent ones').toHaveLength(20);
    const work = await ctx.zone('work');
    const manifest = await work.getArtifact(candidate.package);
    const forged = await work.putBlob('{"v":1,"type":"float32","length":1,"state":null}\n');
    const files = manifest.files.map((file) => (file.path === 'state.json' ? { ...file, ...forged } : file));
    const packaged = await work.putArtifact({ ...manifest, files });
    await expect(judge({ ...candidate, package: packaged })).rejects.toMatchObject({
      code: 'artifact-corrupt',
      message: expect.stringContaining('another state.json than its transform'),
    });
  });
});

it.each([
  ['there is no fit', ''],
  [
    'fit stops at the first item',
    'export const fit = async (items) => { for await (const _ of items) return {}; };',
  ],
])('how far encoding has come is told of all items, also where %s', async (_what, fit) => {
  const model = `${fit}\nexport const encode = () => Uint8Array.of(1, 2);`;
  const scratch = await openScratch(await textFiles({ model }));
  try {
    const shares: number[] = [];
    const progress = (what: string, share: number) => {
      if (what === 'encoding') shares.push(share);
    };
    const ctx = { ...(await scratch.context()), progress };
    await runStep(ingest, ctx, all);
    const { outputs } = await runStep(transform, ctx, all);
    expect(shares).toEqual([64 / Number(outputs.items), 1]);
  } finally {
    await scratch.remove();
  }
});

describe('model code that cannot transform', () => {
  it.each([
    ['exports no encode', 'export const build = 1;', /does not export the function encode/],
    [
      'gives numbers of changing length',
      'export const encode = ({ bytes }) => new Uint8Array(bytes.length);',
      /numbers for one item and \d+ for another/,
    ],
    ['gives something else', 'export const encode = () => [1, 2];', /Uint8Array or a Float32Array/],
    [
      'answers at random',
      'export const encode = () => Float32Array.of(Math.random(), 1);',
      /answers differently/,
    ],
    [
      'fails',
      "export const encode = () => { throw new RangeError('too long') };",
      /encode\(\) failed: RangeError: too long/,
    ],
    [
      'learns what JSON cannot hold',
      'export const fit = () => ({ n: NaN });\nexport const encode = () => Uint8Array.of(1);',
      /no JSON form/,
    ],
    [
      'fails in fit',
      "export const fit = () => { throw new TypeError('oh') };\nexport const encode = () => Uint8Array.of(1);",
      /TypeError: oh/,
    ],
    [
      'looks at the environment',
      'export const encode = () => { throw new Error(Object.keys(process.env).join()) };',
      /^encode\(\) failed: Error: (HOME|PATH|LANG|TZ|TMPDIR|NODE_EXTRA_CA_CERTS|,)*$/,
    ],
  ])('because it %s is told so', async (_what, model, message) => {
    const scratch = await openScratch(await textFiles({ model }));
    try {
      const ctx = await scratch.context({ CDL_WORK_SECRET: 'x' });
      await runStep(ingest, ctx, all);
      await expect(runStep(transform, ctx, all)).rejects.toMatchObject({
        code: 'code-invalid',
        message: expect.stringMatching(message),
      });
    } finally {
      await scratch.remove();
    }
  });

  it('because its items are tensors is told so', async () => {
    const scratch = await openScratch(tinyFiles());
    await expect(runStep(transform, await scratch.context(), all)).rejects.toMatchObject({ code: 'usage' });
    await scratch.remove();
  });
});
