import type { DatasetConfig } from '../core/project.ts';

/** What reading, splitting and labelling say of an item they set aside. */
const fixed = new Set([
  'conflicting-labels',
  'device',
  'empty',
  'field-missing',
  'file-missing',
  'joins-both-sides',
  'label-no-class',
  'labelers-disagree',
  'link',
  'name-not-utf-8',
  'named-twice',
  'no label',
  'no-text',
  'not a JSON record',
  'not UTF-8',
  'not-a-byte',
  'not-a-record',
  'not-utf-8',
  'pipe',
  'socket',
  'does not decode as a picture',
  'too-large',
  'unknown-class',
  'wrong-length',
]);

const limit =
  /^(?:fewer|more) than \d+(?:\.\d+)? (?:bytes|characters)$|^(?:width|height) (?:below|above) \d+(?:\.\d+)? pixels$/;

const ofField =
  /^(?:missing|not of type [a-z]+|not an allowed value|(?:below|above) -?\d+(?:\.\d+)?|(?:shorter|longer) than \d+ characters|does not match its pattern)$/;

/** Under which everything is counted that is said in words of the project's own. */
export const ownWords = 'for reasons of the project’s own, which the report of its pipeline names';

/**
 * Items set aside by reason, the most frequent first, in our own words: the reasons of a manifest were written where changes
 * may write, so that only those are repeated which our own rules could have given. Fields are named when the rules name them.
 */
export function knownReasons(
  quarantined: Readonly<Record<string, number>>,
  rules: DatasetConfig['rules'],
): [string, number][] {
  const counts = new Map<string, number>();
  for (const [reason, count] of Object.entries(quarantined)) {
    const word = isKnown(reason, rules) ? reason : ownWords;
    counts.set(word, (counts.get(word) ?? 0) + count);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

function isKnown(reason: string, rules: DatasetConfig['rules']): boolean {
  if (fixed.has(reason) || limit.test(reason)) return true;
  if (reason === `not one of .${rules.extensions?.join(', .')}`) return true;
  if (reason === `a picture, but not ${rules.image?.formats.join(', ')}`) return true;
  const field = Object.keys(rules.fields ?? {}).find((name) => reason.startsWith(`field ${name}: `));
  return field !== undefined && ofField.test(reason.slice(`field ${field}: `.length));
}
