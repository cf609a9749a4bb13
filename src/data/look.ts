import type { DataRules, Sensitive } from '../core/project-data-rules.ts';
import type { Block, Chart } from '../core/report.ts';
import type { Dataset } from './dataset.ts';
import { inspectItem } from './inspect.ts';
import { decodeUtf8, excerpt } from './mask.ts';
import { tensorThumbnail, thumbnail } from './picture.ts';
import { countSize, emptyProfile, examplesPerClass, keepExamples, type Profile } from './profile.ts';
import type { RawItem } from './raw-item.ts';

/** Most classes shown with examples; a sheet of more is no longer looked at. */
const mostRows = 20;

/** Side of an example picture in pixels. */
export const exampleSide = 56;

/** Counts the items of a tensor data set; examples are pictures where the shape is one and they may be shown. */
export async function profileTensors(
  dataset: Dataset,
  sensitive: Sensitive | undefined,
  withExamples: boolean,
): Promise<Profile> {
  const profile = emptyProfile(dataset.classes.length);
  const size = dataset.shape.reduce((product, dim) => product * dim, 1);
  profile.count = dataset.count;
  const examples: Profile['examples'] = [];
  for (let index = 0; index < dataset.count; index++) {
    const label = dataset.y[index]!;
    profile.perClass[label]! += 1;
    // Encoded items (floats) are no pictures.
    if (!(dataset.x instanceof Uint8Array)) continue;
    if (!withExamples || sensitive !== undefined || profile.perClass[label]! > examplesPerClass) continue;
    const bytes = dataset.x.subarray(index * size, (index + 1) * size);
    const png = await tensorThumbnail(bytes, dataset.shape, exampleSide);
    // Items lie in the order of their ids, so that their position stands for the id.
    const id = String(index).padStart(12, '0');
    if (png) examples.push({ id, label, text: null, png: png.toString('base64') });
  }
  if (dataset.count > 0) countSize(profile.bytes, size);
  for (const bin of Object.keys(profile.bytes)) profile.bytes[bin] = dataset.count;
  return { ...profile, examples: keepExamples(examples) };
}

/** Counts raw items, and those that break a declared rule; examples are small pictures or shortened, masked texts. */
export async function profileRaw(
  items: AsyncIterable<RawItem>,
  classes: readonly string[],
  rules: DataRules,
  sensitive: Sensitive | undefined,
  withExamples: boolean,
): Promise<Profile> {
  const profile = emptyProfile(classes.length);
  const shown = new Map<number | null, number>();
  const examples: Profile['examples'] = [];
  for await (const item of items) {
    profile.count++;
    if (item.label === null) profile.unlabelled++;
    else profile.perClass[item.label]! += 1;
    countSize(profile.bytes, item.bytes.length);
    const text = decodeUtf8(item.bytes);
    if (text !== null) countSize(profile.characters, text.length);
    const reasons = await inspectItem(item, rules);
    if (reasons.length > 0) profile.invalid++;
    for (const reason of reasons) profile.reasons[reason] = (profile.reasons[reason] ?? 0) + 1;
    const already = shown.get(item.label) ?? 0;
    if (!withExamples || already >= examplesPerClass) continue;
    shown.set(item.label, already + 1);
    const words = text === null ? null : excerpt(item, sensitive, 160);
    const png = text === null && sensitive === undefined ? await thumbnail(item.bytes, exampleSide) : null;
    examples.push({ id: item.id, label: item.label, text: words, png: png ? png.toString('base64') : null });
  }
  return { ...profile, examples: keepExamples(examples) };
}

/** How many items each class has, as a chart. `perClass` in the order of the classes. */
export function classChart(classes: readonly string[], perClass: readonly number[]): Block {
  const bars = classes.map((name, index) => ({ name, value: perClass[index]! }));
  return {
    kind: 'chart',
    chart: { kind: 'bars', title: 'Items of each class', x: 'class', y: 'items', bars },
  };
}

/** Which rules for single items are broken, and by how many; nothing where none is. */
export function brokenRules({ reasons }: Pick<Profile, 'reasons'>): Block[] {
  const rows = Object.entries(reasons)
    .sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))
    .map(([reason, count]) => [reason, String(count)]);
  return rows.length === 0
    ? []
    : [{ kind: 'table', head: ['rule broken', 'items'], align: ['left', 'right'], rows }];
}

/** What people look at: how large items are, and a few of each class. Pure. */
export function lookBlocks(profile: Profile, classes: readonly string[]): Block[] {
  const blocks: Block[] = [];
  const texts = Object.keys(profile.characters).length > 0;
  const sizes = texts ? profile.characters : profile.bytes;
  if (Object.keys(sizes).length > 1) {
    blocks.push({ kind: 'chart', chart: sizeChart(sizes, texts ? 'characters' : 'bytes') });
  }
  const nameOf = (label: number | null) =>
    label === null ? 'without label' : (classes[label] ?? String(label));
  const all = [...new Set(profile.examples.map((one) => one.label))];
  const labels = all.slice(0, mostRows);
  const side = labels.length < all.length ? `training side, ${mostRows} of ${all.length}` : 'training side';
  const of = (label: number | null) => profile.examples.filter((one) => one.label === label);
  if (profile.examples.some((one) => one.png !== null)) {
    const rows = labels.map((label) => ({
      name: nameOf(label),
      pictures: of(label).flatMap((one) => one.png ?? []),
    }));
    blocks.push({
      kind: 'chart',
      chart: { kind: 'sheet', title: `Examples of each class (${side})`, rows },
    });
  }
  const shown = labels.flatMap((label) =>
    of(label)
      .flatMap((one) => (one.text === null ? [] : [[nameOf(label), one.text]]))
      .slice(0, 2),
  );
  if (shown.length > 0) {
    blocks.push({
      kind: 'details',
      summary: `Examples (${side}, shortened)`,
      blocks: [{ kind: 'table', head: ['class', 'text'], align: ['left', 'left'], rows: shown }],
    });
  }
  return blocks;
}

function sizeChart(histogram: Readonly<Record<string, number>>, unit: string): Chart {
  const bins = Object.keys(histogram).map(Number);
  const [low, high] = [Math.min(...bins), Math.max(...bins)];
  const bars = Array.from({ length: high - low + 1 }, (_, index) => ({
    name: `${(2 ** (low + index)).toLocaleString('en')} – ${(2 ** (low + index + 1) - 1).toLocaleString('en')}`,
    value: histogram[low + index] ?? 0,
  }));
  return { kind: 'bars', title: `Items by size in ${unit}`, x: unit, y: 'items', bars };
}
