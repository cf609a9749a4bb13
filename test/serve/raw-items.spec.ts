import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { configuredState, encodeState } from '../../src/model/encoder.ts';
import { classifierManifest } from '../../src/model/source-files.ts';
import { type ModelServer, startServer } from '../../src/serve/server.ts';
import { smoke, smokeItems } from '../../src/serve/smoke.ts';
import { openServable } from '../../src/serve/tfjs.ts';
import { openTf } from '../../src/train/backend.ts';
import { encodeModel } from '../../src/train/model-files.ts';

/** Counts two words; the model says which of them there is more of. */
const code = `export const build = () => null;
export const preprocess = (tf, raw) => tf.cast(tf.reshape(raw, [-1, 2]), 'float32');
export function encode({ bytes }, state) {
  const text = new TextDecoder().decode(bytes);
  if (text.includes('refuse me')) throw new Error('not this one');
  if (text === 'slow') for (const end = performance.now() + 3; performance.now() < end; );
  return Uint8Array.from(state.words, (word) => text.split(word).length - 1);
}`;

let root: string;
const open: { close(): Promise<void> }[] = [];

async function writePackage(item: 'text' | 'image' | 'record', state: string): Promise<string> {
  const folder = await mkdtemp(join(root, 'package-'));
  const { tf } = await openTf();
  const model = tf.sequential({
    layers: [tf.layers.dense({ inputShape: [2], units: 2, activation: 'softmax' })],
  });
  model.setWeights([tf.tensor2d([1, 0, 0, 1], [2, 2]), tf.tensor1d([0, 0])]);
  const manifest = classifierManifest({ model: 'words', item, shape: [1], classes: ['cat', 'dog'] });
  const files = { ...encodeModel(model), 'code.mjs': code, 'signature.json': JSON.stringify(manifest) };
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
  if (state) await writeFile(join(folder, 'state.json'), state);
  return folder;
}

const learned = encodeState({ v: 1, type: 'uint8', shape: [2], state: { words: ['cat', 'dög'] } });

async function start(item: 'text' | 'image' | 'record', state = learned): Promise<ModelServer> {
  const servable = await openServable(await writePackage(item, state), {
    package: digestBytes(item),
    version: '1',
  });
  const server = await startServer({ servable, candidate: '', host: '127.0.0.1', port: 0, scores: null });
  open.push(server, { close: async () => servable.dispose() });
  return server;
}

async function ask(server: ModelServer, path: string, body: object) {
  const response = await fetch(`http://127.0.0.1:${server.port}${path}`, {
    method: 'POST',
    body: JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as never as Answer };
}

interface Answer {
  error?: string;
  status?: { info: string };
  outputs: { name: string; data: never[] }[];
  data: { names: string[]; ndarray: number[][] };
}

const infer = (server: ModelServer, data: string[]) =>
  ask(server, '/v2/models/words/infer', {
    inputs: [{ name: 'input', datatype: 'BYTES', shape: [data.length], data }],
  });
const labels = (answer: Answer) => answer.outputs.find((output) => output.name === 'label')!.data;

let text: ModelServer;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'cdl-raw-'));
  await mkdir(root, { recursive: true });
  text = await start('text');
});
afterAll(async () => {
  for (const one of open) await one.close();
  await rm(root, { recursive: true, force: true });
});

