import picomatch from 'picomatch';
import { canonicalJson, digestBytes } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { DatasetConfig } from '../core/project.ts';
import { defaultLimits, type ReadConfig } from '../core/project-read.ts';
import { cleanLine, clip } from '../report/text.ts';
import { bytesOf, otherPacking, readEntries, unpackedEntry } from './entries.ts';
import type { Entry } from './entry.ts';
import type { RawItem } from './raw-item.ts';
import { namedColumns, noColumn, type Row, type RowFormat, readRows } from './record-rows.ts';
import { type FetchedSource, sourceNames } from './sources.ts';

/** Something of a source that is no item, and why; `position` says where it is. */
export interface SetAside {
  reason: string;
  position: string;
}

/** So many columns of JSON lines are remembered, to name the nearest one. */
const mostColumns = 1000;

type FolderFormat = Extract<ReadConfig, { folder: string }>;

/**
 * All that a source holds, as raw items or as set aside with a reason, in the order of the source and one in memory at a
 * time. Throws UserError data-invalid for an archive or a file that cannot be read at all, that holds no item, or that lacks
 * a column which `read:` names: a CSV file in its first row, JSON lines in every row of the source.
 */
export async function* readRawSource(
  config: DatasetConfig,
  fetched: FetchedSource,
): AsyncGenerator<RawItem | SetAside> {
  const { read } = fetched.source;
  const names = sourceNames(fetched.source).join(', ');
  let found = 0;
  const all =
    read.format === 'csv' || read.format === 'jsonl'
      ? rowItems(config, fetched, read)
      : 'folder' in read
        ? folderItems(config, fetched, read)
        : null;
  if (!all) throw new UserError('config-invalid', `read.format ${read.format} gives tensors`);
  for await (const one of all) {
    found += 1;
    yield one;
  }
  if (found === 0) {
    throw new UserError(
      'data-invalid',
      `${names} holds nothing that read: describes`,
      await whyNothing(fetched),
    );
  }
}

/** So many of the files that nobody described are named. */
const mostNamed = 5;

/** What a source without an item has instead. */
async function whyNothing(fetched: FetchedSource): Promise<string> {
  for (const { path, name, plain } of fetched.files) {
    const packing = plain ? null : await otherPacking(path);
    if (packing) return `${name} is packed with ${packing}, which is not read: pack it as .tar.gz or .zip`;
  }
  const there: string[] = [];
  for await (const { path } of readEntries(fetched)) {
    if (there.push(clip(cleanLine(path), 80)) > mostNamed) break;
  }
  if (there.length === 0) return 'it is empty';
  const more = there.length > mostNamed ? ', …' : '';
  const { format } = fetched.source.read;
  return `it has ${there.slice(0, mostNamed).join(', ')}${more}: compare that with read: (format ${format}) and classes: in cdl.yaml`;
}

async function* folderItems(
  config: DatasetConfig,
  fetched: FetchedSource,
  read: FolderFormat,
): AsyncGenerator<RawItem | SetAside> {
  const most = (fetched.source.limits ?? defaultLimits).item;
  const before = read.folder === '' ? '' : `${read.folder}/`;
  for await (const entry of readEntries(fetched)) {
    if (!entry.path.startsWith(before)) continue;
    const parts = entry.path.slice(before.length).split('/');
    const label = labelOf(config.classes, parts, read.format === 'class-folders');
    if (read.format === 'class-folders' && label === null) continue;
    const extension = extensionOf(entry.path);
    if (read.format !== 'class-folders' && !read.extensions.includes(extension)) continue;
    yield await wholeFile(entry, most, label, {});
  }
}

/** The class a file lies in the folder of: the first folder, or any of them. */
function labelOf(classes: readonly string[], parts: readonly string[], first: boolean): number | null {
  const folders = parts.slice(0, first ? 1 : -1);
  if (first && (parts.length < 2 || parts[1] === '')) return null;
  const found = folders.map((folder) => classes.indexOf(folder)).find((index) => index >= 0);
  return found ?? null;
}

/** The ending of a file, as shards know it. */
function extensionOf(path: string): string {
  return /\.([a-z0-9]{1,16})$/.exec(path.toLowerCase())?.[1] ?? 'bin';
}

async function wholeFile(
  entry: Entry,
  most: number,
  label: number | null,
  attributes: Readonly<Record<string, string>>,
): Promise<RawItem | SetAside> {
  if (entry.problem) return { reason: entry.problem, position: entry.path };
  const bytes = await bytesOf(entry, most);
  if (bytes === null) return { reason: 'too-large', position: entry.path };
  if (bytes.length === 0) return { reason: 'empty', position: entry.path };
  const { path } = entry;
  return {
    id: digestBytes(bytes),
    bytes,
    extension: extensionOf(path),
    label,
    attributes: { ...attributes, path },
  };
}

