import type { Digest } from '../core/digest.ts';

/** One item as it was collected, when it is no tensor: a text, a picture, a record, any file. */
export interface RawItem {
  /** sha256 of the bytes: the same item has the same id wherever it comes from. */
  id: Digest;
  bytes: Uint8Array;
  /** Of the file, without the dot: `txt`, `png`, `json`. */
  extension: string;
  /** Index into the data set's `classes`; null while nobody has labelled it. */
  label: number | null;
  /** What its source says of it, by name: `path` always, `group` where one is declared, and declared fields. */
  attributes: Readonly<Record<string, string>>;
  /** Where it was read, while it is collected: file and line of a row. Not stored, for another order of rows is the same data. */
  position?: string;
}
