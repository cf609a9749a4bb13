import type { Queryable } from './types.ts';

/**
 * One table and where its content comes from. `durable` is only here and goes into a backup; `derived` can be filled again
 * from the object store (`cdl db rebuild`); `remade` comes about by itself: by migrating, or with the jobs of the queue.
 */
export interface TableEntry {
  schema: 'own' | 'graphile_worker';
  name: string;
  kept: 'durable' | 'derived' | 'remade';
  /** What is in it, for people. */
  what: string;
}

const own = (name: string, kept: TableEntry['kept'], what: string): TableEntry => ({
  schema: 'own',
  name,
  kept,
  what,
});
const queue = (name: string, kept: TableEntry['kept'], what: string): TableEntry => ({
  schema: 'graphile_worker',
  name,
  kept,
  what,
});

/**
 * Every table that migrations and the queue make, in the order in which rows can be written (a table after those it refers
 * to). A partition goes with its table. A migration that adds a table adds its line here; a test sees to it.
 */
export const tables: readonly TableEntry[] = [
  own('label_events', 'durable', 'labels with their whole history'),
  own('bot_approvals', 'durable', 'approvals by people'),
  own('bot_rejections', 'durable', 'changes that were sent back'),
  own('bot_comments', 'durable', 'comments that were answered'),
  own('bot_cursors', 'durable', 'how far the bot has looked, and its dead letters'),
  own('bot_jobs', 'durable', 'what jobs took, which budgets limit'),
  own('bot_pipelines', 'durable', 'pipelines the bot started for a change'),
  own('bot_evaluations', 'durable', 'pipelines that answer a question'),
  own('bot_pictures', 'durable', 'pictures uploaded to the forge'),
  own('deliveries', 'durable', 'webhooks that were taken in'),
  queue('_private_jobs', 'durable', 'tasks that are not done'),
  own('runs', 'derived', 'runs of work/'),
  own('run_metrics', 'derived', 'curves of runs'),
  own('versions', 'derived', 'registered versions of work/'),
  own('evaluations', 'derived', 'evaluations of trusted/'),
  own('decisions', 'derived', 'signed decisions of trusted/'),
  own('cdl_migrations', 'remade', 'which migrations were applied'),
  queue('migrations', 'remade', "the queue's own migrations"),
  queue('_private_tasks', 'remade', 'names of tasks'),
  queue('_private_job_queues', 'remade', 'names of serial queues'),
  queue('_private_known_crontabs', 'remade', 'timetables; this program has none'),
];

/** The sequences that migrations make and no table owns; a backup has how far each has counted. */
export const sequences = ['label_events_seq'] as const;

/** The functions that migrations make. */
export const functions = ['label_events_keep'] as const;

/** Our own tables that are only here. */
export const durableTables: readonly string[] = tables
  .filter(({ schema, kept }) => schema === 'own' && kept === 'durable')
  .map(({ name }) => name);

/** Tables that the object store can fill again. */
export const derivedTables: readonly string[] = tables
  .filter(({ kept }) => kept === 'derived')
  .map(({ name }) => name);

/** A column with its type as SQL writes it. */
export interface Column {
  name: string;
  type: string;
}

/** A name as SQL takes it whatever it holds. */
export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** The columns of one of our tables that hold content of their own, in their order; none when there is no such table. */
export async function columnsOf(database: Queryable, table: string): Promise<Column[]> {
  return database.query<Column>(
    `select attname as name, format_type(atttypid, atttypmod) as type from pg_attribute
      where attrelid = to_regclass($1) and attnum > 0 and not attisdropped and attgenerated = ''
      order by attnum`,
    [quoted(table)],
  );
}

/** The columns of a table's primary key, in the order of the key. */
export async function keyOf(database: Queryable, table: string): Promise<string[]> {
  const rows = await database.query<{ name: string }>(
    `select attname as name from pg_index, unnest(indkey) with ordinality as part (number, place), pg_attribute
      where indrelid = to_regclass($1) and indisprimary and attrelid = indrelid and attnum = number
      order by place`,
    [quoted(table)],
  );
  return rows.map(({ name }) => name);
}

/** Whether any queue was opened on the database yet. */
export async function hasQueue(database: Queryable): Promise<boolean> {
  const [row] = await database.query<{ there: boolean }>(
    `select to_regclass('graphile_worker.jobs') is not null as there`,
  );
  return row?.there ?? false;
}
