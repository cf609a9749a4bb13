import type { DataShape, FitItem, Hyperparameters, LayersModel, Parameters, Tensor, Tf } from 'cdl';
import { stem } from './stem.ts';
import given from './vocabulary.json' with { type: 'json' };

/** The stems that the author of the data set says count; empty where nobody says so. */
const author: readonly string[] = given;

/** What `fit` learns: the stems that count, in the order of their columns. */
interface Vocabulary {
  stems: string[];
}

const utf8 = new TextDecoder();
const places = new WeakMap<Vocabulary, Map<string, number>>();

/** The stems of a text, in its order: words of at least two letters, reduced to what their forms have in common. */
function* stemsOf(bytes: Uint8Array): Generator<string> {
  for (const [word] of utf8
    .decode(bytes)
    .toLowerCase()
    .matchAll(/[a-z]{2,}/g))
    yield stem(word);
}

/**
 * The vocabulary: the author's when one is given, otherwise learned from the training items alone, every stem of at least
 * `min_documents` of them.
 */
export async function fit(items: AsyncIterable<FitItem>, parameters: Parameters): Promise<Vocabulary> {
  if (author.length > 0) return { stems: [...new Set(author)] };
  const documents = new Map<string, number>();
  for await (const item of items) {
    for (const one of new Set(stemsOf(item.bytes))) documents.set(one, (documents.get(one) ?? 0) + 1);
  }
  const enough = Number(parameters.min_documents ?? 2);
  const stems = [...documents].flatMap(([one, count]) => (count >= enough ? [one] : []));
  return { stems: stems.sort() };
}

/** How often each stem of the vocabulary stands in a text, as bytes. The same function runs in training, evaluation and serving. */
export function encode(item: { bytes: Uint8Array }, vocabulary: Vocabulary): Uint8Array {
  let place = places.get(vocabulary);
  if (!place) {
    place = new Map(vocabulary.stems.map((one, index) => [one, index]));
    places.set(vocabulary, place);
  }
  const counts = new Uint8Array(vocabulary.stems.length);
  for (const one of stemsOf(item.bytes)) {
    const index = place.get(one);
    if (index !== undefined && counts[index]! < 255) counts[index]!++;
  }
  return counts;
}

/** Counts to log(1 + count), each text scaled to length 1, so that long articles do not outshout short ones. */
export function preprocess(tf: Tf, raw: Tensor): Tensor {
  const logs = tf.log1p(tf.cast(raw, 'float32'));
  const length = tf.sqrt(tf.sum(tf.square(logs), 1, true));
  return tf.div(logs, tf.add(length, 1e-6));
}

/** Linear layers with layer normalization and dropout, ending in five probabilities. */
export function build(tf: Tf, hyperparameters: Hyperparameters, data: DataShape): LayersModel {
  const dropout = Number(hyperparameters.dropout ?? 0.3);
  const model = tf.sequential();
  for (const [index, units] of [256, 128, 64].entries()) {
    model.add(
      tf.layers.dense({
        units,
        kernelInitializer: 'heNormal',
        ...(index === 0 && { inputShape: data.shape }),
      }),
    );
    model.add(tf.layers.layerNormalization());
    model.add(tf.layers.reLU());
    model.add(tf.layers.dropout({ rate: dropout }));
  }
  model.add(tf.layers.dense({ units: 5, activation: 'softmax' }));
  return model;
}
