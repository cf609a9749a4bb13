import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { stemmer } from 'stemmer';
import { describe, expect, it } from 'vitest';
import { parseDocument } from 'yaml';
import type { Digest } from '../../src/core/digest.ts';
import { openDataset } from '../../src/data/dataset.ts';
import { readRawItems } from '../../src/data/shards.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { bundleModel } from '../../src/model/bundle.ts';
import { trainNaiveBayes } from '../../src/model/naive-bayes.ts';
import { clean } from '../../src/steps/clean.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { train } from '../../src/steps/train.ts';
import { transform } from '../../src/steps/transform.ts';
import { openTf } from '../../src/train/backend.ts';
import { loadModel } from '../../src/train/model-files.ts';
import { predict } from '../../src/train/predict.ts';
import type * as news from '../../templates/news/model.ts';
import { encode, preprocess } from '../../templates/news/model.ts';
import { stem } from '../../templates/news/stem.ts';
import { openScratch } from './project.ts';

const root = packageRoot();
const archive = resolve(process.env.CDL_SHARED ?? join(root, '../shared'), 'data/bbc/bbc-fulltext.zip');
const isHere = existsSync(archive);
if (!isHere) console.warn(`news, skipped: ${archive} is not here`);

describe('the stemmer of the news example', () => {
  it.each([
    ['caresses', 'caress'],
    ['ponies', 'poni'],
    ['agreed', 'agre'],
    ['hopping', 'hop'],
    ['falling', 'fall'],
    ['filing', 'file'],
    ['happy', 'happi'],
    ['sky', 'sky'],
    ['relational', 'relat'],
    ['generalizations', 'gener'],
    ['oscillators', 'oscil'],
    ['adoption', 'adopt'],
    ['as', 'as'],
  ])('reduces %s to %s, as Porter’s paper does', (word, expected) => {
    expect(stem(word)).toBe(expected);
  });
});

