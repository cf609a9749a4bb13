import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { canonicalJson, type Digest, isDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';

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
  const bytesOut = createWriteStream(join(folder, bytesFile), { highWaterMark: 1 << 20 });
  const linesOut = createWriteStream(join(folder, indexFile), { highWaterMark: 1 << 20 });
  const write = async (stream: typeof bytesOut, chunk: Uint8Array | string) => {
    if (!stream.write(chunk)) await once(stream, 'drain');
  };
  let offset = 0;
  return {
    async add(line, bytes) {
      await write(bytesOut, bytes);
      await write(linesOut, `${canonicalJson({ ...line, offset, size: bytes.length })}\n`);
      offset += bytes.length;
    },
    async close() {
      const closed = Promise.all([once(bytesOut, 'close'), once(linesOut, 'close')]);
      bytesOut.end();
      linesOut.end();
      await closed;
    },
  };
}

/** The files of a spool, by the names they have in its folder. */
export const spoolFiles = [bytesFile, indexFile] as const;

/** The lines of a spool, in the order they were written. Throws UserError artifact-corrupt for what is no line. */
export async function* readSpoolLines(folder: string): AsyncGenerator<SpoolLine> {
  const input = createReadStream(join(folder, indexFile));
  for await (const line of createInterface({ input })) {
    const parsed = lineSchema.safeParse(JSON.parse(line));
    if (!parsed.success) {
      throw new UserError('artifact-corrupt', `${join(folder, indexFile)}: ${z.prettifyError(parsed.error)}`);
    }
    yield parsed.data;
  }
}

/** An item of one of several spools. */
export interface Spooled extends SpoolLine {
  bytes: Uint8Array;
}

/**
 * All items of several spools, ordered by id and then by what they were made from: the same items give the same order
 * however they are spread over spools. The index is held in memory, the bytes are read one item at a time.
 */
export async function* mergeSpools(folders: readonly string[]): AsyncGenerator<Spooled> {
  const entries: { spool: number; line: SpoolLine }[] = [];
  for (const [spool, folder] of folders.entries()) {
    for await (const line of readSpoolLines(folder)) entries.push({ spool, line });
  }
  const key = ({ line }: { line: SpoolLine }) =>
    line.id + line.from + canonicalJson([line.label, line.attributes]);
  const keyed = entries.map((entry) => ({ ...entry, key: key(entry) }));
  keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  const handles = await Promise.all(folders.map((folder) => open(join(folder, bytesFile))));
  try {
    for (const { spool, line } of keyed) {
      const bytes = Buffer.alloc(line.size);
      const { bytesRead } = await handles[spool]!.read(bytes, 0, line.size, line.offset);
      if (bytesRead !== line.size) {
        throw new UserError(
          'artifact-corrupt',
          `${join(folders[spool]!, bytesFile)} is shorter than its index says`,
        );
      }
      yield { ...line, bytes };
    }
  } finally {
    await Promise.all(handles.map((handle) => handle.close()));
  }
}
