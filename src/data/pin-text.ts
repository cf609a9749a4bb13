import { isMap, isNode, isScalar, parseDocument, stringify } from 'yaml';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { parseProject } from '../core/project.ts';

/** From which sides a data set's next version goes on. */
export interface SidesPin {
  dataset: string;
  after: Digest;
}

/** The pins of one source: its place below `datasets.<dataset>.sources`, and one sha256, or one for each of its names. */
export interface SourcePins {
  dataset: string;
  source: number;
  sha256: string | string[];
}

/**
 * A text of cdl.yaml with pins written into it; comments, layout and everything else stay. Throws UserError config-invalid
 * where the source is not written there as a map of its own (an alias would change other places, too). Pure.
 */
export function writePins(
  text: string,
  pins: readonly SourcePins[],
  sides: readonly SidesPin[] = [],
): string {
  let written = text;
  for (const pin of pins) written = writeOne(written, pin);
  for (const pin of sides) written = writeAfter(written, pin);
  parseProject(written);
  return written;
}

function writeAfter(text: string, { dataset, after }: SidesPin): string {
  const split = parseDocument(text).getIn(['datasets', dataset, 'split'], true);
  const old = isMap(split) ? split.get('after', true) : undefined;
  if (isScalar(old) && old.range) return `${text.slice(0, old.range[0])}${after}${text.slice(old.range[1])}`;
  const first = isMap(split) ? split.items[0]?.key : undefined;
  if (!isMap(split) || !isScalar(first) || !first.range) {
    throw new UserError(
      'config-invalid',
      `datasets.${dataset}.split of cdl.yaml is not written out there: write after: ${after}`,
    );
  }
  const [at] = first.range;
  const indent = /[^\n]*$/.exec(text.slice(0, at))![0].replace(/[^ ]/g, ' ');
  return `${text.slice(0, at)}after: ${after}${split.flow ? ', ' : `\n${indent}`}${text.slice(at)}`;
}

function writeOne(text: string, { dataset, source, sha256 }: SourcePins): string {
  const document = parseDocument(text);
  const where = `datasets.${dataset}.sources.${source}`;
  const node = document.getIn(['datasets', dataset, 'sources', source], true);
  const refuse = () =>
    new UserError('config-invalid', `${where} of cdl.yaml is not written out there: write sha256: ${sha256}`);
  if (!isMap(node)) throw refuse();
  const value =
    typeof sha256 === 'string' ? sha256 : stringify(sha256, { collectionStyle: 'flow', lineWidth: 0 });
  const old = node.items.find((pair) => isScalar(pair.key) && pair.key.value === 'sha256');
  if (old) {
    if (!isNode(old.value) || !old.value.range) throw refuse();
    const [from, to] = old.value.range;
    return `${text.slice(0, from)}${value.trimEnd()}${/\n$/.test(text.slice(from, to)) ? '\n' : ''}${text.slice(to)}`;
  }
  // Before `read:`, which every source has: what pins it stands beside what it is.
  const read =
    node.items.find((pair) => isScalar(pair.key) && pair.key.value === 'read') ?? node.items.at(-1);
  const key = read?.key;
  if (!isScalar(key) || !key.range) throw refuse();
  const [at] = key.range;
  const indent = /[^\n]*$/.exec(text.slice(0, at))![0].replace(/[^ ]/g, ' ');
  const line = node.flow ? `sha256: ${value.trimEnd()}, ` : `sha256: ${value.trimEnd()}\n${indent}`;
  return `${text.slice(0, at)}${line}${text.slice(at)}`;
}