describe('a model of texts', () => {
  it('says what it takes, and passes the smoke test of a deployment', async () => {
    const metadata = await fetch(`http://127.0.0.1:${text.port}/v2/models/words`).then((r) => r.json());
    expect((metadata as { inputs: object[] }).inputs).toEqual([
      { name: 'input', datatype: 'BYTES', shape: [-1], parameters: { content_type: 'str', item: 'text' } },
    ]);
    const { signature } = classifierManifest({
      model: 'words',
      item: 'text',
      shape: [1],
      classes: ['cat', 'dog'],
    });
    expect(await smoke(text.port, 'words', signature, smokeItems(signature, null))).toBe(null);
  });

  it('whose code refuses each text does not pass it', async () => {
    const broken = await start(
      'text',
      encodeState({ v: 1, type: 'uint8', shape: [2], state: { vocabulary: [] } }),
    );
    const { signature } = classifierManifest({
      model: 'words',
      item: 'text',
      shape: [1],
      classes: ['cat', 'dog'],
    });
    expect(await smoke(broken.port, 'words', signature, smokeItems(signature, null))).toMatch(
      /^it answers 400: .*encode\(\) failed/,
    );
  });

  it('answers strings over v2, more of them than fit into one batch too', async () => {
    const many = Array.from({ length: 150 }, (_, index) => (index % 3 === 0 ? 'a dög, a dög, a cat' : 'cat'));
    const { status, body } = await infer(text, many);
    expect(status).toBe(200);
    expect(labels(body)).toEqual(many.map((one) => (one === 'cat' ? 'cat' : 'dog')));
  });

  it('answers strData and ndarrays of strings over Seldon v1 with the same numbers', async () => {
    const path = '/api/v1.0/predictions';
    const one = await ask(text, path, { strData: 'dög dög' });
    expect(one.body.data.names).toEqual(['cat', 'dog']);
    expect(one.body.data.ndarray[0]![1]).toBeGreaterThan(0.8);
    const flat = await ask(text, path, { data: { ndarray: ['dög dög', 'cat'] } });
    const nested = await ask(text, path, { data: { ndarray: [['dög dög'], ['cat']] } });
    expect(flat.body.data).toEqual(nested.body.data);
    expect(flat.body.data.ndarray[0]).toEqual(one.body.data.ndarray[0]);
  });

  it.each([
    ['numbers', { data: [1], datatype: 'UINT8', shape: [1] }, /takes BYTES/],
    ['no item', { data: [], datatype: 'BYTES', shape: [0] }, /shape is \[0\]/],
    [
      'what its own code refuses',
      { data: ['cat', 'refuse me'], datatype: 'BYTES', shape: [2] },
      /element 1: .*not this one/,
    ],
  ])('refuses %s with 400', async (_what, input, message) => {
    const { status, body } = await ask(text, '/v2/models/words/infer', {
      inputs: [{ name: 'input', ...input }],
    });
    expect(status).toBe(400);
    expect(body.error).toMatch(message);
  });

  it('hears health checks while it encodes a large request', async () => {
    const heard: string[] = [];
    const large = infer(text, new Array(400).fill('slow')).then(() => heard.push('large'));
    for (let index = 0; index < 3; index++) {
      await fetch(`http://127.0.0.1:${text.port}/healthz`).then((response) => response.json());
      heard.push('health');
    }
    await large;
    expect(heard).toEqual(['health', 'health', 'health', 'large']);
  });
});

describe('a model of pictures', () => {
  it('takes base64, and may refuse what is no picture without failing its smoke test', async () => {
    const server = await start('image');
    const { body } = await infer(server, [Buffer.from('cat').toString('base64')]);
    expect(labels(body)).toEqual(['cat']);
    const { signature } = classifierManifest({
      model: 'words',
      item: 'image',
      shape: [1],
      classes: ['cat', 'dog'],
    });
    expect(signature.inputs[0]).toMatchObject({ parameters: { content_type: 'base64' } });
    const encode = { pixels: [2, 1, 1] as [number, number, 1] };
    expect(smokeItems(signature, null)).toBe(null);
    expect(await smoke(server.port, 'words', signature)).toBe(null);
    // Where cdl.yaml says how they are decoded it gets a picture, and has to answer.
    const decoding = await start('image', encodeState(configuredState(encode)));
    expect(smokeItems(signature, encode)).toEqual({ kind: 'picture' });
    expect(await smoke(decoding.port, 'words', signature, { kind: 'picture' })).toBe(null);
    expect(await smoke(decoding.port, 'words', signature, { kind: 'text' })).toMatch(
      /^it answers 400: .*no picture/,
    );
  });
});

describe('a model of records', () => {
  it('whose numbers cdl.yaml names is asked with such records when it is deployed, and has to answer', async () => {
    const fields = ['age', 'height'];
    const server = await start('record', encodeState(configuredState({ numbers: fields })));
    const { signature } = classifierManifest({
      model: 'words',
      item: 'record',
      shape: [1],
      classes: ['cat', 'dog'],
    });
    expect((await infer(server, ['11'])).body.error).toContain('this is no record');
    expect(await smoke(server.port, 'words', signature, smokeItems(signature, { numbers: fields }))).toBe(
      null,
    );
    expect(await smoke(server.port, 'words', signature, { kind: 'record', fields: ['age'] })).toMatch(
      /400.*field \\"height\\" is missing/,
    );
    // Its own code would know the records, and nobody else does.
    expect(await smoke(server.port, 'words', signature)).toBe(null);
  });
});

describe('a package of raw items', () => {
  it.each([
    ['without what was learned', '', /one input, of numbers, or of BYTES with a state\.json/],
    ['with something else in its place', '{"v":1}', /state\.json/],
  ])('%s does not open', async (_what, state, message) => {
    const folder = await writePackage('text', state);
    await expect(openServable(folder, { package: digestBytes('x'), version: '1' })).rejects.toMatchObject({
      code: 'artifact-corrupt',
      message: expect.stringMatching(message),
    });
  });

  it('whose encode gives another number of numbers than in training says so', async () => {
    const other = encodeState({ v: 1, type: 'uint8', shape: [2], state: { words: ['a', 'b', 'c'] } });
    const servable = await openServable(await writePackage('text', other), {
      package: digestBytes('y'),
      version: '1',
    });
    const input = { name: 'input', datatype: 'BYTES' as const, shape: [1], data: ['a'] };
    await expect(servable.infer([input])).rejects.toThrow(/3 numbers .* instead of 2/);
    servable.dispose();
  });
});
