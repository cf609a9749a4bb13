import { isUtf8 } from 'node:buffer';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import type { SourceLimits } from '../core/project-read.ts';
import { countUnpacked, damaged, safePath } from './archive-guard.ts';
import type { Entry } from './entry.ts';

/** Unix file type of a link, in the upper half of a zip's external attributes (stat(2)). */
const linkType = 0o120000;

/** The files of a zip archive. Throws UserError data-invalid; see readEntries. */
export async function* zipEntries(
  archive: { path: string; name: string },
  limits: SourceLimits,
): AsyncGenerator<Entry> {
  const { openPromise } = await import('yauzl');
  const count = countUnpacked(archive.name, (await stat(archive.path)).size, limits);
  try {
    // Names stay bytes: yauzl would decode what is no UTF-8 as code page 437.
    const zip = await openPromise(archive.path, { decodeStrings: false, autoClose: false });
    try {
      for await (const entry of zip.eachEntry()) {
        const raw = entry.fileName as unknown as Buffer;
        const name = safePath(raw.toString('utf8'), archive.name);
        if (name.endsWith('/')) continue;
        count(entry.uncompressedSize);
        const type = (entry.externalFileAttributes >>> 16) & 0o170000;
        yield {
          path: name,
          size: entry.uncompressedSize,
          problem: type === linkType ? 'link' : isUtf8(raw) ? null : 'name-not-utf-8',
          async open() {
            const bytes = await zip.openReadStreamPromise(entry).catch((cause: unknown) => {
              throw damaged(archive.name, cause);
            });
            return translated(bytes, archive.name);
          },
        };
      }
    } finally {
      zip.close();
    }
  } catch (cause) {
    throw damaged(archive.name, cause);
  }
}

/** The same bytes; what goes wrong with them says which archive it was. */
function translated(bytes: Readable, name: string): Readable {
  return Readable.from(
    (async function* () {
      try {
        yield* bytes;
      } catch (cause) {
        throw damaged(name, cause);
      }
    })(),
    { objectMode: false },
  );
}
