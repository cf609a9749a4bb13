import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import type { ReadEntry } from 'tar';
import type { SourceLimits } from '../core/project-read.ts';
import { countUnpacked, damaged, safePath } from './archive-guard.ts';
import type { Entry } from './entry.ts';

/** The files of a tar archive, gzip or plain; it may have none. Throws UserError data-invalid; see readEntries. */
export async function* tarEntries(
  archive: { path: string; name: string },
  limits: SourceLimits,
): AsyncGenerator<Entry> {
  const { Parser } = await import('tar');
  const count = countUnpacked(archive.name, (await stat(archive.path)).size, limits);
  const bytes = createReadStream(archive.path, { highWaterMark: 1 << 18 });
  const ready: ReadEntry[] = [];
  let state: { ended: true; error: unknown } | null = null;
  let wake = () => {};
  const end = (error: unknown) => {
    state ??= { ended: true, error };
    wake();
  };
  const parser = new Parser({
    strict: true,
    maxMetaEntrySize: 1 << 20,
    // Its own bound counts small archives too; ours says how to raise it.
    maxDecompressionRatio: Math.max(1100, limits.ratio),
    onReadEntry: (entry) => {
      ready.push(entry);
      wake();
    },
  });
  let complete = false;
  parser.on('eof', () => {
    complete = true;
  });
  parser.on('end', () => end(null));
  // It calls an archive that ends as it should, with nothing in it, none.
  parser.on('error', (error) => end(complete && error.code === 'TAR_BAD_ARCHIVE' ? null : error));
  const feed = async () => {
    for await (const chunk of bytes) {
      if (!parser.write(chunk as Buffer)) await once(parser, 'drain');
    }
    parser.end();
  };
  feed().catch(end);
  const next = async (): Promise<ReadEntry | null> => {
    while (ready.length === 0 && state === null) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    const failed = state as { error: unknown } | null;
    if (failed?.error) throw failed.error;
    return ready.shift() ?? null;
  };
  try {
    for (let entry = await next(); entry !== null; entry = await next()) {
      const name = safePath(entry.path, archive.name);
      const isFile = entry.type === 'File' || entry.type === 'OldFile' || entry.type === 'ContiguousFile';
      const isFolder = entry.type === 'Directory' || entry.type === 'GNUDumpDir';
      count(isFile ? entry.size : 0);
      if (!isFolder) {
        yield {
          path: name,
          size: entry.size,
          problem: isFile ? (name.includes('\ufffd') ? 'name-not-utf-8' : null) : noFile(entry.type),
          open: async () => readable(entry!, archive.name),
        };
      }
      if (!entry.emittedEnd) entry.resume();
    }
  } catch (cause) {
    throw damaged(archive.name, cause);
  } finally {
    bytes.destroy();
  }
}

/** What a member that is neither file nor folder is. */
function noFile(type: ReadEntry['type']): string {
  if (type === 'FIFO') return 'pipe';
  return type === 'CharacterDevice' || type === 'BlockDevice' ? 'device' : 'link';
}

/** The bytes of a member. When the archive breaks off in it, its stream only ends early. */
function readable(entry: ReadEntry, name: string): Readable {
  return Readable.from(
    (async function* () {
      let read = 0;
      for await (const chunk of entry) {
        read += chunk.length;
        yield chunk;
      }
      if (read !== entry.size) throw damaged(name, new Error(`${entry.path} breaks off`));
    })(),
    { objectMode: false },
  );
}
