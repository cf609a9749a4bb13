import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { canonicalJson, type Digest, isDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { openWriter } from './stream-files.ts';

/** One line of a spool's index: what is known of an item beside its bytes, and where they lie. */
const lineSchema = z.strictObject({
  id: z.custom<Digest>(isDigest),
  /** Id of the item it was made from. */
  from: z.custom<Digest>(isDigest),
  extension: z.string(),
  label: z.int().nullable(),
  attributes: z.record(z.string(), z.string()),
  /** Why it was set aside, and by which step; absent for an item that is kept. */
  aside: z.strictObject({ step: z.string(), reasons: z.array(z.string()) }).optional(),
  offset: z.int().nonnegative(),
  size: z.int().nonnegative(),
});

/** See the schema above. */
export type SpoolLine = z.infer<typeof lineSchema>;

const bytesFile = 'items.bin';
const indexFile = 'items.jsonl';

/** An open spool that is written to. */
export interface SpoolWriter {
  add(line: Omit<SpoolLine, 'offset' | 'size'>, bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** Opens a folder for items that come in any order: their bytes one after the other in one file, a line each in another. */
export async function createSpool(folder: string): Promise<SpoolWriter> {
  await mkdir(folder, { recursive: true });
  const bytesOut = openWriter(join(folder, bytesFile));
  const linesOut = openWriter(join(folder, indexFile));
  let offset = 0;
  return {
    async add(line, bytes) {
      await bytesOut.write(bytes);
      await linesOut.write(`${canonicalJson({ ...line, offset, size: bytes.length })}\n`);
      offset += bytes.length;
    },
    async close() {
      await bytesOut.close();
      await linesOut.close();
    },
  };
}

/** The files of a spool, by the names they have in its folder. */
export const spoolFiles = [bytesFile, indexFile] as const;

/** An item of one of several spools. */
export interface Spooled extends SpoolLine {
  bytes: Uint8Array;
}

/** Of each line: the id, what the item was made from, where the line begins in its index, and in which spool. */
const known = { id: 0, from: 32, at: 64, length: 72, spool: 76, size: 80 };

/** Where every line of the spools is; some 80 bytes a line, so that a million fit. */
async function findLines(folders: readonly string[]): Promise<{ lines: Buffer; count: number }> {
  let lines = Buffer.alloc(1024 * known.size);
  let count = 0;
  for (const [spool, folder] of folders.entries()) {
    let at = 0;
    for await (const text of createInterface({ input: createReadStream(join(folder, indexFile)) })) {
      const { id, from } = parseLine(text, folder);
      if (lines.length === count * known.size) lines = Buffer.concat([lines], lines.length * 2);
      const start = count++ * known.size;
      const length = Buffer.byteLength(text);
      lines.write(id.slice(7), start + known.id, 'hex');
      lines.write(from.slice(7), start + known.from, 'hex');
      lines.writeDoubleLE(at, start + known.at);
      lines.writeUInt32LE(length, start + known.length);
      lines.writeUInt32LE(spool, start + known.spool);
      at += length + 1;
    }
  }
  return { lines, count };
}

function parseLine(text: string, folder: string): SpoolLine {
  const parsed = lineSchema.safeParse(JSON.parse(text));
  if (parsed.success) return parsed.data;
  throw new UserError('artifact-corrupt', `${join(folder, indexFile)}: ${z.prettifyError(parsed.error)}`);
}

/**
 * All items of several spools, ordered by id, then by what they were made from, then by what is said of them: the same items
 * give the same order however they are spread over spools. Lines and bytes are read one item at a time. Throws UserError
 * artifact-corrupt for what is no spool.
 */
export async function* mergeSpools(folders: readonly string[]): AsyncGenerator<Spooled> {
  const { lines, count } = await findLines(folders);
  const ids = (index: number) =>
    lines.subarray(index * known.size + known.id, index * known.size + known.from + 32);
  // The first six bytes nearly always decide, and comparing numbers is much faster than comparing buffers.
  const prefix = Float64Array.from({ length: count }, (_, index) => lines.readUIntBE(index * known.size, 6));
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  order.sort((a, b) => prefix[a]! - prefix[b]! || Buffer.compare(ids(a), ids(b)));
  const opened = await Promise.all(
    folders.map(async (folder) => ({
      folder,
      index: await open(join(folder, indexFile)),
      bytes: await open(join(folder, bytesFile)),
    })),
  );
  const read = async (file: FileHandle, length: number, at: number, folder: string): Promise<Buffer> => {
    const bytes = Buffer.alloc(length);
    const { bytesRead } = await file.read(bytes, 0, length, at);
    if (bytesRead === length) return bytes;
    throw new UserError('artifact-corrupt', `the spool ${folder} is shorter than its index says`);
  };
  const item = async (index: number): Promise<Spooled> => {
    const start = index * known.size;
    const { folder, index: file, bytes } = opened[lines.readUInt32LE(start + known.spool)]!;
    const length = lines.readUInt32LE(start + known.length);
    const text = await read(file, length, lines.readDoubleLE(start + known.at), folder);
    const line = parseLine(text.toString('utf8'), folder);
    return { ...line, bytes: await read(bytes, line.size, line.offset, folder) };
  };
  try {
    for (let start = 0; start < count; ) {
      let end = start + 1;
      while (end < count && ids(order[end]!).equals(ids(order[start]!))) end++;
      const same: Spooled[] = [];
      for (const index of order.subarray(start, end)) same.push(await item(index));
      if (same.length > 1) {
        const told = new Map(same.map((one) => [one, canonicalJson([one.label, one.attributes])]));
        same.sort((a, b) => (told.get(a)! < told.get(b)! ? -1 : told.get(a)! > told.get(b)! ? 1 : 0));
      }
      yield* same;
      start = end;
    }
  } finally {
    await Promise.all(opened.flatMap(({ index, bytes }) => [index.close(), bytes.close()]));
  }
}
