import { join } from 'node:path';
import { type Database, hasQueue, openDatabase, openQueue, UserError } from '../src/index.ts';
import { createBotState } from './state.ts';
import { type Environment, readVariable } from './variables.ts';
import { jobOf, taskName, taskOfKey } from './work.ts';

/** A task that is not done, as `cdl bot queue` shows it. */
export interface QueueRow {
  /** `failed` is tried again at `next`; `dead` is not tried again by itself. */
  state: 'waiting' | 'running' | 'failed' | 'dead';
  project: string;
  /** Names the task to `--replay` and `--drop`. */
  key: string;
  attempts: number;
  /** RFC 3339; when it is due, null when it runs or is dead. */
  next: string | null;
  /** Why it failed the last time; empty when it has not. */
  error: string;
}

/** One action on the queue: a key, or `all` (only to replay); null for none. */
export interface QueueAction {
  replay: string | null;
  drop: string | null;
}

const prefix = taskName('');

/** What is in the queue and what was given up, in the order in which it is due. The dead come last. */
export async function readQueue(database: Database): Promise<QueueRow[]> {
  const letters = await database.query<{ project: string; name: string; value: string }>(
    `select project, name, value from bot_cursors
      where name like 'failed/%' and value <> '' order by project, name`,
  );
  const dead = letters.map(
    ({ project, name, value }): QueueRow => ({
      state: 'dead',
      project,
      key: name.slice('failed/'.length),
      attempts: 1,
      next: null,
      error: value,
    }),
  );
  // No bot has run on this database yet.
  if (!(await hasQueue(database))) return dead;
  const jobs = await database.query<Omit<QueueRow, 'project' | 'next'> & { task: string; next: Date | null }>(
    `select case when locked_at is not null then 'running' when attempts >= max_attempts then 'dead'
                 when attempts > 0 then 'failed' else 'waiting' end as state,
            task_identifier as task, key, attempts, coalesce(last_error, '') as error,
            case when locked_at is null and attempts < max_attempts then run_at end as next
       from graphile_worker.jobs where key is not null order by 6 nulls last, jobs.id`,
  );
  const queued = jobs
    .filter(({ task }) => task.startsWith(prefix))
    .map(({ task, next, ...row }): QueueRow => {
      const due = next === null ? null : new Date(next).toISOString();
      return { ...row, project: task.slice(prefix.length), next: due };
    });
  return [...queued, ...dead];
}

function rowsNamed(rows: readonly QueueRow[], key: string): QueueRow[] {
  const found = rows.filter((row) => row.key === key);
  if (found.length > 0) return found;
  throw new UserError('usage', `there is no task "${key}" in the queue`, 'cdl bot queue lists the keys');
}

/**
 * Has tasks done again from now with all their tries, and takes back what is said of their failure. Returns the keys.
 * Throws UserError usage when there is no such task, or when what failed is no task of its own.
 */
export async function replayTasks(database: Database, key: string): Promise<string[]> {
  const rows = await readQueue(database);
  const named =
    key === 'all'
      ? rows.filter(
          (row) =>
            (row.state === 'failed' || row.state === 'dead') && taskOfKey(row.project, row.key) !== null,
        )
      : rowsNamed(rows, key).filter((row) => row.state !== 'running');
  if (key !== 'all' && named.length === 0) {
    throw new UserError('usage', `"${key}" is running`, 'its end says whether it has to be replayed');
  }
  const chosen = new Map(named.map((row) => [row.key, row.project]));
  const queue = await openQueue(database, {}, { concurrency: 1 });
  try {
    for (const [one, project] of chosen) {
      const task = taskOfKey(project, one);
      if (!task) {
        throw new UserError(
          'usage',
          `"${one}" is no task that can be replayed`,
          'mend its cause, then --drop it',
        );
      }
      // The letter first: killed in between, reconciling finds the task and tells of it again.
      await createBotState(database, project).setCursor(`failed/${one}`, '');
      await queue.add(taskName(project), { task }, jobOf(project, task));
    }
  } finally {
    await queue.stop();
  }
  return [...chosen.keys()];
}

/** Forgets a task that does not run, and its failure. Returns its key. Throws UserError usage when there is none. */
export async function dropTask(database: Database, key: string): Promise<string[]> {
  const rows = rowsNamed(await readQueue(database), key);
  if (rows.every((row) => row.state === 'running')) {
    throw new UserError('usage', `"${key}" is running`, 'wait for its end, or stop the bot');
  }
  for (const project of new Set(rows.map((row) => row.project))) {
    await createBotState(database, project).setCursor(`failed/${key}`, '');
  }
  if (await hasQueue(database)) {
    await database.query(
      `select graphile_worker.complete_jobs(array_agg(id)) from graphile_worker.jobs
        where key = $1 and locked_at is null having count(*) > 0`,
      [key],
    );
  }
  return [key];
}

/** The table that people read. */
export function renderQueue(rows: readonly QueueRow[]): string {
  if (rows.length === 0) return 'the queue is empty';
  const width = Math.max(...rows.map((row) => row.key.length));
  return rows
    .map((row) =>
      [row.state.padEnd(7), row.key.padEnd(width), row.next ?? '', row.error.split('\n', 1)[0] ?? '']
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/**
 * `cdl bot queue`: lists, replays or drops, on the database that `CDL_DATABASE` or `CDL_BOT_FOLDER` names.
 * Throws UserError usage, environment-missing, database-unavailable.
 */
export async function tendQueue(
  env: Environment,
  { replay, drop }: QueueAction,
): Promise<{ text: string; data: Record<string, unknown> }> {
  if (replay !== null && drop !== null) throw new UserError('usage', 'either --replay or --drop, not both');
  const url = readVariable(env, 'CDL_DATABASE');
  const folder = readVariable(env, 'CDL_BOT_FOLDER');
  if (url === null && folder === null) {
    throw new UserError(
      'environment-missing',
      'neither CDL_DATABASE nor CDL_BOT_FOLDER is set: whose queue?',
      'cdl bot --help lists every variable',
    );
  }
  const database = await openDatabase({
    url,
    folder: join(folder ?? '.', 'database'),
  });
  try {
    if (replay !== null) {
      const replayed = await replayTasks(database, replay);
      return {
        text: replayed.map((key) => `again: ${key}`).join('\n') || 'nothing failed',
        data: { replayed },
      };
    }
    if (drop !== null) {
      const dropped = await dropTask(database, drop);
      return { text: dropped.map((key) => `dropped: ${key}`).join('\n'), data: { dropped } };
    }
    const rows = await readQueue(database);
    return { text: renderQueue(rows), data: { tasks: rows } };
  } finally {
    await database.close();
  }
}
