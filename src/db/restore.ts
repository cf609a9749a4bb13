import { UserError } from '../core/error.ts';
import { batchRows, speakPlainly } from './backup.ts';
import {
  type BackupHeader,
  type BackupPart,
  type BackupSection,
  queueSection,
  readBackup,
} from './backup-format.ts';
import {
  applyMigrations,
  lockMigrations,
  type Migration,
  migrationsFolder,
  pendingMigrations,
  readMigrations,
} from './migrate.ts';
import { installQueue } from './queue.ts';
import { addQueueRows, queueColumns } from './queue-rows.ts';
import { columnsOf, durableTables, functions, hasQueue, quoted, sequences, tables } from './tables.ts';
import type { Database, Queryable } from './types.ts';
import { liveWorkers } from './worker-lease.ts';

/** Longest text of rows that is sent at once, in characters; one row may be longer. */
const batchLength = 1 << 20;

const ownTables = tables.filter(({ schema }) => schema === 'own').map(({ name }) => name);

/** Where a backup's rows go: one section after the other, in bounded portions. */
export type WriteRows = (section: BackupSection, rows: readonly string[]) => Promise<void>;

/**
 * Hands the rows of a backup to `write` in portions of at most {@link batchRows} rows and about a million characters, no
 * piece being asked for before the portion before was written. Returns the digest at its end.
 */
export async function writeRows(parts: AsyncIterable<BackupPart>, write: WriteRows): Promise<string> {
  let section: BackupSection | null = null;
  let rows: string[] = [];
  let length = 0;
  const flush = async () => {
    if (section && rows.length > 0) await write(section, rows);
    rows = [];
    length = 0;
  };
  let digest = '';
  for await (const part of parts) {
    if (part.kind === 'header') continue;
    if (part.kind === 'end' || part.section !== section) await flush();
    if (part.kind === 'end') {
      digest = part.digest;
      continue;
    }
    section = part.section;
    rows.push(part.line);
    length += part.line.length;
    if (rows.length === batchRows || length > batchLength) await flush();
  }
  return digest;
}

/** Reads a backup to its end: its header, when all of it is sound. Throws as {@link readBackup} does. */
async function verify(path: string, signal?: AbortSignal): Promise<{ header: BackupHeader; digest: string }> {
  let header: BackupHeader | null = null;
  for await (const part of readBackup(path, signal)) {
    if (part.kind === 'header') header = part.header;
    if (part.kind === 'end') return { header: header!, digest: part.digest };
  }
  throw new Error('a backup ended without its end');
}

/** Tables that would lose what is only there, with how much that is. */
async function occupied(transaction: Queryable): Promise<string[]> {
  const found: string[] = [];
  const look = async (name: string, from: string) => {
    const [row] = await transaction.query<{ rows: number }>(`select count(*) as rows from ${from}`);
    if (row!.rows > 0) found.push(`${name} (${row!.rows})`);
  };
  for (const name of durableTables) await look(name, quoted(name));
  if (await hasQueue(transaction)) await look(queueSection, 'graphile_worker._private_jobs');
  return found;
}

/** Takes everything away that migrations made, and the queue's tasks. */
async function clear(transaction: Queryable): Promise<void> {
  try {
    await transaction.query(`drop table ${ownTables.map(quoted).join(', ')}`);
    for (const name of sequences) await transaction.query(`drop sequence ${quoted(name)}`);
    for (const name of functions) await transaction.query(`drop function ${quoted(name)}`);
  } catch (error) {
    if (codeOf(error) !== '2BP01') throw error;
    const detail = error instanceof Error && 'detail' in error ? String(error.detail) : String(error);
    throw new UserError(
      'usage',
      `something that is not of cdl depends on its tables: ${detail}`,
      'drop that and make it again afterwards, or restore into an empty database',
      { cause: error },
    );
  }
  if (await hasQueue(transaction)) await transaction.query('delete from graphile_worker._private_jobs');
}

/** Writes the rows of one section into the tables as they are at the backup's migrations. */
function writerOf(transaction: Queryable, path: string): WriteRows {
  const statements = new Map<string, string>();
  return async ({ table, columns }, rows) => {
    const text = `[${rows.join(',')}]`;
    if (table === queueSection) return addQueueRows(transaction, text);
    let sql = statements.get(table);
    if (sql === undefined) {
      const there = await columnsOf(transaction, table);
      if (!sameNames(there, columns)) {
        throw new UserError(
          'backup-invalid',
          `${path}: the columns of ${table} are not those of its migrations`,
        );
      }
      const types = new Map(there.map(({ name, type }) => [name, type]));
      const values = columns.map((name, index) => `(row_ ->> ${index})::${types.get(name)}`);
      sql = `insert into ${quoted(table)} (${columns.map(quoted).join(', ')}) overriding system value
        select ${values.join(', ')} from jsonb_array_elements($1::jsonb) with ordinality as one (row_, place) order by place`;
      statements.set(table, sql);
    }
    await transaction.query(sql, [text]);
  };
}

