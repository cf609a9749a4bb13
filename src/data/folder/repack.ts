import { hash } from 'node:crypto';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { UserError } from '../../core/error.ts';
import type { LocalZone } from '../../store/types.ts';
import type { FileEntry } from './entry.ts';
import type { IndexWriter } from './index-writer.ts';
import { memberRange } from './pack.ts';
import { type BlobSlot, PartBuilder, parsePart } from './part.ts';
import type { ShardWriter } from './shard-writer.ts';

/** A shard is packed again when less than this share of it is still used. */
const leastUsed = 0.5;
/** How many shards of less than an eighth of the usual size a version may have before they are joined. */
const mostSmall = 32;

/** Which shards a version should not keep: mostly unused ones, and small ones when there are too many of them. */
export function wastefulShards(
  shards: readonly { sha256: string; size: number; used: number }[],
  shardBytes: number,
): Set<string> {
  const wasteful = shards.filter(({ size, used }) => used < (size - 1024) * leastUsed);
  const small = shards.filter((shard) => !wasteful.includes(shard) && shard.size < shardBytes / 8);
  return new Set([...wasteful, ...(small.length > mostSmall ? small : [])].map(({ sha256 }) => sha256));
}

/**
 * Moves what is left of wasteful shards into new ones, so that neither storage nor the number of objects grows with the number
 * of versions. Older versions keep their shards.
 */
export async function repack(
  zone: LocalZone,
  index: IndexWriter,
  shards: ShardWriter,
  shardBytes: number,
): Promise<void> {
  const used = new Map<string, number>();
  for (const part of index.parts) {
    for (const { sha256, bytes } of part.uses) {
      if (index.isShard(sha256)) used.set(sha256, (used.get(sha256) ?? 0) + bytes);
    }
  }
  const wasteful = wastefulShards(
    [...used].map(([sha256, bytes]) => ({ sha256, size: index.sizeOf(sha256), used: bytes })),
    shardBytes,
  );
  if (wasteful.size === 0) return;
  const waiting: { at: number; builder: PartBuilder; last: BlobSlot | null }[] = [];
  const settle = async () => {
    index.note(shards);
    while (waiting.length > 0 && waiting[0]!.last?.sha256 !== null) {
      const { at, builder } = waiting.shift()!;
      await index.replace(at, builder);
    }
  };
  for (const [at, part] of index.parts.entries()) {
    if (!part.uses.some((use) => wasteful.has(use.sha256))) continue;
    const { entries } = parsePart(readFileSync(zone.blobPath(part.digest)), part.digest);
    const builder = new PartBuilder();
    let last: BlobSlot | null = null;
    for (const entry of entries) {
      if (entry.kind !== 'file' || !wasteful.has(entry.blob)) {
        builder.add(entry, entry.kind === 'file' ? entry.blob : null);
        continue;
      }
      const member = readMember(zone, entry);
      const place = await shards.append(member.bytes);
      last = place.slot;
      builder.add({ ...entry, at: place.at + member.head }, place.slot);
    }
    waiting.push({ at, builder, last });
    await settle();
  }
  await shards.close();
  await settle();
}

function readMember(zone: LocalZone, entry: FileEntry): { bytes: Buffer; head: number } {
  const { head, length } = memberRange(entry.path, entry.size);
  const bytes = Buffer.alloc(length);
  const file = openSync(zone.blobPath(`sha256:${entry.blob}`), 'r');
  try {
    readSync(file, bytes, 0, length, entry.at! - head);
  } finally {
    closeSync(file);
  }
  if (hash('sha256', bytes.subarray(head, head + entry.size), 'hex') !== entry.sha256) {
    throw new UserError('artifact-corrupt', `${entry.path} in the shard ${entry.blob} has other bytes`);
  }
  return { bytes, head };
}
