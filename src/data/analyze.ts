import type { DataRules, Sensitive } from '../core/project-data-rules.ts';
import type { Block } from '../core/report.ts';
import { describeFields, type FieldStats, fieldBlocks } from './analyze-fields.ts';
import { brokenRules, classChart, lookBlocks, profileRaw } from './look.ts';
import { decodeUtf8, isSensitive, parseRecord } from './mask.ts';
import { createNearIndex } from './near.ts';
import { decodePicture } from './picture.ts';
import type { Profile } from './profile.ts';
import type { RawItem } from './raw-item.ts';

/** Share of the shorter text's shingles from which two texts count as nearly the same. */
const alike = 0.8;

/** Words shown of each class. */
const wordsPerClass = 10;

/** Groups of near copies that are named. */
const mostGroups = 20;

/** Words that are counted; what comes later in a larger vocabulary is left out. */
const mostWords = 1_000_000;

interface Words {
  /** How often each word stands in each class. */
  counts: Map<string, Uint32Array>;
  total: number;
  texts: number;
}

/**
 * The words that mark a class out: the largest z-scores of the weighted log-odds ratio with an informative Dirichlet prior
 * (Monroe, Colaresi, Quinn 2008, equations 15, 16 and 22), each class against all others, the prior being all texts.
 */
export function markingWords(
  counts: ReadonlyMap<string, Uint32Array>,
  classes: number,
  most: number,
): string[][] {
  const totals = new Float64Array(classes);
  for (const row of counts.values()) for (const [label, n] of row.entries()) totals[label]! += n;
  const all = totals.reduce((sum, n) => sum + n, 0);
  return Array.from({ length: classes }, (_, label) => {
    const own = totals[label]!;
    const scored: [string, number][] = [];
    for (const [word, row] of counts) {
      const here = row[label]!;
      if (here === 0) continue;
      const everywhere = row.reduce((sum, n) => sum + n, 0);
      const there = everywhere - here;
      const odds = (n: number, size: number) =>
        Math.log((n + everywhere) / (size + all - n - everywhere || Number.EPSILON));
      const z =
        (odds(here, own) - odds(there, all - own)) /
        Math.sqrt(1 / (here + everywhere) + 1 / (there + everywhere));
      if (z > 0) scored.push([word, z]);
    }
    scored.sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
    return scored.slice(0, most).map(([word]) => word);
  });
}

