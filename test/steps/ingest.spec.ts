import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { datasetMetaSchema } from '../../src/data/dataset.ts';
import { sourceAccess } from '../../src/steps/context.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { validate } from '../../src/steps/validate.ts';
import { openScratch, type Scratch } from './project.ts';
import { textFiles, texts } from './text-project.ts';

const train = { dataset: '', side: 'train' as const };
const test = { dataset: '', side: 'test' as const };
const read = '{ format: class-folders, folder: "" }';

let scratch: Scratch;
const files = (from: number, to: number) =>
  Object.fromEntries(
    texts(120)
      .slice(from, to)
      .map(({ path, text }) => [path, text]),
  );

/** A project of {@link textFiles} with other sources. */
async function open(sources: string): Promise<void> {
  const project = await textFiles();
  const config = (project['cdl.yaml'] as string).replace(
    / {4}sources:\n[\s\S]*? {4}split/,
    `    sources:\n${sources}\n    split`,
  );
  scratch = await openScratch({ ...project, 'cdl.yaml': config });
}
afterEach(() => scratch.remove());

/** Meta of the data version that an ingest made. */
async function collected(given: typeof train | typeof test) {
  const ctx = await scratch.context();
  const done = await runStep(ingest, ctx, given);
  const zone = await ctx.zone(given.side === 'test' ? 'trusted' : 'work');
  const { meta } = await zone.getArtifact(done.outputs.dataset as never);
  return { done, meta: datasetMetaSchema.parse(meta) };
}

it('copies with different labels are told with their places, unless the names of files are sensitive', async () => {
  await open(`      - { file: [texts/], read: ${read} }`);
  const copies = {
    'texts/food/jane-roe.txt': 'the same words',
    'texts/sport/john-doe.txt': 'the same words',
  };
  await scratch.write({ ...files(0, 100), ...copies });
  const told = async () => JSON.stringify((await collected(train)).done.report.blocks);
  expect(await told()).toMatch(/food\/jane-roe.txt.*sport\/john-doe.txt/);
  const path = join(scratch.root, 'cdl.yaml');
  const config = await readFile(path, 'utf8');
  await scratch.write({
    'cdl.yaml': config.replace('    item: text\n', '    item: text\n    sensitive: [path]\n'),
  });
  const hidden = await told();
  expect(hidden).toContain('copies with different labels');
  expect(hidden).not.toMatch(/jane-roe|john-doe/);
});

describe('a source that is not pinned', () => {
  beforeEach(async () => {
    await open(`      - { file: [texts/], read: ${read} }`);
    await scratch.write(files(0, 100));
  });

  it('is recorded when it is first seen, and the report says so', async () => {
    const { done, meta } = await collected(train);
    expect(done.report.verdict).toBe('warn');
    expect(done.report.summary).toContain('cdl data pin texts');
    expect(meta.source.sha256).toEqual([expect.stringMatching(/^[0-9a-f]{64}$/)]);
    expect(JSON.stringify(done.report.blocks)).toContain(meta.source.sha256[0]);
    const again = await collected(train);
    expect(again.done.outputs.dataset).toBe(done.outputs.dataset);
  });

  it('must stay as it was recorded: anything else is refused with what to do', async () => {
    const { meta } = await collected(train);
    await scratch.write({ 'texts/food/new.txt': 'one more' });
    await expect(collected(train)).rejects.toMatchObject({
      code: 'source-mismatch',
      message: expect.stringContaining(`${meta.source.sha256[0]} was recorded`),
      hint: expect.stringContaining('cdl data pin'),
    });
    await rm(join(scratch.root, 'texts/food/new.txt'));
    expect((await collected(train)).meta).toEqual(meta);
  });

  it('is one thing for two jobs that see it first at once', async () => {
    const both = await Promise.all([collected(train), collected(train)]);
    expect(both[0].done.outputs).toEqual(both[1].done.outputs);
  });
});

