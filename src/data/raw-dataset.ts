import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { canonicalJson, type Digest, digestBytes } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { DatasetConfig, SourceConfig } from '../core/project.ts';
import type { Zone } from '../store/types.ts';
import type { RawItem } from './raw-item.ts';
import { writeShards } from './shards.ts';
import { type FetchedSource, sourceNames } from './sources.ts';
import { createSplitter, sideOf } from './split.ts';

const largestItem = 64 << 20;

/** Every file `<folder>/<class>/<name>` of a zip as a raw item with its label. Throws UserError data-invalid. */
export async function readFolderItems(config: DatasetConfig, fetched: FetchedSource): Promise<RawItem[]> {
  const { read } = fetched.source;
  if (read.format !== 'class-folders')
    throw new UserError('config-invalid', `read.format ${read.format} gives tensors`);
  const { openPromise } = await import('yauzl');
  const items: RawItem[] = [];
  for (const { path, name } of fetched.files) {
    const zip = await openPromise(path).catch((cause: Error) => {
      throw new UserError('data-invalid', `${name} is not a zip archive: ${cause.message}`, undefined, {
        cause,
      });
    });
    for await (const entry of zip.eachEntry()) {
      if (!entry.fileName.startsWith(`${read.folder}/`) || entry.fileName.endsWith('/')) continue;
      const [folder, file] = entry.fileName.slice(read.folder.length + 1).split('/');
      const label = config.classes.indexOf(folder ?? '');
      if (label < 0 || !file) continue;
      if (entry.uncompressedSize > largestItem) {
        throw new UserError(
          'data-invalid',
          `${entry.fileName} in ${name} has ${entry.uncompressedSize} bytes`,
        );
      }
      const bytes = await buffer(await zip.openReadStreamPromise(entry));
      const extension = /\.([a-z0-9]{1,16})$/.exec(file.toLowerCase())?.[1] ?? 'bin';
      items.push({ id: digestBytes(bytes), bytes, extension, label, attributes: { path: entry.fileName } });
    }
  }
  return items;
}

/** Words in a row that two texts must share to count as alike; short enough for a changed word here and there. */
const shingle = 8;

/**
 * Which items belong together, by id: texts that share more than half of the shingles of the shorter one (Broder 1997,
 * containment), directly or through others. The group is named by its smallest id.
 */
export function groupAlike(items: readonly RawItem[]): Map<Digest, Digest> {
  const places = new Map<string, number[]>();
  const sizes = items.map((item, index) => {
    const words =
      Buffer.from(item.bytes)
        .toString('utf8')
        .toLowerCase()
        .match(/[\p{L}\p{N}]+/gu) ?? [];
    const own = new Set<string>();
    for (let at = 0; at + shingle <= words.length; at++) own.add(words.slice(at, at + shingle).join(' '));
    for (const one of own) places.set(one, [...(places.get(one) ?? []), index]);
    return own.size;
  });
  const shared = new Map<string, number>();
  for (const list of places.values()) {
    // What stands in very many texts is boilerplate.
    if (list.length > 32) continue;
    for (const [at, b] of list.entries()) {
      for (const a of list.slice(0, at)) shared.set(`${a} ${b}`, (shared.get(`${a} ${b}`) ?? 0) + 1);
    }
  }
  const root = items.map((_, index) => index);
  const find = (index: number): number => {
    while (root[index] !== index) index = root[index]!;
    return index;
  };
  for (const [pair, count] of shared) {
    const [a, b] = pair.split(' ').map(Number) as [number, number];
    if (count * 2 > Math.min(sizes[a]!, sizes[b]!)) {
      const [x, y] = [find(a), find(b)];
      root[Math.max(x, y)] = Math.min(x, y);
    }
  }
  return new Map(items.map((item, index) => [item.id, items[find(index)]!.id]));
}

/**
 * Makes the artifact of one side of raw items: tar shards with their index, `classes.json` and `quarantine.jsonl`. Of exact
 * copies one is kept, copies with different labels are all set aside; items alike stay on one side.
 */
export async function buildRawDataset(
  name: string,
  config: DatasetConfig,
  source: SourceConfig,
  items: readonly RawItem[],
  side: 'train' | 'test',
  zone: Zone,
): Promise<{
  digest: Digest;
  meta: { count: number; duplicates: number; alike: number; quarantined: Record<string, number> };
}> {
  const byId = new Map<Digest, RawItem[]>();
  for (const item of items) byId.set(item.id, [...(byId.get(item.id) ?? []), item]);
  const unique: RawItem[] = [];
  const quarantine: string[] = [];
  let duplicates = 0;
  for (const [, copies] of [...byId].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (copies.some((one) => one.label !== copies[0]!.label)) {
      for (const { attributes } of copies)
        quarantine.push(canonicalJson({ reason: 'conflicting-labels', position: attributes.path ?? '' }));
      continue;
    }
    unique.push(copies[0]!);
    duplicates += copies.length - 1;
  }
  const groups = groupAlike(unique);
  const fraction = createSplitter(config.split.key);
  const kept = unique.flatMap((item) => {
    const group = groups.get(item.id)!;
    if (sideOf(fraction(Buffer.from(group)), config.split.test) !== side) return [];
    return [{ ...item, attributes: group === item.id ? item.attributes : { ...item.attributes, group } }];
  });
  const alike = unique.filter((item) => groups.get(item.id) !== item.id).length;
  const folder = await mkdtemp(join(tmpdir(), 'cdl-raw-'));
  try {
    const names = await writeShards(kept, folder, config.classes);
    await writeFile(join(folder, 'classes.json'), `${canonicalJson(config.classes)}\n`);
    await writeFile(
      join(folder, 'quarantine.jsonl'),
      side === 'train'
        ? quarantine
            .map((one) => `${one}\n`)
            .sort()
            .join('')
        : '',
    );
    const files = await Promise.all(
      [...names, 'classes.json', 'quarantine.jsonl'].map(async (path) => ({
        path,
        ...(await zone.putFile(join(folder, path))),
      })),
    );
    const perClass = config.classes.map((_, label) => kept.filter((item) => item.label === label).length);
    const quarantined: Record<string, number> =
      quarantine.length > 0 ? { 'conflicting-labels': quarantine.length } : {};
    const meta = {
      v: 2 as const,
      side,
      count: kept.length,
      classes: config.classes,
      perClass,
      duplicates,
      alike,
      quarantined,
      source: { names: sourceNames(source), sha256: [source.sha256].flat() },
      split: { key: config.split.key, test: config.split.test, validation: config.split.validation },
    };
    const digest = await zone.putArtifact({
      kind: 'dataset',
      name: `${name}-${side}`,
      files,
      parents: [],
      meta,
    });
    return { digest, meta };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