function countWords(words: Words, text: string, label: number | null, classes: number): void {
  words.texts++;
  for (const word of text.toLowerCase().match(/\p{L}[\p{L}\p{M}\p{N}’'-]*/gu) ?? []) {
    words.total++;
    if (label === null) continue;
    let row = words.counts.get(word);
    if (!row) {
      if (words.counts.size >= mostWords) continue;
      row = new Uint32Array(classes);
      words.counts.set(word, row);
    }
    row[label]! += 1;
  }
}

function wordBlocks(words: Words, classes: readonly string[]): Block[] {
  if (words.texts === 0) return [];
  const facts: [string, string][] = [
    ['words', String(words.total)],
    ['words of a text (mean)', (words.total / words.texts).toFixed(1)],
    ['different words', String(words.counts.size)],
  ];
  const marking = markingWords(words.counts, classes.length, wordsPerClass);
  const rows = marking.flatMap((list, label) =>
    list.length > 0 ? [[classes[label]!, list.join(', ')]] : [],
  );
  if (rows.length < 2) return [{ kind: 'facts', facts }];
  return [
    { kind: 'facts', facts },
    { kind: 'table', head: ['class', 'words that mark it out'], align: ['left', 'left'], rows },
  ];
}

/** Groups of texts that are nearly the same; those whose labels differ are likely mistakes. */
function alikeBlocks(
  groups: Uint32Array,
  labels: readonly (number | null)[],
  ids: readonly string[],
): Block[] {
  const members = new Map<number, number[]>();
  for (const [index, group] of groups.entries()) members.set(group, [...(members.get(group) ?? []), index]);
  const several = [...members.values()].filter((list) => list.length > 1);
  const torn = several.filter((list) => {
    const known = new Set(list.map((index) => labels[index]).filter((label) => label !== null));
    return known.size > 1;
  });
  const facts: [string, string][] = [
    ['groups of near copies', String(several.length)],
    ['texts in these groups', String(several.reduce((sum, list) => sum + list.length, 0))],
    ['with different labels', String(torn.length)],
  ];
  if (torn.length === 0) return [{ kind: 'facts', facts }];
  const rows = torn
    .slice(0, mostGroups)
    .map((list) => [list.map((index) => ids[index]!.slice(7, 19)).join(', '), String(list.length)]);
  const left = torn.length - rows.length;
  return [
    { kind: 'facts', facts },
    {
      kind: 'details',
      summary: 'Nearly the same, labelled differently: look at these first',
      blocks: [
        { kind: 'table', head: ['items', 'count'], align: ['left', 'right'], rows },
        ...(left > 0 ? [{ kind: 'text', text: `and ${left} other groups` } as const] : []),
      ],
    },
  ];
}

function pictureBlocks(formats: Map<string, number>, sizes: Map<string, number>): Block[] {
  if (formats.size === 0) return [];
  const top = (counts: Map<string, number>) =>
    [...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  const rows = top(sizes)
    .slice(0, 10)
    .map(([size, count]) => [size, String(count)]);
  return [
    { kind: 'facts', facts: top(formats).map(([name, count]): [string, string] => [name, String(count)]) },
    { kind: 'table', head: ['width × height', 'pictures'], align: ['left', 'right'], rows },
    ...(sizes.size > 10 ? [{ kind: 'text', text: `and ${sizes.size - 10} other sizes` } as const] : []),
  ];
}

/** The largest and the smallest class, with their share of what has a label; nothing of data without labels. */
export function classFacts(
  classes: readonly string[],
  { perClass }: Pick<Profile, 'perClass'>,
): [string, string][] {
  const total = perClass.reduce((sum, count) => sum + count, 0);
  if (total === 0) return [];
  const told = (count: number): string =>
    `${classes[perClass.indexOf(count)]!}, ${count} (${((count / total) * 100).toFixed(1)} %)`;
  return [
    ['largest class', told(Math.max(...perClass))],
    ['smallest class', told(Math.min(...perClass))],
  ];
}

/**
 * What one side of a raw data set is made of: amounts, sizes, examples; words and near copies of texts, fields of records,
 * sizes of pictures. Values that are sensitive show nowhere, and `sensitive: true` leaves figures only.
 */
export async function analyzeItems(
  items: AsyncIterable<RawItem>,
  options: { classes: readonly string[]; kind: string; rules: DataRules; sensitive: Sensitive | undefined },
): Promise<Block[]> {
  const { classes, kind, rules, sensitive } = options;
  const words: Words = { counts: new Map(), total: 0, texts: 0 };
  const fields = new Map<string, FieldStats>();
  const formats = new Map<string, number>();
  const sizes = new Map<string, number>();
  const labels: (number | null)[] = [];
  const ids: string[] = [];
  const near = createNearIndex(alike);
  const add = (counts: Map<string, number>, name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);

  async function* seen(): AsyncGenerator<RawItem> {
    for await (const item of items) {
      yield item;
      if (kind === 'image') {
        const picture = await decodePicture(item.bytes);
        add(formats, picture?.format ?? 'cannot be decoded');
        if (picture) add(sizes, `${picture.width} × ${picture.height}`);
        continue;
      }
      const text = decodeUtf8(item.bytes);
      if (kind === 'record') {
        const record = text === null ? null : parseRecord(text);
        if (record) describeFields(fields, record, (name) => isSensitive(sensitive, name));
      } else if (kind === 'text' && text !== null) {
        labels.push(item.label);
        ids.push(item.id);
        near.add(item.bytes);
        if (sensitive === undefined) countWords(words, text, item.label, classes.length);
      }
    }
  }

  const profile = await profileRaw(seen(), classes, rules, sensitive, true);
  return [
    {
      kind: 'facts',
      facts: [
        ['items', String(profile.count)],
        ['without a label', String(profile.unlabelled)],
        ...classFacts(classes, profile),
        ['breaking an item rule', String(profile.invalid)],
      ],
    },
    ...brokenRules(profile),
    classChart(classes, profile.perClass),
    ...(labels.length > 0 ? alikeBlocks(near.groups(), labels, ids) : []),
    ...wordBlocks(words, classes),
    ...fieldBlocks(fields),
    ...pictureBlocks(formats, sizes),
    ...lookBlocks(profile, classes),
  ];
}