describe('the vocabulary of the news example', () => {
  const articles = ['The banks lend money.', 'A bank lends.', 'Goals!'];
  /** What `fit` of the example makes of these articles, with this vocabulary.json, and how the first is counted. */
  async function fitted(vocabulary: string) {
    const folder = await mkdtemp(join(tmpdir(), 'cdl-vocabulary-'));
    try {
      await cp(join(root, 'templates', 'news'), folder, { recursive: true });
      await writeFile(join(folder, 'vocabulary.json'), vocabulary);
      await writeFile(join(folder, 'bundle.mjs'), await bundleModel(folder, 'model.ts'));
      const code = (await import(pathToFileURL(join(folder, 'bundle.mjs')).href)) as typeof news;
      const items = (async function* () {
        for (const text of articles)
          yield { id: `sha256:${'0'.repeat(64)}`, bytes: Buffer.from(text), label: 0, attributes: {} };
      })();
      const state = await code.fit(items as never, { min_documents: 2 });
      return { ...state, counts: [...code.encode({ bytes: Buffer.from(articles[0]!) }, state)] };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  it('is the author’s when one is given, in its order, whatever the articles say', async () => {
    const { stems, counts } = await fitted('["monei", "goal", "parliament", "bank", "goal"]');
    expect(stems).toEqual(['monei', 'goal', 'parliament', 'bank']);
    expect(counts).toEqual([1, 0, 0, 1]);
  });

  it('is learned from the training articles where none is given, as in the example', async () => {
    expect(JSON.parse(await readFile(join(root, 'templates', 'news', 'vocabulary.json'), 'utf8'))).toEqual(
      [],
    );
    expect((await fitted('[]')).stems).toEqual(['bank', 'lend']);
  });
});

describe('naive Bayes', () => {
  it('weighs terms by class, smoothed, and says when rows do not fit', () => {
    // Two terms; Manning et al. count a term never seen in a class as one occurrence.
    const told = trainNaiveBayes({ x: Uint8Array.of(3, 0, 1, 2, 0, 4), y: [0, 1, 1], width: 2 }, 2);
    expect(told(Uint8Array.of(5, 0, 0, 1, 0, 0))).toEqual([0, 1, 1]);
    expect(() => told(Uint8Array.of(1))).toThrow(/no rows of 2/);
  });
});

describe.skipIf(!isHere)(
  `the news example on BBC news${isHere ? '' : ' (skipped: the archive is not here)'}`,
  () => {
    it('parts the copies and near-copies from the other side, trains, and is no worse than naive Bayes', {
      timeout: 120_000,
    }, async () => {
      const folder = await mkdtemp(join(tmpdir(), 'cdl-news-'));
      await cp(join(root, 'templates', 'news'), folder, { recursive: true });
      await rename(join(folder, 'gitignore'), join(folder, '.gitignore'));
      const document = parseDocument(await readFile(join(folder, 'cdl.yaml'), 'utf8'));
      const source = ['datasets', 'articles', 'sources', 0];
      document.deleteIn([...source, 'https']);
      document.setIn([...source, 'file'], [archive]);
      // A tenth of the vocabulary and fewer epochs: enough to see that it learns.
      document.setIn(['models', 'news', 'transform', 'min_documents'], 25);
      document.setIn(['models', 'news', 'hyperparameters', 'epochs'], 4);
      const files = Object.fromEntries(
        await Promise.all(
          ['model.ts', 'stem.ts', 'vocabulary.json', '.gitignore'].map(
            async (name) => [name, await readFile(join(folder, name))] as const,
          ),
        ),
      );
      const scratch = await openScratch({ ...files, 'cdl.yaml': document.toString() });
      try {
        const ctx = await scratch.context();
        const all = { dataset: '', model: '' };
        await runStep(ingest, ctx, { ...all, side: 'test' });
        const test = await runStep(clean, ctx, { ...all, side: 'test' });
        await runStep(ingest, ctx, { ...all, side: 'train' });
        const training = await runStep(clean, ctx, { ...all, side: 'train' });
        // 2225 articles, 98 of them exact copies of another.
        expect(Number(test.outputs.items) + Number(training.outputs.items)).toBe(2225 - 98);
        const made = await runStep(transform, ctx, all);
        const trained = await runStep(train, ctx, all);

        const at = (name: string) => join(folder, name);
        const [work, trusted] = await Promise.all([ctx.zone('work'), ctx.zone('trusted')]);
        await work.saveArtifact(made.outputs.transform as Digest, at('transform'));
        await work.saveArtifact(trained.outputs.checkpoint as Digest, at('checkpoint'));
        await trusted.saveArtifact(test.outputs.dataset as Digest, at('test'));
        await work.saveArtifact(training.outputs.dataset as Digest, at('train'));
        const set = await openDataset(at('transform'));
        const { state } = JSON.parse(await readFile(at('transform/state.json'), 'utf8'));
        const rows: Uint8Array[] = [];
        const y: number[] = [];
        const openings = new Set<string>();
        const opening = (bytes: Uint8Array) =>
          Buffer.from(bytes).toString('utf8').split('\n').slice(1).join(' ').slice(0, 200);
        for await (const item of readRawItems(at('test'))) {
          rows.push(encode(item, state));
          y.push(item.label!);
          openings.add(opening(item.bytes));
        }
        let shared = 0;
        const words = new Set<string>();
        for await (const item of readRawItems(at('train'))) {
          if (openings.has(opening(item.bytes))) shared++;
          for (const [word] of Buffer.from(item.bytes)
            .toString('utf8')
            .toLowerCase()
            .matchAll(/[a-z]+/g))
            words.add(word);
        }
        expect(shared).toBe(0);
        expect(words.size).toBeGreaterThan(20_000);
        expect([...words].filter((word) => stem(word) !== stemmer(word))).toEqual([]);

        const x = Uint8Array.from(rows.flatMap((row) => [...row]));
        const { tf } = await openTf();
        const model = await loadModel(tf, at('checkpoint'));
        const probabilities = predict(tf, model, preprocess, { x, shape: set.shape });
        const told = y.map((_, row) => {
          const own = [...probabilities.subarray(row * 5, row * 5 + 5)];
          return own.indexOf(Math.max(...own));
        });
        const right = (labels: readonly number[]) =>
          labels.filter((label, row) => label === y[row]).length / y.length;
        const bayes = right(trainNaiveBayes({ x: set.x, y: set.y, width: set.shape[0]! }, 5)(x));
        expect(bayes).toBeGreaterThan(0.94);
        // One in a hundred either way is chance on so few articles, and this training is cut short.
        expect(right(told)).toBeGreaterThan(bayes - 0.01);
      } finally {
        await scratch.remove();
        await rm(folder, { recursive: true, force: true });
      }
    });
  },
);