describe('sources of a side', () => {
  beforeEach(async () => {
    await open(
      [
        `      - { file: [train/], side: train, read: ${read} }`,
        `      - { file: [test/], side: test, read: ${read} }`,
      ].join('\n'),
    );
    const moved = (all: Record<string, string>, to: string) =>
      Object.fromEntries(Object.entries(all).map(([path, text]) => [path.replace('texts/', `${to}/`), text]));
    await scratch.write({ ...moved(files(0, 80), 'train'), ...moved(files(80, 120), 'test') });
  });

  it('give that side alone, all of it: nothing is split', async () => {
    const [own, withheld] = [await collected(train), await collected(test)];
    expect([own.meta.count, withheld.meta.count]).toEqual([80, 40]);
    expect([own.meta.source.names, withheld.meta.source.names]).toEqual([['train/'], ['test/']]);
  });

  it('must not have items in common, which validate of the withheld side finds', async () => {
    await collected(train);
    await collected(test);
    const checked = async () => (await runStep(validate, await scratch.context(), test)).report;
    const clean = await checked();
    expect(clean.verdict).toBe('pass');
    expect(JSON.stringify(clean.blocks)).toContain('0 of 40 (0.00 %)');
    // Its size has nothing to do with how a split would share 40 of them out.
    expect(JSON.stringify(clean.blocks)).toContain('at least 1 items');

    const config = join(scratch.root, 'cdl.yaml');
    // An item of the training side comes into the withheld source, which is a source seen for the first time then, and
    // another with two more words.
    const [near] = Object.values(files(78, 79));
    await scratch.write({
      'test2/food/near.txt': `${near} and more`,
      ...Object.fromEntries(
        Object.entries(files(79, 120)).map(([path, text]) => [path.replace('texts/', 'test2/'), text]),
      ),
      'cdl.yaml': (await readFile(config, 'utf8')).replace('[test/]', '[test2/]'),
    });
    await collected(test);
    const leaking = await checked();
    expect(leaking.verdict).toBe('fail');
    expect(leaking.summary).toMatch(/0.00 % of the withheld items are training data, too, but 1 of 42/);
    expect(leaking.summary).toMatch(/are nearly the same as training data, but 1 of 42/);
  });

  it('are not touched when the other side is collected', async () => {
    await rm(join(scratch.root, 'test'), { recursive: true });
    expect((await collected(train)).meta.count).toBe(80);
    await expect(collected(test)).rejects.toMatchObject({ code: 'source-unreachable' });
  });
});

describe('a data set that grows', () => {
  // Nearly the same as the first, long enough to be compared, and each with an end of its own.
  const copy = (end: number) => `${Array.from({ length: 40 }, (_, n) => `word${n}`).join(' ')} end${end}`;

  it('keeps its items where they were, on either side, once cdl.yaml says from where it goes on', async () => {
    await open(`      - { file: [texts/], read: ${read} }`);
    const config = await readFile(join(scratch.root, 'cdl.yaml'), 'utf8');
    const say = async (after: string | null, folder: string) => {
      const split = after === null ? 'key: texts-1' : `key: texts-1, after: ${after}`;
      await scratch.write({
        'cdl.yaml': config.replace('[texts/]', `[${folder}/]`).replace('key: texts-1', split),
      });
    };
    const bySide = async () => {
      const [own, withheld] = [await collected(train), await collected(test)];
      const sidesOf = ({ done }: typeof own) =>
        JSON.stringify(done.report.blocks).match(/split.after of the next","(sha256:[0-9a-f]{64})/)![1]!;
      expect(sidesOf(own)).toBe(sidesOf(withheld));
      return { counts: [own.meta.count, withheld.meta.count], sides: sidesOf(own) };
    };
    await scratch.write({ 'small/food/0.txt': copy(0) });
    await say(null, 'small');
    const first = await bySide();
    expect(first.counts.toSorted()).toEqual([0, 1]);
    let moved: unknown = null;
    for (let end = 1; moved === null; end++) {
      const folder = `grown${end}`;
      await scratch.write({ [`${folder}/food/0.txt`]: copy(0), [`${folder}/food/1.txt`]: copy(end) });
      await say(null, folder);
      moved = await collected(train).then(
        () => null,
        (error: unknown) => error,
      );
      if (moved === null) continue;
      expect(moved).toMatchObject({
        code: 'data-invalid',
        hint: expect.stringMatching(/split: { after: sha256:[0-9a-f]{64} }/),
      });
      await say(first.sides, folder);
      expect((await bySide()).counts).toEqual(first.counts.map((count) => count * 2));
    }
    await say(`sha256:${'0'.repeat(64)}`, 'small');
    await expect(collected(train)).rejects.toMatchObject({ code: 'input-missing' });
  });
});

describe('credentials of sources', () => {
  it('are those of the test side for that side alone, where it has its own', async () => {
    const env = {
      CDL_SOURCE_TOKENS: 'data.example Bearer open',
      CDL_TEST_SOURCE_TOKENS: 'data.example Bearer shut',
    };
    const told = async (side: 'train' | 'test', given: Record<string, string>) =>
      (await sourceAccess(given, side)).authorization!('data.example');
    expect([await told('train', env), await told('test', env)]).toEqual(['Bearer open', 'Bearer shut']);
    const { CDL_TEST_SOURCE_TOKENS: _, ...shared } = env;
    expect(await told('test', shared)).toBe('Bearer open');
  });
});
