import type { Readable } from 'node:stream';
import { UserError } from '../core/error.ts';
import type { ReadConfig } from '../core/project-read.ts';

/** A row of a CSV or JSONL file: its values by column, or why it is none; `line` counts from one. */
export type Row = { line: number; values: Record<string, unknown> } | { line: number; reason: string };

/** The rows of one file, one in memory at a time. Throws UserError data-invalid for a file that is no CSV at all. */
export function readRows(
  read: Extract<ReadConfig, { format: 'csv' | 'jsonl' }>,
  name: string,
  bytes: Readable,
  most: number,
): AsyncGenerator<Row> {
  return read.format === 'csv' ? csvRows(name, bytes, read.delimiter, most) : jsonRows(bytes, most);
}

async function* csvRows(name: string, bytes: Readable, delimiter: string, most: number): AsyncGenerator<Row> {
  const { parse } = await import('csv-parse');
  const parser = parse({
    bom: true,
    delimiter,
    info: true,
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: most,
  });
  bytes.on('error', (error) => parser.destroy(error));
  bytes.pipe(parser);
  let head: string[] | null = null;
  let line = 1;
  try {
    for await (const { record, info } of parser as AsyncIterable<{
      record: string[];
      info: { lines: number };
    }>) {
      if (head === null) {
        head = record;
        const twice = head.find((column, index) => head!.indexOf(column) !== index);
        if (twice !== undefined) throw new UserError('data-invalid', `${name} has two columns "${twice}"`);
      } else if (record.length !== head.length) {
        yield { line, reason: 'wrong-length' };
      } else if (record.some((value) => value.includes('\ufffd'))) {
        yield { line, reason: 'not-utf-8' };
      } else {
        const values: [string, string][] = head.map((column, index) => [column, record[index]!]);
        yield { line, values: Object.fromEntries(values) };
      }
      line = info.lines + 1;
    }
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw new UserError('data-invalid', `${name} is no CSV: ${(cause as Error).message}`, undefined, {
      cause,
    });
  } finally {
    bytes.destroy();
  }
  if (head === null)
    throw new UserError('data-invalid', `${name} is empty: it has no row that names the columns`);
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