function sameNames(there: readonly { name: string }[], names: readonly string[]): boolean {
  return there.length === names.length && there.every(({ name }) => names.includes(name));
}

/** What the header may name: nothing but tables and sequences that are ours. */
function checkNames(path: string, header: BackupHeader): void {
  const known = [...durableTables, queueSection, ...sequences];
  const named = [...header.tables.map(({ table }) => table), ...Object.keys(header.sequences)];
  const strange = named.find((name) => !known.includes(name));
  if (strange !== undefined) {
    throw new UserError('backup-invalid', `${path}: "${strange}" is nothing that is kept in a backup`);
  }
  const queue = header.tables.find(({ table }) => table === queueSection);
  const expected = queueColumns.map(({ name }) => name);
  if (queue && queue.columns.join() !== expected.join()) {
    throw new UserError('backup-invalid', `${path}: tasks have the columns ${queue.columns.join(', ')}`);
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** What the server says of a backup's content (SQLSTATE 22: data, 23: constraints) or of others in the way (55P03). */
function explainRestore(path: string, error: unknown): unknown {
  const code = codeOf(error);
  if (code === '55P03') {
    return new UserError(
      'database-in-use',
      'another program holds tables of this database',
      'stop what works on it (cdl labels sync, a long query) and run the command again',
      { cause: error },
    );
  }
  if (!/^2[23]...$/.test(code)) return error;
  return new UserError('backup-invalid', `${path}: ${(error as Error).message}`, undefined, { cause: error });
}

async function refuseWorkers(transaction: Queryable): Promise<void> {
  const workers = await liveWorkers(transaction);
  if (workers.length === 0) return;
  throw new UserError(
    'database-in-use',
    `a bot works on this database (${workers.join(', ')})`,
    'stop every bot, restore, then start them again',
  );
}

/**
 * Puts a backup in the place of what is only in the database: everything or, when anything fails or the process ends,
 * nothing. The file is read to its end and verified first. The tables are made as they were when it was made and brought
 * up to date from there. What the store has (runs, versions, evaluations, decisions) is empty afterwards.
 *
 * Throws UserError backup-invalid; database-mismatch (made by a newer version); database-in-use (a bot's worker lives);
 * usage when the database holds something and `force` is not set.
 */
export async function restoreBackup(
  database: Database,
  path: string,
  options: {
    force: boolean;
    progress?: (share: number) => void;
    signal?: AbortSignal;
    /** Another folder of migrations than this version's. */
    migrations?: string;
  },
): Promise<BackupHeader> {
  const { force, progress, signal } = options;
  const { header, digest } = await verify(path, signal);
  checkNames(path, header);
  const known = await readMigrations(options.migrations ?? migrationsFolder());
  const later = pendingMigrations(header.migrations, known, path);
  const earlier = known.filter((one: Migration) => !later.includes(one));
  const total = header.tables.reduce((sum, { rows }) => sum + rows, 0);
  await refuseWorkers(database);
  if (header.tables.some(({ table, rows }) => table === queueSection && rows > 0)) {
    // The library's tables, which a starting bot makes as well; they are empty until the transaction below ends.
    await installQueue(database);
  }
  try {
    await database.transaction(async (transaction) => {
      await speakPlainly(transaction);
      await transaction.query(`set local lock_timeout = '10s'`);
      await lockMigrations(transaction);
      if (await hasQueue(transaction)) {
        await transaction.query('lock table graphile_worker._private_jobs in access exclusive mode');
      }
      await transaction.query(`lock table ${ownTables.map(quoted).join(', ')} in access exclusive mode`);
      // Again, now that nobody can begin: whoever takes a task needs the table that is locked.
      await refuseWorkers(transaction);
      const found = await occupied(transaction);
      if (found.length > 0 && !force) {
        throw new UserError(
          'usage',
          `the database is not empty: ${found.join(', ')}`,
          'back it up, then --force replaces all of that by the backup',
        );
      }
      await clear(transaction);
      await applyMigrations(transaction, earlier);
      const write = writerOf(transaction, path);
      let done = 0;
      const read = await writeRows(readBackup(path, signal), async (section, rows) => {
        await write(section, rows);
        done += rows.length;
        progress?.(done / total);
      });
      if (read !== digest) throw new UserError('backup-invalid', `${path} was changed while it was read`);
      for (const [name, { last, called }] of Object.entries(header.sequences)) {
        await transaction.query('select setval($1, $2, $3)', [quoted(name), last, called]);
      }
      await applyMigrations(transaction, later);
    });
  } catch (error) {
    throw explainRestore(path, error);
  }
  return header;
}
