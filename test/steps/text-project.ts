import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { ZipFile } from 'yazl';

/** Model code that counts the words it saw in at least `min_documents` training texts. */
export const textModel = `export async function fit(items, parameters) {
  const seen = new Map();
  for await (const item of items) {
    if (item.label === null) throw new Error('an item without label');
    for (const word of new Set(words(item.bytes))) seen.set(word, (seen.get(word) ?? 0) + 1);
  }
  return { words: [...seen].filter(([, n]) => n >= parameters.min_documents).map(([word]) => word).sort() };
}
const words = (bytes) => new TextDecoder().decode(bytes).toLowerCase().match(/[a-zü]+/g) ?? [];
export function encode({ bytes }, state) {
  const counts = new Float32Array(state.words.length);
  for (const word of words(bytes)) {
    const at = state.words.indexOf(word);
    if (at >= 0) counts[at] += 0.5;
  }
  return counts;
}
export const preprocess = (tf, raw) => tf.log1p(raw);
export function build(tf, hyperparameters, data) {
  return tf.sequential({
    layers: [tf.layers.dense({ inputShape: data.shape, units: data.classes.length, activation: 'softmax' })],
  });
}
`;

/** Short texts of two classes, each with a word of its own (“only…”), from arithmetic alone. */
export function texts(count = 120): { path: string; text: string }[] {
  const vocabulary = [
    ['kürbis', 'soup', 'bread', 'salt', 'oven'],
    ['goal', 'match', 'team', 'coach', 'bread'],
  ];
  let state = 7;
  const next = (limit: number) => {
    // Lehmer's generator (Park, Miller 1988).
    state = (state * 48271) % 2147483647;
    return state % limit;
  };
  return Array.from({ length: count }, (_, index) => {
    const label = index % 2;
    const words = Array.from({ length: 8 + next(8) }, () => vocabulary[label]![next(5)]!);
    const own = `only${String(index).replace(/\d/g, (digit) => 'abcdefghij'[Number(digit)]!)}`;
    return { path: `texts/${['food', 'sport'][label]}/${index}.txt`, text: `${words.join(' ')} ${own}` };
  });
}

/** A zip with the same bytes every time. */
export async function zipOf(files: readonly { path: string; text: string }[]): Promise<Buffer> {
  const zip = new ZipFile();
  for (const { path, text } of files) {
    zip.addBuffer(Buffer.from(text), path, { mtime: new Date(0), mode: 0o100644, forceDosTimestamp: true });
  }
  zip.end();
  return buffer(zip.outputStream as unknown as AsyncIterable<Uint8Array>);
}

/** A project whose items are texts: `cdl.yaml`, `model.ts` and the archive. */
export async function textFiles(
  change: { transform?: string; hyperparameters?: string; model?: string } = {},
): Promise<Record<string, string | Buffer>> {
  const zip = await zipOf(texts());
  const {
    transform = '{ min_documents: 2 }',
    hyperparameters = '{ epochs: 3, batch_size: 16, learning_rate: 0.05 }',
  } = change;
  const config = `version: 1
project: words
requirements: { problem: what a text is about, owner: tests }
datasets:
  texts:
    item: text
    classes: [food, sport]
    sources:
      - file: [data/texts.zip]
        sha256: ${createHash('sha256').update(zip).digest('hex')}
        read: { format: class-folders, folder: texts }
    split: { key: texts-1, test: 0.25, validation: 0.2 }
    rules: { min_items: 40 }
models:
  words:
    data: texts
    code: [model.ts]
    transform: ${transform}
    hyperparameters: ${hyperparameters}
    gates: [{ metric: accuracy, min: 0.9 }]
`;
  return {
    'cdl.yaml': config,
    'model.ts': change.model ?? textModel,
    '.gitignore': '.cdl/\n',
    'data/texts.zip': zip,
  };
}
