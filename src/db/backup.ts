import { createHash } from 'node:crypto';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { type BackupHeader, formatVersion, queueSection } from './backup-format.ts';
import { queueColumns, queueSelect } from './queue-rows.ts';
import { columnsOf, durableTables, hasQueue, keyOf, quoted, sequences } from './tables.ts';
import type { Database, Queryable } from './types.ts';

/** How many rows are held at a time, on the way out and on the way in. */
export const batchRows = 500;

/** Values as text that means the same to every server, whatever it and its users are set to. */
const settings = `set local datestyle = 'ISO, YMD'; set local intervalstyle = 'postgres'; set local timezone = 'UTC';
  set local extra_float_digits = 1; set local bytea_output = 'hex'; set local standard_conforming_strings = on;
  set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0`;

/** Has a transaction write and read values as a backup has them. */
export async function speakPlainly(transaction: Queryable): Promise<void> {
  await transaction.query(settings);
}

/** What is read for one section of a backup: a table's rows in the order of its key, or the queue's tasks. */
interface Source {
  name: string;
  columns: readonly { name: string }[];
  select: string;
  order: string;
}

async function sourcesOf(transaction: Queryable): Promise<Source[]> {
  const sources: Source[] = [];
  for (const name of durableTables) {
    const columns = await columnsOf(transaction, name);
    const key = (await keyOf(transaction, name)).map(quoted);
    sources.push({ name, columns, select: `select * from ${quoted(name)}`, order: key.join(', ') });
  }
  if (await hasQueue(transaction)) {
    sources.push({ name: queueSection, columns: queueColumns, select: queueSelect, order: 'id' });
  }
  return sources;
}

async function headerOf(transaction: Queryable, sources: readonly Source[]): Promise<BackupHeader> {
  const [now] = await transaction.query<{ at: Date }>('select now() as at');
  const counted: BackupHeader['sequences'] = {};
  for (const name of sequences) {
    const [row] = await transaction.query<{ last: string; called: boolean }>(
      `select last_value::text as last, is_called as called from ${quoted(name)}`,
    );
    counted[name] = row!;
  }
  const sections: BackupHeader['tables'] = [];
  for (const { name, columns, select } of sources) {
    const [row] = await transaction.query<{ rows: number }>(
      `select count(*) as rows from (${select}) counted`,
    );
    sections.push({ table: name, columns: columns.map((column) => column.name), rows: row!.rows });
  }
  return {
    format: 'cdl-backup',
    version: formatVersion,
    at: new Date(now!.at).toISOString(),
    migrations: await transaction.query('select name, checksum from cdl_migrations order by name'),
    sequences: counted,
    tables: sections,
  };
}

/** The rows of one section as lines, {@link batchRows} at a time from a cursor. */
async function* rowsOf(transaction: Queryable, { columns, select, order }: Source): AsyncGenerator<string[]> {
  const values = columns.map(({ name }) => `${quoted(name)}::text`).join(', ');
  await transaction.query(
    `declare backup no scroll cursor for
       select array_to_json(array[${values}])::text as line from (${select}) source ${order && `order by ${order}`}`,
  );
  for (;;) {
    const rows = await transaction.query<{ line: string }>(`fetch ${batchRows} from backup`);
    if (rows.length === 0) break;
    yield rows.map(({ line }) => line);
  }
  await transaction.query('close backup');
}

/**
 * Everything of a database that is only there, as text: whole lines, many to a piece, no piece before the one before was
 * taken. The transaction must be new; it is made a snapshot. `onHeader` hears what will come before the first piece.
 */
export async function* backupText(
  transaction: Queryable,
  onHeader: (header: BackupHeader) => void,
  onRows: (count: number) => void,
): AsyncGenerator<string> {
  await transaction.query('set transaction isolation level repeatable read, read only');
  await speakPlainly(transaction);
  const sources = await sourcesOf(transaction);
  const header = await headerOf(transaction, sources);
  onHeader(header);
  const hash = createHash('sha256');
  const first = `${JSON.stringify(header)}\n`;
  hash.update(first);
  yield first;
  for (const source of sources) {
    for await (const rows of rowsOf(transaction, source)) {
      const text = `${rows.join('\n')}\n`;
      hash.update(text);
      onRows(rows.length);
      yield text;
    }
  }
  yield `${JSON.stringify({ end: `sha256:${hash.digest('hex')}` })}\n`;
}

/**
 * Writes a consistent copy of everything that is only in the database (see tables.ts) to a stream and ends it: JSON Lines in
 * gzip. Others may go on working. `progress` is the share that is done. Throws what the stream or the database throws;
 * what was written is then no whole backup, and {@link readBackup} will say so.
 */
export async function writeBackup(
  database: Database,
  out: Writable,
  options: { progress?: (share: number) => void; signal?: AbortSignal } = {},
): Promise<BackupHeader> {
  const { progress, signal } = options;
  // A read-only snapshot is never ended for another's sake, so that this runs once.
  return database.transaction(async (transaction) => {
    let header: BackupHeader | null = null;
    let total = 0;
    let done = 0;
    const text = backupText(
      transaction,
      (found) => {
        header = found;
        total = found.tables.reduce((sum, { rows }) => sum + rows, 0);
      },
      (count) => {
        done += count;
        progress?.(done / total);
      },
    );
    await pipeline(Readable.from(text), createGzip(), out, { signal });
    return header!;
  });
}
