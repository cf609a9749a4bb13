import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestBytes } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { packageRoot } from '../exec/root.ts';
import type { Database, Queryable } from './types.ts';

/** Any number that no other program locks; the same in every version, so that old and new ones exclude each other. */
const lockKey = 7_265_610_021;

/** Where the migrations of this version are. */
export const migrationsFolder = (): string => join(packageRoot(), 'src/db/migrations');

/** A migration as a database remembers it. */
export interface AppliedMigration {
  name: string;
  checksum: Digest;
}

/** A file of the migrations. */
export interface Migration extends AppliedMigration {
  sql: string;
}

/** The `NNN-name.sql` files of a folder in their order. */
export async function readMigrations(folder: string): Promise<Migration[]> {
  const files = (await readdir(folder)).filter((name) => /^\d{3}-.+\.sql$/.test(name)).sort();
  return Promise.all(
    files.map(async (name) => {
      const sql = await readFile(join(folder, name), 'utf8');
      return { name, sql, checksum: digestBytes(sql) };
    }),
  );
}

/** Keeps every other process from migrating until the transaction ends. */
export async function lockMigrations(transaction: Queryable): Promise<void> {
  await transaction.query('select pg_advisory_xact_lock($1)', [lockKey]);
}

/** Applies migrations in the order given, and remembers them. */
export async function applyMigrations(transaction: Queryable, list: readonly Migration[]): Promise<void> {
  await transaction.query(
    `create table if not exists cdl_migrations (
       name text primary key, checksum text not null, applied_at timestamptz not null default now())`,
  );
  for (const { name, sql, checksum } of list) {
    await transaction.query(sql);
    await transaction.query('insert into cdl_migrations (name, checksum) values ($1, $2)', [name, checksum]);
  }
}

/**
 * Brings a database to the state that the `NNN-name.sql` files of a folder describe: each file once, in order, all in one
 * transaction and by one process at a time. Throws UserError database-mismatch when a file that was applied has changed
 * since, or was applied by a version of the program that has more of them; nothing is changed then.
 */
export async function migrate(database: Database, folder: string): Promise<void> {
  const wanted = await readMigrations(folder);
  const [table] = await database.query<{ found: boolean }>(
    `select to_regclass('cdl_migrations') is not null as found`,
  );
  // Looked at without the lock first: nearly always there is nothing to do.
  if (table?.found && (await pending(database, wanted)).length === 0) return;
  await database.transaction(async (transaction) => {
    await lockMigrations(transaction);
    await applyMigrations(transaction, []);
    await applyMigrations(transaction, await pending(transaction, wanted));
  });
}

async function pending(database: Queryable, wanted: readonly Migration[]): Promise<Migration[]> {
  const applied = await database.query<AppliedMigration>(
    'select name, checksum from cdl_migrations order by name',
  );
  return pendingMigrations(applied, wanted, 'the database');
}

/**
 * Which migrations `what` (as people would call it) has yet to see. Throws UserError database-mismatch when it saw one that
 * is not known here, or another one under the same name.
 */
export function pendingMigrations(
  applied: readonly AppliedMigration[],
  wanted: readonly Migration[],
  what: string,
): Migration[] {
  for (const { name, checksum } of applied) {
    const file = wanted.find((one) => one.name === name);
    if (!file) {
      throw new UserError(
        'database-mismatch',
        `${what} has the migration ${name}, which is not known here`,
        'use the version of cdl that made it, or a newer one',
      );
    }
    if (file.checksum !== checksum) {
      throw new UserError('database-mismatch', `the migration ${name} was edited after ${what} had seen it`);
    }
  }
  return wanted.filter(({ name }) => !applied.some((one) => one.name === name));
}
