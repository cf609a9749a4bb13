import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { artifactProblems } from '../../bot/claim.ts';
import {
  type Artifact,
  type Candidate,
  createZone,
  type Digest,
  digestBytes,
  openStore,
  type Zone,
} from '../../src/index.ts';

let folder: string;
let work: Zone;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-claim-'));
  work = createZone('work', await openStore(pathToFileURL(folder).href, null));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const code = digestBytes('the files of the commit');

async function put(
  kind: Artifact['kind'],
  parents: Digest[],
  contents: Record<string, string>,
  meta: Artifact['meta'] = {},
): Promise<Digest> {
  const files = await Promise.all(
    Object.entries(contents).map(async ([path, text]) => ({ path, ...(await work.putBlob(text)) })),
  );
  return work.putArtifact({ kind, name: 'news', files, parents, meta });
}

/** A candidate as the steps make it; `change` alters one of its artifacts. */
async function make(
  change: Partial<Record<'state' | 'code' | 'of' | 'trainedOn' | 'packedWith', string>> = {},
) {
  const dataset = await put('dataset', [], { 'index.jsonl': '' });
  const other = await put('dataset', [], { 'index.jsonl': 'other' });
  const learned = { 'state.json': 'the vocabulary', 'items.npy': 'counts' };
  const transform = await put('transform', [change.of === 'other' ? other : dataset], learned, {
    code: change.code === 'other' ? digestBytes('other files') : code,
  });
  const weights = { 'model.json': '{}', 'weights.bin': 'w' };
  const checkpoint = await put(
    'checkpoint',
    change.trainedOn === 'nothing' ? [dataset] : [dataset, transform],
    weights,
    { code },
  );
  const source = { 'code.mjs': 'the bundle', 'signature.json': '{}' };
  const packaged = await put(
    'package',
    change.packedWith === 'nothing' ? [checkpoint] : [checkpoint, transform],
    {
      ...weights,
      ...source,
      ...(change.state === 'none' ? {} : { 'state.json': change.state ?? 'the vocabulary' }),
    },
  );
  const candidate: Candidate = {
    model: 'news',
    code,
    config: digestBytes('config'),
    dataset,
    transform,
    checkpoint,
    package: packaged,
  };
  const made = Object.fromEntries(Object.entries(source).map(([path, text]) => [path, digestBytes(text)]));
  return { candidate, fromSource: async () => made };
}

it('a candidate whose transform, checkpoint and package belong together is believed', async () => {
  const { candidate, fromSource } = await make();
  expect((await artifactProblems(work, candidate, { item: 'text' }, fromSource)).problems).toEqual([]);
});

it.each([
  [
    'encodes with another vocabulary than the transform learned',
    { state: 'another one' },
    /state\.json of the package is not what/,
  ],
  ['brings no vocabulary', { state: 'none' }, /lacks state\.json/],
  ['names a transform of other data', { of: 'other' }, /transform sha256:\w+ was not made from/],
  ['names a transform of other code', { code: 'other' }, /made with other code/],
  ['was trained on something else', { trainedOn: 'nothing' }, /checkpoint was not made from the transform/],
  ['was packed from something else', { packedWith: 'nothing' }, /package was not made from the transform/],
])('one that %s is not', async (_what, change, problem) => {
  const { candidate, fromSource } = await make(change);
  const { problems } = await artifactProblems(work, candidate, { item: 'text' }, fromSource);
  expect(problems.join('\n')).toMatch(problem);
});

it('raw items need a transform, and tensors must not have one', async () => {
  const { candidate, fromSource } = await make();
  const { problems } = await artifactProblems(
    work,
    { ...candidate, transform: null },
    { item: 'text' },
    fromSource,
  );
  expect(problems.join('\n')).toMatch(/the claim names none[\s\S]*which neither commit nor checkpoint has/);
  expect((await artifactProblems(work, candidate, { item: 'tensor' }, fromSource)).problems.join()).toMatch(
    /items of the data are tensors/,
  );
});
