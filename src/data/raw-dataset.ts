import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Artifact } from '../core/artifact.ts';
import { canonicalJson, type Digest } from '../core/digest.ts';
import type { DatasetConfig } from '../core/project.ts';
import { nearThreshold } from '../core/project-split.ts';
import type { Zone } from '../store/types.ts';
import { encodeSides, type Sides, sidesFile, sidesKey } from './carried.ts';
import { cleanedAlike } from './cleaned-alike.ts';
import { type DatasetMeta, describeSource } from './dataset.ts';
import { type Places, storeFiles } from './in-place.ts';
import { createItemPool, type ItemPool } from './item-pool.ts';
import { createNearIndex } from './near.ts';
import type { RawItem } from './raw-item.ts';
import { readRawSource } from './raw-read.ts';
import { writeShards } from './shards.ts';
import { checkStratified, type Group, placeItems, sidesOf } from './sides.ts';
import type { FetchedSource } from './sources.ts';

/** One of several copies with different labels: where it stands (file and line), which the version does not say. */
export interface Conflict {
  id: Digest;
  position: string;
  label: string | null;
}

/** A line of `quarantine.jsonl`. What is set aside for another item names it: its own copies, or one that it joins. */
interface QuarantineLine {
  reason: string;
  position: string;
  item?: Digest;
  class?: number | null;
  joins?: Digest;
}

/** So many of them are told. */
const mostConflicts = 40;

/**
 * Makes the artifact of one side of a source of raw items: tar shards with their index, `classes.json` and
 * `quarantine.jsonl`. Of exact copies one is kept, copies with different labels are all set aside; items of one declared
 * group, and items alike, stay on one side; those of `before` keep theirs (see `placeItems`). The same items give the same
 * digest in whatever order they come. Items go through a file: memory holds some 60 bytes of each, 1 KB where texts are
 * compared. Items that have one of `places` are not copied. `sides` is the digest of `sides.txt`, null where each item is by itself.
 */
