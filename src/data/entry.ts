import type { Readable } from 'node:stream';

/** One file of a source: of an archive, of a folder, or the source itself. */
export interface Entry {
  /** Its path in the archive or folder; the end of the URL for a file that is a source by itself. */
  path: string;
  /** Unpacked, in bytes; null when only reading tells. */
  size: number | null;
  /** Why it cannot be an item: a link, a socket, a name that is no text. */
  problem: string | null;
  /** Its bytes; to be read, or left, before the next entry is asked for. */
  open(): Promise<Readable>;
}
