import { Readable } from 'node:stream';
import { UserError } from '../core/error.ts';
import type { ReadConfig } from '../core/project-read.ts';
import { nearest } from '../core/suggest.ts';

/** `read:` of a table. */
export type RowFormat = Extract<ReadConfig, { format: 'csv' | 'jsonl' }>;

/** A row of a CSV or JSONL file: its values by column, or why it is none; `line` counts from one. */
export type Row = { line: number; values: Record<string, unknown> } | { line: number; reason: string };

/**
 * The rows of one file, one in memory at a time; one of more than `most` bytes is none. Throws UserError data-invalid for a
 * file that is no CSV at all, or a CSV without a column that `read:` names.
 */
export function readRows(read: RowFormat, name: string, bytes: Readable, most: number): AsyncGenerator<Row> {
  return read.format === 'csv' ? csvRows(read, name, bytes, read.delimiter, most) : jsonRows(bytes, most);
}

/** How long a record may be before the file is no CSV, in bytes: a quote that nobody closed makes one of all that follows. */
const longest = (most: number) => Math.max(2 * most, 64 << 20);

async function* csvRows(
  read: RowFormat,
  name: string,
  bytes: Readable,
  delimiter: string,
  most: number,
): AsyncGenerator<Row> {
  const [{ parse }, { wide, rest }] = await Promise.all([import('csv-parse'), withoutBom(bytes)]);
  const parser = parse({
    // Latin-1 has a character for each byte, so that bytes that are no UTF-8 can be told afterwards.
    ...(wide ? { bom: true, delimiter } : { encoding: 'latin1', delimiter: toBytes(delimiter) }),
    info: true,
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: longest(most),
  });
  const source = Readable.from(rest, { objectMode: false });
  source.on('error', (error) => parser.destroy(error));
  source.pipe(parser);
  const textOf = (value: string) => (wide ? value : fromBytes(value));
  let head: string[] | null = null;
  let line = 1;
  try {
    for await (const { record, info } of parser as AsyncIterable<{
      record: string[];
      info: { lines: number };
    }>) {
      if (head === null) head = headOf(read, name, record.map(textOf));
      else if (record.length !== head.length) yield { line, reason: 'wrong-length' };
      else if (record.reduce((sum, value) => sum + value.length, 0) > most)
        yield { line, reason: 'too-large' };
      else {
        const values = record.map(textOf);
        yield values.includes(null)
          ? { line, reason: 'not-utf-8' }
          : { line, values: Object.fromEntries(head.map((column, index) => [column, values[index]])) };
      }
      line = info.lines + 1;
    }
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw new UserError('data-invalid', `${name} is no CSV: ${(cause as Error).message}`, undefined, {
      cause,
    });
  } finally {
    source.destroy();
    bytes.destroy();
  }
  if (head === null)
    throw new UserError('data-invalid', `${name} is empty: it has no row that names the columns`);
}

/** The columns of a CSV file: each once, and all that `read:` names. Throws UserError data-invalid. */
function headOf(read: RowFormat, name: string, columns: readonly (string | null)[]): string[] {
  const head = columns.filter((column) => column !== null);
  if (head.length < columns.length)
    throw new UserError('data-invalid', `${name}: the row that names the columns is not UTF-8`);
  const twice = head.find((column, index) => head.indexOf(column) !== index);
  if (twice !== undefined) throw new UserError('data-invalid', `${name} has two columns "${twice}"`);
  const missing = namedColumns(read).find(([, column]) => !head.includes(column));
  if (missing) throw noColumn(name, missing, head);
  return head;
}

/** The columns that `read:` names, each with the key that names it. */
export function namedColumns(read: RowFormat): [key: string, column: string][] {
  const { text, file, label, group, fields = [], attributes = [] } = read;
  const found: [string, string | undefined][] = [
    ...Object.entries({ text, file, label, group }),
    ...fields.map((column): [string, string] => ['fields', column]),
    ...attributes.map((column): [string, string] => ['attributes', column]),
  ];
  return found.flatMap(([key, column]): [string, string][] => (column === undefined ? [] : [[key, column]]));
}

/** The error about a column that `read:` names and the data does not have; `known` are those it has. */
export function noColumn(name: string, missing: [key: string, column: string], known: string[]): UserError {
  const [key, column] = missing;
  const guess = nearest(column, known);
  return new UserError(
    'data-invalid',
    `${name} has no column "${column}", which read.${key} names`,
    guess
      ? `did you mean "${guess}"?`
      : `it has ${known
          .slice(0, 20)
          .map((one) => `"${one}"`)
          .join(', ')}`,
  );
}

const toBytes = (text: string) => Buffer.from(text, 'utf8').toString('latin1');

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The text whose UTF-8 bytes are given as Latin-1 characters; null when they are no UTF-8. */
function fromBytes(value: string): string | null {
  if (!/[^\0-\x7f]/.test(value)) return value;
  try {
    return utf8.decode(Buffer.from(value, 'latin1'));
  } catch {
    return null;
  }
}

/** Bytes without the byte order mark of UTF-8; `wide` when they begin with that of UTF-16, which stays. */
async function withoutBom(bytes: Readable): Promise<{ wide: boolean; rest: AsyncGenerator<Buffer> }> {
  const chunks = bytes[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let start = Buffer.alloc(0);
  // What fails here is told where the rest is read.
  let failed: { cause: unknown } | null = null;
  try {
    while (start.length < 3) {
      const next = await chunks.next();
      if (next.done) break;
      start = Buffer.concat([start, next.value]);
    }
  } catch (cause) {
    failed = { cause };
  }
  const mark = start.subarray(0, 3).equals(Buffer.from([0xef, 0xbb, 0xbf]));
  const rest = async function* () {
    const first = mark ? start.subarray(3) : start;
    if (first.length > 0) yield first;
    if (failed) throw failed.cause;
    for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value;
  };
  return { wide: start[0] === 0xff && start[1] === 0xfe, rest: rest() };
}

async function* jsonRows(bytes: Readable, most: number): AsyncGenerator<Row> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let line = 0;
  for await (const text of linesOf(bytes, most)) {
    line++;
    if (text === null) {
      yield { line, reason: 'too-large' };
      continue;
    }
    if (text.length === 0 || (text.length === 1 && text[0] === 13)) continue;
    let content: string;
    try {
      content = decoder.decode(text);
    } catch {
      yield { line, reason: 'not-utf-8' };
      continue;
    }
    const values = parsed(content);
    yield isRecord(values) ? { line, values } : { line, reason: 'not-a-record' };
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Lines without their end; null for one of more than `most` bytes, which is not held. */
async function* linesOf(bytes: Readable, most: number): AsyncGenerator<Buffer | null> {
  let held: Buffer[] = [];
  let size = 0;
  const take = (): Buffer | null => {
    const line = size > most ? null : Buffer.concat(held, size);
    held = [];
    size = 0;
    return line;
  };
  const hold = (part: Buffer) => {
    size += part.length;
    if (size > most) held = [];
    else if (part.length > 0) held.push(part);
  };
  for await (const chunk of bytes as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      hold(chunk.subarray(start, end));
      yield take();
      start = end + 1;
    }
    hold(chunk.subarray(start));
  }
  if (size > 0) yield take();
}
