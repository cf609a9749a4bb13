import { UserError } from '../core/error.ts';
import type { DatasetConfig } from '../core/project.ts';
import { readFiles } from './archive.ts';
import { parseIdx } from './idx.ts';
import type { Items, Quarantined } from './items.ts';
import type { FetchedSource } from './sources.ts';
import { checkHeld } from './stream-files.ts';

/**
 * Reads all items of a source. A row that cannot be an item is set aside with its reason; a file that cannot be read at
 * all throws UserError data-invalid. `onFile` hears how many files are done, of how many.
 */
export async function readItems(
  config: DatasetConfig,
  fetched: FetchedSource,
  onFile?: (done: number, total: number) => void,
): Promise<Items> {
  if (config.classes.length > 256) {
    throw new UserError(
      'config-invalid',
      `${config.classes.length} classes; this version stores at most 256`,
    );
  }
  const size = config.shape.reduce((product, dim) => product * dim, 1);
  const { read } = fetched.source;
  const parts: Part[] = [];
  let done = 0;
  if (read.format === 'json-rows') {
    if (!read.files.includes('{class}')) {
      throw new UserError('config-invalid', `read.files "${read.files}" has no {class} in it`);
    }
    const names = config.classes.map((_, label) => read.files.replaceAll('{class}', String(label)));
    await readFiles(fetched, names, (name, bytes) => {
      parts.push(readJsonRows(name, bytes, names.indexOf(name), size));
      onFile?.(++done, names.length);
    });
    parts.sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name));
  } else if (read.format !== 'idx') {
    throw new UserError(
      'config-invalid',
      `read.format ${read.format} gives raw items: say item: text or file`,
    );
  } else {
    if (read.images.length !== read.labels.length) {
      throw new UserError(
        'config-invalid',
        'read.images and read.labels need one file each, in the same order',
      );
    }
    const files = new Map<string, Buffer>();
    const names = [...read.images, ...read.labels];
    await readFiles(fetched, names, (name, bytes) => {
      files.set(name, bytes);
      onFile?.(++done, names.length);
    });
    for (const [index, images] of read.images.entries()) {
      const labels = read.labels[index]!;
      parts.push(readIdxPair(images, files.get(images)!, labels, files.get(labels)!, config));
      files.delete(images);
    }
  }
  return joinParts(parts, size);
}

/** The items of one file; `rows[i]` is the row of item `i` in it. */
interface Part {
  name: string;
  x: Uint8Array;
  y: Uint8Array;
  rows: Uint32Array;
  quarantined: Quarantined[];
}

function readJsonRows(name: string, bytes: Buffer, label: number, size: number): Part {
  let data: unknown;
  try {
    data = (JSON.parse(bytes.toString('utf8')) as { data?: unknown } | null)?.data;
  } catch (cause) {
    throw new UserError('data-invalid', `${name} is not JSON: ${(cause as Error).message}`, undefined, {
      cause,
    });
  }
  if (!Array.isArray(data)) throw new UserError('data-invalid', `${name} has no list under "data"`);
  const x = new Uint8Array(data.length * size);
  const rows = new Uint32Array(data.length);
  const quarantined: Quarantined[] = [];
  let count = 0;
  for (const [index, row] of (data as unknown[]).entries()) {
    const reason = copyRow(row, x, count * size, size);
    if (reason) quarantined.push({ reason, position: `${name}[${index}]`, class: label });
    else rows[count++] = index;
  }
  return {
    name,
    x: x.subarray(0, count * size),
    y: new Uint8Array(count).fill(label),
    rows: rows.subarray(0, count),
    quarantined,
  };
}

/** Copies a row of whole numbers 0–255; the reason it is not one otherwise. */
function copyRow(
  row: unknown,
  x: Uint8Array,
  at: number,
  size: number,
): 'wrong-length' | 'not-a-byte' | null {
  if (!Array.isArray(row) || row.length !== size) return 'wrong-length';
  for (let i = 0; i < size; i++) {
    const value: unknown = row[i];
    if (typeof value !== 'number' || (value & 255) !== value) return 'not-a-byte';
    x[at + i] = value;
  }
  return null;
}

function readIdxPair(
  imagesName: string,
  imagesBytes: Buffer,
  labelsName: string,
  labelsBytes: Buffer,
  config: DatasetConfig,
): Part {
  const images = parseIdx(imagesBytes, imagesName);
  const labels = parseIdx(labelsBytes, labelsName);
  const [count, ...shape] = images.dims;
  if (shape.join() !== config.shape.join()) {
    throw new UserError(
      'data-invalid',
      `${imagesName} holds items of ${shape.join(' × ')}, cdl.yaml says ${config.shape.join(' × ')}`,
    );
  }
  if (labels.dims.length !== 1 || labels.dims[0] !== count) {
    throw new UserError(
      'data-invalid',
      `${labelsName} holds ${labels.dims.join(' × ')} labels for the ${count} items of ${imagesName}`,
    );
  }
  const known = config.classes.length;
  const size = shape.reduce((product, dim) => product * dim, 1);
  const quarantined: Quarantined[] = [];
  const kept: number[] = [];
  for (const [index, label] of labels.data.entries()) {
    if (label < known) kept.push(index);
    else quarantined.push({ reason: 'unknown-class', position: `${imagesName}[${index}]`, class: null });
  }
  const rows = Uint32Array.from(kept);
  if (quarantined.length === 0)
    return { name: imagesName, x: images.data, y: labels.data, rows, quarantined };
  const x = new Uint8Array(kept.length * size);
  for (const [at, row] of kept.entries())
    x.set(images.data.subarray(row * size, (row + 1) * size), at * size);
  return { name: imagesName, x, y: Uint8Array.from(kept, (row) => labels.data[row]!), rows, quarantined };
}

function joinParts(parts: Part[], size: number): Items {
  const count = parts.reduce((sum, part) => sum + part.y.length, 0);
  checkHeld(parts.map((part) => part.name).join(', '), count * size);
  // Of one file, what was read is what is held.
  const only = parts.length === 1 ? parts[0] : undefined;
  const x = only?.x ?? new Uint8Array(count * size);
  const y = only?.y ?? new Uint8Array(count);
  const starts: { at: number; name: string; rows: Uint32Array }[] = [];
  const quarantined: Quarantined[] = [];
  let at = 0;
  for (const part of parts) {
    if (part !== only) {
      x.set(part.x, at * size);
      y.set(part.y, at);
    }
    // The copy is what stays; a part's own bytes can go before the next is copied.
    part.x = new Uint8Array(0);
    starts.push({ at, name: part.name, rows: part.rows });
    quarantined.push(...part.quarantined);
    at += part.y.length;
  }
  return {
    size,
    count,
    x,
    y,
    quarantined,
    position(index) {
      const part = starts.findLast((start) => start.at <= index);
      return part ? `${part.name}[${part.rows[index - part.at]}]` : `[${index}]`;
    },
  };
}
