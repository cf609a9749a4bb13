import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { type Artifact, digestSchema } from '../core/artifact.ts';
import { canonicalJson, type Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { Zone } from '../store/types.ts';
import type { RawItem } from './raw-item.ts';
import { type FileWriter, openPieces, openWriter } from './stream-files.ts';

/** A shard is closed when it has grown to this many bytes. */
const shardBytes = 64 << 20;

const indexLine = z.strictObject({
  key: z.string().regex(/^[0-9a-f]{32}$/),
  id: digestSchema,
  shard: z.string().regex(/^shard-\d{5}\.tar$/),
  /** Of the item's bytes in the shard. */
  offset: z.int().nonnegative(),
  size: z.int().nonnegative(),
  extension: z.string().regex(/^[a-z0-9]{1,16}$/),
  label: z.int().nonnegative().nullable(),
});

/** Where an item lies, as a line of `index.jsonl` says. Throws UserError artifact-corrupt; `where` is for the message. */
export function parseIndexLine(text: string, where: string): z.infer<typeof indexLine> {
  const parsed = indexLine.safeParse(JSON.parse(text));
  if (parsed.success) return parsed.data;
  throw new UserError('artifact-corrupt', `${where}: ${z.prettifyError(parsed.error)}`);
}

const memberSchema = z.object({ attributes: z.record(z.string(), z.string()) });

/** Tar headers and bodies begin at multiples of this. */
const block = 512;
const padded = (size: number) => Math.ceil(size / block) * block;

/**
 * Writes items, in the order of their ids, as plain tar shards in WebDataset layout (`<key>.<ext>`, `<key>.json`) with an
 * `index.jsonl`. The same items give the same bytes: no times, owners or modes of ours. Returns the names of the files.
 */
export async function writeShards(
  items: Iterable<RawItem> | AsyncIterable<RawItem>,
  folder: string,
  classes: readonly string[],
): Promise<string[]> {
  const { Header } = await import('tar');
  const names = ['index.jsonl'];
  const index = openWriter(join(folder, 'index.jsonl'));
  let shard: { name: string; file: FileWriter; at: number } | null = null;
  const put = async (bytes: Uint8Array) => {
    shard!.at += bytes.length;
    await shard!.file.write(bytes);
  };
  const member = async (path: string, bytes: Uint8Array) => {
    const header = Buffer.alloc(block);
    new Header({
      path,
      size: bytes.length,
      mode: 0o644,
      type: 'File',
      uid: 0,
      gid: 0,
      mtime: new Date(0),
    }).encode(header);
    await put(header);
    const offset = shard!.at;
    await put(bytes);
    await put(Buffer.alloc(padded(bytes.length) - bytes.length));
    return offset;
  };
  const close = async () => {
    if (!shard) return;
    await put(Buffer.alloc(2 * block));
    await shard.file.close();
    shard = null;
  };
  for await (const { id, bytes, extension, label, attributes } of items) {
    if (!shard) {
      const name: string = `shard-${String(names.length - 1).padStart(5, '0')}.tar`;
      names.push(name);
      shard = { name, file: openWriter(join(folder, name)), at: 0 };
    }
    const key = id.slice(7, 39);
    const offset = await member(`${key}.${extension}`, bytes);
    const told = { label, class: label === null ? null : classes[label]!, attributes };
    await member(`${key}.json`, Buffer.from(canonicalJson(told)));
    const line = { key, id, shard: shard.name, offset, size: bytes.length, extension, label };
    await index.write(`${canonicalJson(line)}\n`);
    if (shard.at >= shardBytes) await close();
  }
  await close();
  await index.close();
  return names.sort();
}

/**
 * The items of a saved raw data set, in the order of their ids, one in memory at a time; with `wanted` only those, and only
 * their shards are opened. Throws UserError artifact-corrupt.
 */
export async function* readRawItems(
  folder: string,
  wanted: (id: Digest) => boolean = () => true,
): AsyncGenerator<RawItem> {
  const bad = (what: string) => new UserError('artifact-corrupt', `${folder}: ${what}`);
  let current = null as {
    name: string;
    file: Awaited<ReturnType<typeof open>>;
    piece: ReturnType<typeof openPieces>;
  } | null;
  try {
    for await (const text of createInterface({ input: createReadStream(join(folder, 'index.jsonl')) })) {
      const { id, shard, offset, size, extension, label } = parseIndexLine(text, `${folder}: index.jsonl`);
      if (!wanted(id)) continue;
      if (current?.name !== shard) {
        await current?.file.close();
        const file = await open(join(folder, shard), 'r');
        current = { name: shard, file, piece: openPieces(file) };
      }
      const body = await current.piece(padded(size) + block, offset);
      if (body.length < padded(size) + block) throw bad(`${shard} is cut short`);
      const bytes = body.subarray(0, size);
      if (`sha256:${createHash('sha256').update(bytes).digest('hex')}` !== id)
        throw bad(`${id} has other bytes`);
      const length = Number.parseInt(body.toString('latin1', padded(size) + 124, padded(size) + 135), 8) || 0;
      const told = await current.piece(length, offset + body.length);
      const { attributes } = memberSchema.parse(JSON.parse(told.toString('utf8')));
      yield { id, bytes, extension, label, attributes };
    }
  } finally {
    await current?.file.close();
  }
}

/** Fetches of a stored raw data set what {@link readRawItems} needs for the wanted items: the index and their shards. */
export async function saveShare(
  zone: Zone,
  files: Artifact['files'],
  folder: string,
  wanted: (id: Digest) => boolean,
): Promise<void> {
  const save = async (path: string) => {
    const file = files.find((one) => one.path === path);
    if (!file) throw new UserError('artifact-corrupt', `the data version has no ${path}`);
    await zone.saveBlob(file.digest, join(folder, path));
  };
  await save('index.jsonl');
  const shards = new Set<string>();
  for await (const text of createInterface({ input: createReadStream(join(folder, 'index.jsonl')) })) {
    const { id, shard } = parseIndexLine(text, 'index.jsonl');
    if (wanted(id)) shards.add(shard);
  }
  for (const shard of shards) await save(shard);
}
