import type { FitItem, Parameters } from 'cdl';
import { stem } from './stem.ts';

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

/** Learns the vocabulary from the training items alone: every stem of at least `min_documents` of them. */
export async function fit(items: AsyncIterable<FitItem>, parameters: Parameters): Promise<Vocabulary> {
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