async function* rowItems(
  config: DatasetConfig,
  fetched: FetchedSource,
  read: RowFormat,
): AsyncGenerator<RawItem | SetAside> {
  const limits = fetched.source.limits ?? defaultLimits;
  const most = limits.item;
  const isTable = picomatch(read.files ?? (read.format === 'csv' ? '**/*.{csv,tsv}' : '**/*.{jsonl,ndjson}'));
  // A source that is one file is that table, whatever it is called.
  const single = read.files === undefined && fetched.files.length === 1;
  const described = new Map<string, Known & { position: string }>();
  // Of JSON lines, where a row need not have every field.
  const columns = new Set<string>();
  const missing = new Map(read.format === 'csv' ? [] : namedColumns(read).map((named) => [named[1], named]));
  for await (const found of readEntries(fetched)) {
    // A table in a folder or an archive may be packed by itself; other files are items as they are.
    const entry = unpackedEntry(found, found.path, limits);
    if (
      !isTable(entry.path) &&
      !isTable(found.path) &&
      !(single && found.path === fetched.files[0]!.name.replace(/^.*\//, ''))
    )
      continue;
    if (entry.problem) {
      yield { reason: entry.problem, position: entry.path };
      continue;
    }
    for await (const row of readRows(read, entry.path, await entry.open(), most)) {
      const position = `${entry.path}:${row.line}`;
      if (missing.size > 0 && 'values' in row) {
        for (const column of Object.keys(row.values)) {
          missing.delete(column);
          if (columns.size < mostColumns) columns.add(column);
        }
      }
      const known = describe(row, read, config.classes);
      if ('reason' in known) yield { ...known, position };
      else if (read.file === undefined) yield rowItem(row, read, known, entry.path, position);
      else if (described.has(known.file)) yield { reason: 'named-twice', position };
      else described.set(known.file, { ...known, position });
    }
  }
  const [lost] = missing.values();
  if (lost && columns.size > 0) throw noColumn(sourceNames(fetched.source).join(', '), lost, [...columns]);
  if (read.file === undefined) return;
  for await (const entry of readEntries(fetched)) {
    const known = described.get(entry.path);
    if (!known) continue;
    described.delete(entry.path);
    yield await wholeFile(entry, most, known.label, known.attributes);
  }
  for (const { file, position } of described.values())
    yield { reason: 'file-missing', position: `${position} ${file}` };
}

interface Known {
  label: number | null;
  attributes: Record<string, string>;
  file: string;
}

/** What a row says beside the item itself, or why it cannot be used. */
function describe(row: Row, read: RowFormat, classes: readonly string[]): Known | { reason: string } {
  if ('reason' in row) return { reason: row.reason };
  const value = (column: string): string | null => {
    const found = Object.hasOwn(row.values, column) ? row.values[column] : undefined;
    if (found === undefined || found === null) return null;
    return typeof found === 'string' ? found : JSON.stringify(found);
  };
  const named = read.label === undefined ? '' : (value(read.label) ?? '');
  const label = named === '' ? null : classes.indexOf(named);
  if (label !== null && label < 0) return { reason: 'unknown-class' };
  const attributes: Record<string, string> = {};
  for (const column of read.attributes ?? []) {
    const found = value(column);
    if (found !== null) attributes[column] = found;
  }
  const group = read.group === undefined ? null : value(read.group);
  if (group !== null && group !== '') attributes.group = group;
  const file = read.file === undefined ? '' : (value(read.file) ?? '').replace(/^(\.\/)+/, '');
  if (read.file !== undefined && file === '') return { reason: 'file-missing' };
  return { label, attributes, file };
}

function rowItem(
  row: Row,
  read: RowFormat,
  known: Known,
  path: string,
  position: string,
): RawItem | SetAside {
  const values = 'values' in row ? row.values : {};
  const made = read.text === undefined ? recordBytes(values, read) : textBytes(values, read.text);
  if (typeof made === 'string') return { reason: made, position };
  if (made.length === 0) return { reason: 'empty', position };
  const extension = read.text === undefined ? 'json' : 'txt';
  return {
    id: digestBytes(made),
    bytes: made,
    extension,
    label: known.label,
    attributes: { ...known.attributes, path },
    position,
  };
}

/** The bytes of a text, or the reason it is none. */
function textBytes(values: Record<string, unknown>, column: string): Buffer | string {
  const text = Object.hasOwn(values, column) ? values[column] : undefined;
  if (typeof text !== 'string') return 'no-text';
  const bytes = Buffer.from(text, 'utf8');
  // A lone surrogate of a JSON escape has no UTF-8 form.
  return bytes.toString('utf8') === text ? bytes : 'not-utf-8';
}

/** A record as canonical JSON, so that the order of columns does not make another item; or the reason it is none. */
function recordBytes(values: Record<string, unknown>, read: RowFormat): Buffer | string {
  const chosen = Object.entries(values).filter(([column]) =>
    read.fields ? read.fields.includes(column) : column !== read.label && column !== read.group,
  );
  if (read.fields?.some((column) => !Object.hasOwn(values, column))) return 'field-missing';
  try {
    return Buffer.from(canonicalJson(Object.fromEntries(chosen)), 'utf8');
  } catch {
    return 'not-utf-8';
  }
}
