import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Artifact } from '../core/artifact.ts';
import { canonicalJson, type Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { Sensitive } from '../core/project-data-rules.ts';
import type { Zone } from '../store/types.ts';
import { type CleanCounts, type Merged, mergeShards } from './clean-shards.ts';
import { type DatasetMeta, datasetMetaSchema } from './dataset.ts';
import { placesOfVersion, storeFiles } from './in-place.ts';
import { exampleSide } from './look.ts';
import { excerpt } from './mask.ts';
import { thumbnail } from './picture.ts';
import type { RawItem } from './raw-item.ts';
import { writeShards } from './shards.ts';
import { createSpool, mergeSpools } from './spool.ts';

/** Different reasons that are counted one by one; a custom function could say another one of every item. */
const mostReasons = 30;

/** Under which the reasons beyond {@link mostReasons} are counted. */
const otherReasons = 'other reasons';

/** Examples kept of each reason. */
const examplesPerReason = 4;

/** What a cleaned version is made of; the same gives the same digest, in whatever shares it was cleaned. */
export interface CleanedInput {
  dataset: Digest;
  manifest: Artifact;
  /** `quarantine.jsonl` of the version that was cleaned, as a local file. */
  quarantine: string;
  /** Shares of the workers, as folders. */
  folders: readonly string[];
  counts: CleanCounts;
  sensitive: Sensitive | undefined;
}

/** An item that was set aside, as people may see it. */
export interface AsideExample {
  reason: string;
  id: Digest;
  label: number | null;
  text: string | null;
  /** Base64. */
  png: string | null;
}

/** What came out, for the report. */
export interface Cleaned {
  digest: Digest;
  meta: DatasetMeta;
  /** Items set aside by cleaning, each once, by their first reason; the most frequent first. */
  reasons: [string, number][];
  /** Those of each class, in the order of the classes; what has no label is in none of them. */
  asidePerClass: number[];
  aside: number;
  /** A few of each reason; empty for the withheld side, which nobody looks at. */
  examples: AsideExample[];
}

/**
 * Makes the cleaned version of a raw data version from the shares of its workers: the cleaned bytes as shards, and what was
 * set aside, with its reasons in `quarantine.jsonl` and its bytes as shards of their own below `quarantine/`, in the same
 * layout. Nothing is lost: each item is kept, a copy of one that is kept, or there. Throws UserError data-invalid for what
 * is no raw data version.
 */
export async function buildCleaned(zone: Zone, input: CleanedInput, folder: string): Promise<Cleaned> {
  const { manifest, folders, counts } = input;
  const parsed = datasetMetaSchema.safeParse(manifest.meta);
  if (!parsed.success || parsed.data.v !== 2) {
    throw new UserError('data-invalid', `${input.dataset} is no data version of raw items`);
  }
  const before = parsed.data;
  const output = join(folder, 'output');
  await rm(output, { recursive: true, force: true });
  await mkdir(join(output, 'quarantine'), { recursive: true });

  const perClass = before.classes.map(() => 0);
  const found = { count: 0, copies: 0 };
  const asides = createAsides(before, input.sensitive);
  const spool = await createSpool(join(folder, 'aside'));
  const kept = async function* (): AsyncGenerator<RawItem> {
    for await (const one of mergeShards(folders)) {
      if (one.kind === 'kept') {
        found.count += 1;
        if (one.item.label !== null) perClass[one.item.label]! += 1;
        yield one.item;
      } else if (one.kind !== 'aside') {
        found.copies += 1;
      } else {
        await asides.add(one);
        const { bytes, offset: _offset, size: _size, ...line } = one.item;
        await spool.add(line, bytes);
      }
    }
  };
  const names = await writeShards(kept(), output, before.classes);
  await spool.close();
  // In the order of ids, too, and by itself, since both kinds of shards cannot be written at once.
  const quarantined = await writeShards(
    mergeSpools([join(folder, 'aside')]),
    join(output, 'quarantine'),
    before.classes,
  );
  const reasons = asides.reasons();
  const total = reasons.reduce((sum, [, count]) => sum + count, 0);

  await writeFile(join(output, 'classes.json'), `${canonicalJson(before.classes)}\n`);
  await copyFile(input.quarantine, join(output, 'quarantine.jsonl'));
  await writeFile(join(output, 'quarantine.jsonl'), asides.lines().join(''), { flag: 'a' });
  const quarantine = total === 0 ? [] : quarantined.map((name) => `quarantine/${name}`);
  const paths = [...names, ...quarantine, 'classes.json', 'quarantine.jsonl'];
  const files = await storeFiles(zone, output, paths, await placesOfVersion(zone, manifest));
  const all: Record<string, number> = { ...before.quarantined };
  for (const [reason, count] of reasons) all[reason] = (all[reason] ?? 0) + count;
  const meta: DatasetMeta = {
    ...before,
    count: found.count,
    perClass,
    quarantined: all,
    cleaned: { changed: counts.changed, copies: found.copies, aside: total },
  };
  const digest = await zone.putArtifact({
    kind: 'dataset',
    name: manifest.name,
    files,
    parents: [input.dataset],
    meta: meta as never,
  });
  const examples = asides.examples();
  return { digest, meta, reasons, aside: total, asidePerClass: asides.perClass, examples };
}

/** Counts and lists what was set aside. */
function createAsides(meta: DatasetMeta, sensitive: Sensitive | undefined) {
  const counts = new Map<string, number>();
  const lines: string[] = [];
  const perClass = meta.classes.map(() => 0);
  const examples = new Map<string, AsideExample[]>();
  return {
    perClass,
    async add(one: Extract<Merged, { kind: 'aside' }>): Promise<void> {
      const { item, step } = one;
      const reason = one.reasons[0] ?? 'no reason given';
      counts.set(reason, (counts.get(reason) ?? 0) + 1);
      if (item.label !== null) perClass[item.label]! += 1;
      const line = {
        reason,
        ...(one.reasons.length > 1 && { reasons: one.reasons }),
        step,
        position: item.attributes.path ?? item.from,
        item: item.id,
      };
      lines.push(`${canonicalJson(line)}\n`);
      if (meta.side !== 'train' || (counts.size > mostReasons && !examples.has(reason))) return;
      const shown = examples.get(reason) ?? [];
      if (shown.length >= examplesPerReason) return;
      const text = excerpt(item, sensitive, 120);
      const png = text === null && sensitive === undefined ? await thumbnail(item.bytes, exampleSide) : null;
      shown.push({ reason, id: item.id, label: item.label, text, png: png ? png.toString('base64') : null });
      examples.set(reason, shown);
    },
    lines: () => lines,
    reasons(): [string, number][] {
      const sorted = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
      const rest = sorted.slice(mostReasons).reduce((sum, [, count]) => sum + count, 0);
      return [
        ...sorted.slice(0, mostReasons),
        ...(rest > 0 ? ([[otherReasons, rest]] as [string, number][]) : []),
      ];
    },
    examples: () => [...examples.values()].flat(),
  };
}
