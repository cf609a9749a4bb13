import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { Artifact } from '../core/artifact.ts';
import { digestSchema } from '../core/artifact.ts';
import { canonicalJson, type Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { DatasetConfig, SourceConfig } from '../core/project.ts';
import type { Zone } from '../store/types.ts';
import { idxHeader, parseIdx } from './idx.ts';
import type { Items, Quarantined } from './items.ts';
import { type ItemArray, parseNpy } from './npy.ts';
import { checkStratified } from './sides.ts';
import { pinsOf, sourceNames } from './sources.ts';
import { createSplitter, sideOf } from './split.ts';
import { openWriter, readLarge } from './stream-files.ts';

/** The `meta` of a dataset artifact. */
export const datasetMetaSchema = z.strictObject({
  v: z.union([z.literal(1), z.literal(2)]),
  side: z.enum(['train', 'test']),
  count: z.int().nonnegative(),
  classes: z.array(z.string()),
  /** Of one item. */
  shape: z.array(z.int().positive()).default([]),
  /** Of raw items (v 2): different ones that were collected for both sides together, copies left out. */
  unique: z.int().nonnegative().optional(),
  /** Of raw items: how many texts are nearly another one, and share its side. */
  alike: z.int().nonnegative().optional(),
  /** Of raw items: how many declared groups there are on both sides together, each of them whole on one. */
  groups: z.int().positive().optional(),
  /** Items of each class, in the order of `classes`. */
  perClass: z.array(z.int().nonnegative()),
  /** Exact copies that were left out. */
  duplicates: z.int().nonnegative(),
  /** Items set aside, by reason. */
  quarantined: z.record(z.string(), z.int().positive()),
  /** The bytes it was made of, and the declared places that have just these. */
  source: z.strictObject({ names: z.array(z.string()), sha256: z.array(z.string()) }),
  split: z.strictObject({ key: z.string(), test: z.number(), validation: z.number() }),
  /** Of a version that was cleaned: items that each step changed, copies that cleaning made equal, items it set aside. */
  cleaned: z
    .strictObject({
      changed: z.record(z.string(), z.int().positive()),
      copies: z.int().nonnegative(),
      aside: z.int().nonnegative(),
    })
    .optional(),
  /** Of a version that people labelled: the label set, items without a label, Krippendorff's alpha, and why it is not enough. */
  labels: z
    .strictObject({
      set: digestSchema,
      unlabelled: z.int().nonnegative(),
      alpha: z.number().nullable(),
      refused: z.string().nullable(),
    })
    .optional(),
});

/** See {@link datasetMetaSchema}. */
export type DatasetMeta = z.infer<typeof datasetMetaSchema>;

/**
 * Labelled items in memory: `x` is `[count, ...shape]`, row-major, unsigned bytes or what a transform made of raw items;
 * `y` one index into `classes` each.
 */
export interface Dataset {
  x: ItemArray;
  y: Uint8Array;
  count: number;
  shape: number[];
  classes: string[];
  /** Items of one group stay together when a part is set aside; without groups the bytes of an item decide. */
  groups?: string[] | null;
}

/**
 * Makes the artifact of one side: `images.idx` ([count, …shape], unsigned bytes), `labels.idx`, `classes.json` and
 * `quarantine.jsonl`. Items are in the order of their sha256, so that the same items give the same digest in whatever
 * order they came. Of exact copies one is kept; copies with different labels are all set aside. Rows that could not be
 * read belong to neither side and are listed with the training side, which people may look at.
 */
export async function buildDataset(
  name: string,
  config: DatasetConfig,
  source: SourceConfig,
  items: Items,
  side: 'train' | 'test',
  zone: Zone,
): Promise<{ digest: Digest; meta: DatasetMeta }> {
  const { size } = items;
  if (config.split.stratify && !source.side) {
    const groups = Array.from({ length: items.count }, (_, index) => ({
      name: items.x.subarray(index * size, (index + 1) * size),
      labels: [items.y[index]!],
    }));
    checkStratified(groups, config.split, config.classes);
  }
  const chosen = chooseItems(items, config, side, source.side !== undefined);
  const labels = Buffer.alloc(chosen.kept.length);
  const perClass = config.classes.map(() => 0);
  for (const [at, index] of chosen.kept.entries()) {
    const label = items.y[index]!;
    labels[at] = label;
    perClass[label]! += 1;
  }
  const lines = chosen.quarantined.map((one) => canonicalJson(one)).sort();
  const quarantined: Record<string, number> = {};
  for (const { reason } of chosen.quarantined) quarantined[reason] = (quarantined[reason] ?? 0) + 1;
  const contents: [string, Buffer][] = [
    ['labels.idx', Buffer.concat([idxHeader([chosen.kept.length]), labels])],
    ['classes.json', Buffer.from(`${canonicalJson(config.classes)}\n`)],
    ['quarantine.jsonl', Buffer.from(lines.map((line) => `${line}\n`).join(''))],
  ];
  const header = idxHeader([chosen.kept.length, ...config.shape]);
  const files = [
    { path: 'images.idx', ...(await putItems(zone, header, items, chosen.kept)) },
    ...(await Promise.all(contents.map(async ([path, bytes]) => ({ path, ...(await zone.putBlob(bytes)) })))),
  ];
  const meta: DatasetMeta = {
    v: 1,
    side,
    count: chosen.kept.length,
    classes: config.classes,
    shape: config.shape,
    perClass,
    duplicates: chosen.duplicates,
    quarantined,
    source: describeSource(source, config.sources),
    split: { key: config.split.key, test: config.split.test, validation: config.split.validation },
  };
  const artifact: Artifact = {
    kind: 'dataset',
    name: `${name}-${side}`,
    files,
    parents: [],
    meta: meta as never,
  };
  return { digest: await zone.putArtifact(artifact), meta };
}

/** Stores a header and items behind it by way of a file: the items are in memory once, and may be more than one buffer holds. */
async function putItems(
  zone: Zone,
  header: Buffer,
  { x, size }: Items,
  wanted: readonly number[],
): Promise<{ digest: Digest; size: number }> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-items-'));
  try {
    const path = join(folder, 'items');
    const out = openWriter(path);
    await out.write(header);
    for (const index of wanted) await out.write(x.subarray(index * size, (index + 1) * size));
    await out.close();
    return await zone.putFile(path);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Mirrors of the same bytes are one source: which of them answered must not change the identity of the data. */
export function describeSource(used: SourceConfig, declared: readonly SourceConfig[]): DatasetMeta['source'] {
  const pins = pinsOf(used) ?? [];
  const same = declared.filter((source) => pinsOf(source)?.join() === pins.join());
  return { names: [...new Set([used, ...same].flatMap(sourceNames))].sort(), sha256: pins };
}

/** The items of a side: those the split gives it, or `all`, where the source is of one side. */
function chooseItems(items: Items, config: DatasetConfig, side: 'train' | 'test', all: boolean) {
  const { size } = items;
  const fraction = createSplitter(config.split.key);
  const mine: number[] = [];
  const hashes = Buffer.alloc(items.count * 32);
  for (let index = 0; index < items.count; index++) {
    const bytes = items.x.subarray(index * size, (index + 1) * size);
    if (!all && sideOf(fraction(bytes), config.split.test) !== side) continue;
    mine.push(index);
    createHash('sha256')
      .update(bytes)
      .digest()
      .copy(hashes, index * 32);
  }
  const hash = (index: number) => hashes.subarray(index * 32, index * 32 + 32);
  // The first six bytes nearly always decide, and comparing numbers is much faster than comparing buffers.
  const prefix = new Float64Array(items.count);
  for (const index of mine) prefix[index] = hashes.readUIntBE(index * 32, 6);
  mine.sort((a, b) => prefix[a]! - prefix[b]! || Buffer.compare(hash(a), hash(b)));
  const kept: number[] = [];
  const quarantined: Quarantined[] = side === 'train' ? [...items.quarantined] : [];
  let duplicates = 0;
  for (let start = 0; start < mine.length; ) {
    let end = start + 1;
    while (end < mine.length && hash(mine[end]!).equals(hash(mine[start]!))) end++;
    const copies = mine.slice(start, end);
    const label = items.y[copies[0]!]!;
    if (copies.every((index) => items.y[index] === label)) {
      kept.push(copies[0]!);
      duplicates += copies.length - 1;
    } else {
      for (const index of copies) {
        quarantined.push({
          reason: 'conflicting-labels',
          position: items.position(index),
          class: items.y[index]!,
          item: `sha256:${hash(index).toString('hex')}`,
        });
      }
    }
    start = end;
  }
  return { kept, quarantined, duplicates };
}

/**
 * Opens the files of a saved dataset artifact (`images.idx`), or of a transform (`items.npy`, `groups.json`); the items are
 * one buffer, not copied. Throws UserError artifact-corrupt when the files do not fit each other.
 */
export async function openDataset(folder: string): Promise<Dataset> {
  const absent = (error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  };
  const optional = (name: string) => readFile(join(folder, name)).catch(absent);
  const [items, grouped] = await Promise.all([
    readLarge(join(folder, 'items.npy')).catch(absent),
    optional('groups.json'),
  ]);
  const [images, labels, names] = await Promise.all([
    items ?? readLarge(join(folder, 'images.idx')),
    readFile(join(folder, 'labels.idx')),
    readFile(join(folder, 'classes.json'), 'utf8'),
  ]).catch((cause: unknown) => {
    if (cause instanceof UserError) throw cause;
    throw new UserError('artifact-missing', `${folder} is not a data set`, undefined, { cause });
  });
  const x = items ? parseNpy(items, join(folder, 'items.npy')) : parseIdx(images, join(folder, 'images.idx'));
  const y = parseIdx(labels, join(folder, 'labels.idx'));
  const [count, ...shape] = x.dims;
  const classes = z.array(z.string()).safeParse(JSON.parse(names));
  const groups = z
    .array(z.string())
    .nullable()
    .safeParse(grouped ? JSON.parse(grouped.toString('utf8')) : null);
  if (
    !classes.success ||
    !groups.success ||
    y.dims.length !== 1 ||
    y.dims[0] !== count ||
    (groups.data && groups.data.length !== count)
  ) {
    throw new UserError(
      'artifact-corrupt',
      `the images, labels and classes in ${folder} do not belong together`,
    );
  }
  const known = classes.data.length;
  if (y.data.some((label) => label >= known)) {
    throw new UserError('artifact-corrupt', `${folder} has labels beyond its ${known} classes`);
  }
  return { x: x.data, y: y.data, count: count!, shape, classes: classes.data, groups: groups.data };
}

/** The bytes of one item. */
function itemBytes({ x, shape }: Dataset, index: number): Uint8Array {
  const size = shape.reduce((product, dim) => product * dim, 1);
  const item = x.subarray(index * size, (index + 1) * size);
  return new Uint8Array(item.buffer, item.byteOffset, item.byteLength);
}

/** The sha256 of each item's bytes, in hexadecimal digits. */
export function itemIds(set: Dataset): string[] {
  return Array.from({ length: set.count }, (_, index) =>
    createHash('sha256').update(itemBytes(set, index)).digest('hex'),
  );
}

/**
 * Parts a training set by the same kind of keyed hash, independent of the test split. `share` is that of the validation
 * part. Both parts keep the order.
 */
export function splitValidation(
  dataset: Dataset,
  share: number,
  key: string,
): { train: Dataset; validation: Dataset } {
  const fraction = createSplitter(`validation\n${key}`);
  const size = dataset.shape.reduce((product, dim) => product * dim, 1);
  const sides: { train: number[]; validation: number[] } = { train: [], validation: [] };
  for (let index = 0; index < dataset.count; index++) {
    const group = dataset.groups?.[index];
    const bytes = group === undefined ? itemBytes(dataset, index) : Buffer.from(group, 'utf8');
    sides[fraction(bytes) < share ? 'validation' : 'train'].push(index);
  }
  const pick = (indices: readonly number[]): Dataset => {
    const length = indices.length * size;
    const x = dataset.x instanceof Uint8Array ? new Uint8Array(length) : new Float32Array(length);
    for (const [at, index] of indices.entries()) {
      x.set(dataset.x.subarray(index * size, (index + 1) * size), at * size);
    }
    const y = Uint8Array.from(indices, (index) => dataset.y[index]!);
    const groups = dataset.groups ? indices.map((index) => dataset.groups![index]!) : null;
    return { x, y, count: indices.length, shape: dataset.shape, classes: dataset.classes, groups };
  };
  return { train: pick(sides.train), validation: pick(sides.validation) };
}