export async function buildRawDataset(
  name: string,
  config: DatasetConfig,
  fetched: FetchedSource,
  side: 'train' | 'test',
  zone: Zone,
  before: Sides = new Map(),
  places: Places = new Map(),
): Promise<{ digest: Digest; meta: DatasetMeta; sides: Digest | null; conflicts: Conflict[] }> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-raw-'));
  const pool = createItemPool(folder);
  try {
    const threshold = nearThreshold(config.item, config.split);
    const { quarantine, declared, cleaned } = await fillPool(config, fetched, pool);
    const { unique, duplicates, conflicting } = await uniqueItems(pool);
    const conflicts: Conflict[] = [];
    for (const index of conflicting) {
      const { attributes, label, position, id } = await pool.read(index);
      // Those of one item are each other's copies.
      quarantine.push({
        reason: 'conflicting-labels',
        position: attributes.path ?? '',
        item: id,
        class: label,
      });
      if (conflicts.length < mostConflicts) {
        const told = label === null ? null : config.classes[label]!;
        conflicts.push({ id, position: position ?? attributes.path ?? '', label: told });
      }
    }
    const near = threshold === null ? null : createNearIndex(threshold);
    for (const index of near ? unique : []) near!.add((await pool.read(index)).bytes);
    const grouped = groupItems(pool, unique, declared, cleaned, near?.groups() ?? null);
    // A source of one side is not split.
    const sides = fetched.source.side
      ? null
      : placeItems(grouped.of, sidesOf(grouped.groups, config.split), (at) =>
          before.get(sidesKey(pool.id(unique[at]!))),
        );
    // Items that were there cannot be placed anew.
    if (sides && config.split.stratify && before.size === 0) {
      checkStratified(grouped.groups, config.split, config.classes);
    }
    /** The first item of the training side in each group: of the two sides, the one that people may look at. */
    const inTraining = new Map<number, Digest>();
    for (const [at, index] of unique.entries()) {
      const group = grouped.of[at]!;
      if (sides?.[at] === 'train' && !inTraining.has(group)) inTraining.set(group, pool.id(index));
    }
    for (const [at, index] of sides ? unique.entries() : []) {
      if (sides![at] !== 'aside') continue;
      const { attributes, id } = await pool.read(index);
      const joins = inTraining.get(grouped.of[at]!);
      quarantine.push({
        reason: 'joins-both-sides',
        position: attributes.path ?? '',
        item: id,
        ...(joins && { joins }),
      });
    }
    const kept = unique.filter((_, at) => !sides || sides[at] === side);
    const groupOf = new Map(unique.map((index, at) => [index, grouped.groups[grouped.of[at]!]!.name]));
    const items = async function* (): AsyncGenerator<RawItem> {
      for (const index of kept) {
        const item = await pool.read(index);
        const group = groupOf.get(index)!;
        yield group === item.id ? item : { ...item, attributes: { ...item.attributes, group } };
      }
    };
    const names = await writeShards(items(), folder, config.classes);
    await writeFile(join(folder, 'classes.json'), `${canonicalJson(config.classes)}\n`);
    // What could not be read belongs to neither side and is listed with the training side, which people may look at.
    const lines = side === 'train' ? quarantine.map((one) => `${canonicalJson(one)}\n`).sort() : [];
    await writeFile(join(folder, 'quarantine.jsonl'), lines.join(''));
    const listed = sides !== null && (near !== null || cleaned !== null || grouped.declared > 0);
    if (listed) {
      const all = new Map(before);
      for (const [at, index] of unique.entries()) {
        const placed = sides[at]!;
        if (placed !== 'aside') all.set(sidesKey(pool.id(index)), placed);
      }
      await writeFile(join(folder, sidesFile), encodeSides(all));
    }
    const paths = [...names, 'classes.json', 'quarantine.jsonl', ...(listed ? [sidesFile] : [])];
    const files = await storeFiles(zone, folder, paths, places);
    const perClass = config.classes.map(() => 0);
    for (const index of kept) {
      const label = pool.label(index);
      if (label !== null) perClass[label]! += 1;
    }
    const quarantined: Record<string, number> = {};
    for (const { reason } of quarantine) quarantined[reason] = (quarantined[reason] ?? 0) + 1;
    const { key, test, validation } = config.split;
    const meta: DatasetMeta = {
      v: 2,
      side,
      count: kept.length,
      classes: config.classes,
      shape: [],
      perClass,
      unique: unique.length,
      duplicates,
      ...(near && { alike: grouped.alike }),
      ...(grouped.declared > 0 && { groups: grouped.declared }),
      quarantined,
      source: describeSource(fetched.source, config.sources),
      split: { key, test, validation },
    };
    const artifact: Artifact = {
      kind: 'dataset',
      name: `${name}-${side}`,
      files,
      parents: [],
      meta: meta as never,
    };
    const carried = files.find((file) => file.path === sidesFile)?.digest ?? null;
    return { digest: await zone.putArtifact(artifact), meta, sides: carried, conflicts };
  } finally {
    await pool.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function fillPool(
  config: DatasetConfig,
  fetched: FetchedSource,
  pool: ItemPool,
): Promise<{
  quarantine: QuarantineLine[];
  declared: (string | null)[];
  cleaned: string[] | null;
}> {
  const quarantine: QuarantineLine[] = [];
  const declared: (string | null)[] = [];
  const cleaned: string[] | null = config.clean ? [] : null;
  const names = new Map<string, string>();
  const attribute = config.split.group_by ?? 'group';
  for await (const one of readRawSource(config, fetched)) {
    if ('reason' in one) {
      quarantine.push(one);
      continue;
    }
    const group = Object.hasOwn(one.attributes, attribute) ? one.attributes[attribute]! : null;
    // One string for all items of a group.
    if (group !== null && !names.has(group)) names.set(group, group);
    declared.push(group === null ? null : names.get(group)!);
    cleaned?.push(cleanedAlike(one, config.clean!));
    await pool.add(one);
  }
  await pool.seal();
  return { quarantine, declared, cleaned };
}

/** Items without their exact copies, by ascending id. Copies with different labels are out, all of them. */
async function uniqueItems(
  pool: ItemPool,
): Promise<{ unique: number[]; duplicates: number; conflicting: number[] }> {
  const order = await pool.sorted();
  const found = { unique: [] as number[], duplicates: 0, conflicting: [] as number[] };
  for (let start = 0; start < order.length; ) {
    const first = order[start]!;
    let end = start + 1;
    while (end < order.length && pool.id(order[end]!) === pool.id(first)) end++;
    const copies = order.subarray(start, end);
    if (copies.every((index) => pool.label(index) === pool.label(first))) {
      found.unique.push(first);
      found.duplicates += copies.length - 1;
    } else {
      found.conflicting.push(...copies);
    }
    start = end;
  }
  return found;
}

/**
 * Which items stay together: those of one declared group, those that cleaning makes equal, and those alike, directly or
 * through others. A group is named by
 * the smallest declared name in it, otherwise by its smallest id. `of` is the group of each item of `unique`.
 */
function groupItems(
  pool: ItemPool,
  unique: readonly number[],
  declared: readonly (string | null)[],
  cleaned: readonly string[] | null,
  alike: Uint32Array | null,
): { groups: (Group & { name: string })[]; of: number[]; alike: number; declared: number } {
  const root = unique.map((_, at) => at);
  const find = (at: number): number => {
    let top = at;
    while (root[top] !== top) {
      root[top] = root[root[top]!]!;
      top = root[top]!;
    }
    return top;
  };
  const unite = (a: number, b: number) => {
    const [x, y] = [find(a), find(b)];
    root[Math.max(x, y)] = Math.min(x, y);
  };
  const firsts = new Map<string, number>();
  const cleanedFirsts = new Map<string, number>();
  let near = 0;
  for (const [at, index] of unique.entries()) {
    const name = declared[index]!;
    if (name !== null) {
      if (!firsts.has(name)) firsts.set(name, at);
      unite(at, firsts.get(name)!);
    }
    if (cleaned) {
      const key = cleaned[index]!;
      if (!cleanedFirsts.has(key)) cleanedFirsts.set(key, at);
      unite(at, cleanedFirsts.get(key)!);
    }
    if (!alike || alike[at] === at) continue;
    near += 1;
    unite(at, alike[at]!);
  }
  const groups: (Group & { name: string; labels: (number | null)[]; declared: boolean })[] = [];
  const numbers = new Map<number, number>();
  const of = unique.map((index, at) => {
    const top = find(at);
    let number = numbers.get(top);
    if (number === undefined) {
      number = groups.push({ name: pool.id(index), labels: [], declared: false }) - 1;
      numbers.set(top, number);
    }
    const group = groups[number]!;
    group.labels.push(pool.label(index));
    const name = declared[index]!;
    if (name !== null && (!group.declared || name < group.name))
      Object.assign(group, { name, declared: true });
    return number;
  });
  return { groups, of, alike: near, declared: groups.filter((group) => group.declared).length };
}
