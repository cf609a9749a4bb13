import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestBytes } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { Database, Queryable } from './types.ts';

/** Any number that no other program locks; the same in every version, so that old and new ones exclude each other. */
const lockKey = 7_265_610_021;

/**
 * Brings a database to the state that the `NNN-name.sql` files of a folder describe: each file once, in order, all in one
 * transaction and by one process at a time. Throws UserError database-mismatch when a file that was applied has changed
 * since, or was applied by a version of the program that has more of them; nothing is changed then.
 */
export async function migrate(database: Database, folder: string): Promise<void> {
  const files = (await readdir(folder)).filter((name) => /^\d{3}-.+\.sql$/.test(name)).sort();
  const wanted = await Promise.all(
    files.map(async (name) => {
      const sql = await readFile(join(folder, name), 'utf8');
      return { name, sql, checksum: digestBytes(sql) };
    }),
  );
  const [table] = await database.query<{ found: boolean }>(
    `select to_regclass('cdl_migrations') is not null as found`,
  );
  // Looked at without the lock first: nearly always there is nothing to do.
  if (table?.found && (await pending(database, wanted)).length === 0) return;
  await database.transaction(async (transaction) => {
    await transaction.query('select pg_advisory_xact_lock($1)', [lockKey]);
    await transaction.query(
      `create table if not exists cdl_migrations (
         name text primary key, checksum text not null, applied_at timestamptz not null default now())`,
    );
    for (const { name, sql, checksum } of await pending(transaction, wanted)) {
      await transaction.query(sql);
      await transaction.query('insert into cdl_migrations (name, checksum) values ($1, $2)', [
        name,
        checksum,
      ]);
    }
  });
}

async function pending<M extends { name: string; checksum: string }>(
  database: Queryable,
  wanted: M[],
): Promise<M[]> {
  const applied = await database.query<{ name: string; checksum: string }>(
    'select name, checksum from cdl_migrations order by name',
  );
  for (const { name, checksum } of applied) {
    const file = wanted.find((one) => one.name === name);
    if (!file) {
      throw new UserError(
        'database-mismatch',
        `the database has the migration ${name}, which is not known here`,
      );
    }
    if (file.checksum !== checksum) {
      throw new UserError('database-mismatch', `the migration ${name} was edited after it had been applied`);
    }
  }
  return wanted.filter(({ name }) => !applied.some((one) => one.name === name));
}
