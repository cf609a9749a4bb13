import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Digest, isDigest } from '../core/digest.ts';
import type { Zone } from '../store/types.ts';
import { type CleanPlan, passItems } from './clean-items.ts';
import { addCounts } from './profile.ts';
import type { RawItem } from './raw-item.ts';
import { createSpool, mergeSpools, type Spooled, spoolFiles } from './spool.ts';

/** What one worker counted; sums over disjoint shards. */
const countsSchema = z.strictObject({
  seen: z.int().nonnegative(),
  /** Items that each step changed. */
  changed: z.record(z.string(), z.int().positive()),
});

/** See the schema above. */
export type CleanCounts = z.infer<typeof countsSchema>;

const partSchema = z.strictObject({
  v: z.literal(1),
  counts: countsSchema,
  files: z.record(z.string(), z.custom<Digest>(isDigest)),
});

/**
 * Which of `total` workers an item belongs to: by its own id, so that no list of items is needed. Ranges of ids, in whose
 * order items are stored, so that each worker fetches its own part of them.
 */
export function shardOf(id: Digest, total: number): number {
  return Math.floor((Number.parseInt(id.slice(7, 19), 16) / 2 ** 48) * total);
}

/** Cleans one worker's share of the items into a spool. */
export async function cleanShard(
  items: AsyncIterable<RawItem> | Iterable<RawItem>,
  plan: CleanPlan,
  shard: { index: number; total: number },
  folder: string,
): Promise<CleanCounts> {
  const spool = await createSpool(folder);
  const counts: CleanCounts = { seen: 0, changed: {} };
  async function* mine(): AsyncGenerator<RawItem> {
    for await (const item of items) if (shardOf(item.id, shard.total) === shard.index) yield item;
  }
  for await (const { original, item, changed, aside } of passItems(mine(), plan)) {
    counts.seen++;
    for (const step of new Set(changed)) counts.changed[step] = (counts.changed[step] ?? 0) + 1;
    // What is set aside keeps the bytes it came with: nothing is lost, and the reason can be checked.
    const shown = aside ? original : item;
    await spool.add(
      {
        id: shown.id,
        from: original.id,
        extension: shown.extension,
        label: shown.label,
        attributes: { ...shown.attributes },
        ...(aside && { aside: { step: aside.step, reasons: [...aside.reasons] } }),
      },
      shown.bytes,
    );
  }
  await spool.close();
  return counts;
}

/** Key of the record with one worker's share; `key` is that of the step. */
export const partKey = (key: string, index: number, total: number) =>
  `parts/${key}/${index}-of-${total}.json`;

/** Keeps a worker's share where the last one finds it. Idempotent: a worker that was killed and runs again writes the same. */
export async function storePart(
  zone: Zone,
  key: string,
  shard: { index: number; total: number },
  folder: string,
  counts: CleanCounts,
): Promise<void> {
  const files: Record<string, Digest> = {};
  for (const name of spoolFiles) files[name] = (await zone.putFile(join(folder, name))).digest;
  await zone.writeRecord(partKey(key, shard.index, shard.total), { v: 1, counts, files });
}

/** Whether a worker's share is there already, whole: one that runs again need not clean it once more. */
export async function hasPart(
  zone: Zone,
  key: string,
  shard: { index: number; total: number },
): Promise<boolean> {
  return (await readPart(zone, key, shard.index, shard.total)) !== null;
}

async function readPart(
  zone: Zone,
  key: string,
  index: number,
  total: number,
): Promise<z.infer<typeof partSchema> | null> {
  const parsed = partSchema.safeParse((await zone.readRecord(partKey(key, index, total)))?.value);
  if (!parsed.success) return null;
  for (const digest of Object.values(parsed.data.files)) if (!(await zone.hasBlob(digest))) return null;
  return parsed.data;
}

/**
 * Fetches the shares of all workers into folders; null while one is missing. Whoever finds all of them merges: with
 * strongly consistent listing at least the last does, and two that do it at once make the same.
 */
export async function fetchParts(
  zone: Zone,
  key: string,
  total: number,
  folder: string,
): Promise<{ folders: string[]; counts: CleanCounts } | null> {
  const parts: z.infer<typeof partSchema>[] = [];
  for (let index = 0; index < total; index++) {
    const part = await readPart(zone, key, index, total);
    if (part === null) return null;
    parts.push(part);
  }
  const folders: string[] = [];
  let counts: CleanCounts = { seen: 0, changed: {} };
  for (const [index, part] of parts.entries()) {
    const at = join(folder, `part-${index}`);
    await mkdir(at, { recursive: true });
    for (const name of spoolFiles) await zone.saveBlob(part.files[name]!, join(at, name));
    folders.push(at);
    counts = {
      seen: counts.seen + part.counts.seen,
      changed: addCounts(counts.changed, part.counts.changed),
    };
  }
  return { folders, counts };
}

/** An item after the merge: kept, a copy of one that is kept, or set aside with its reasons. */
export type Merged =
  | { kind: 'kept' | 'copy'; item: Spooled }
  | { kind: 'aside'; item: Spooled; step: string; reasons: string[] };

/**
 * All items of all shares in the order of their ids. Cleaning can make items equal: of such copies one is kept (that with
 * the smallest original id); when their labels differ all are set aside. Independent of the number of shares.
 */
export async function* mergeShards(folders: readonly string[]): AsyncGenerator<Merged> {
  let group: Spooled[] = [];
  for await (const item of mergeSpools(folders)) {
    if (item.aside) {
      yield { kind: 'aside', item, step: item.aside.step, reasons: item.aside.reasons };
      continue;
    }
    if (group.length > 0 && group[0]!.id !== item.id) {
      yield* resolve(group);
      group = [];
    }
    group.push(item);
  }
  if (group.length > 0) yield* resolve(group);
}

function* resolve(group: readonly Spooled[]): Generator<Merged> {
  const labels = new Set(group.flatMap((one) => (one.label === null ? [] : [one.label])));
  if (labels.size > 1) {
    for (const item of group) yield { kind: 'aside', item, step: 'merge', reasons: ['conflicting-labels'] };
    return;
  }
  // One that somebody has labelled is worth more than one without.
  const kept = group.find((one) => one.label !== null) ?? group[0]!;
  for (const item of group) yield { kind: item === kept ? 'kept' : 'copy', item };
}
