import { migrate, migrationsFolder } from './migrate.ts';
import { connect } from './postgres.ts';
import type { Database } from './types.ts';

export type { BackupHeader } from './backup-format.ts';
export { openQueue, type Queue } from './queue.ts';
export { derivedTables, hasQueue } from './tables.ts';
export type { Database, Queryable } from './types.ts';

/**
 * Opens the database and brings its tables up to date. With a `url` that server is used (PostgreSQL 15 or later);
 * without one a PostgreSQL of our own, its data below `folder`, shared by all processes of this machine that open the same
 * folder and stopped when the last of them is gone. Throws UserError database-unavailable, database-mismatch; UpstreamError.
 */
export async function openDatabase(where: { url: string | null; folder: string }): Promise<Database> {
  const database = await connect(
    where.url === null
      ? await (await import('./embedded.ts')).joinEmbedded(where.folder)
      : { url: where.url, revive: null, release: async () => undefined },
  );
  try {
    await migrate(database, migrationsFolder());
  } catch (error) {
    await database.close();
    throw error;
  }
  return database;
}
