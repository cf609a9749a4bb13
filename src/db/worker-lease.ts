import type { PoolClient } from 'pg';
import type { Database, Queryable } from './types.ts';

/** The first half of our advisory lock keys; the second is a hash of the worker's name. */
const space = 1_667_525_740;

/** How often jobs of dead workers are looked for, in milliseconds. */
const interval = 2_000;

/** The sign that a worker lives. Closing it is like dying: jobs it still holds are freed by others. */
export interface WorkerLease {
  close(): Promise<void>;
}

/**
 * Lets other processes see that workers live, and frees the jobs of those that do not. A worker's life is a session
 * advisory lock, which PostgreSQL gives up the moment its process is gone; graphile-worker alone would wait four hours.
 * `free` is called with the names of workers that hold jobs and are dead.
 */
export async function openWorkerLease(
  database: Database,
  workers: ReadonlySet<string>,
  free: (workers: string[]) => Promise<void>,
): Promise<WorkerLease> {
  let client: PoolClient | null = await hold();
  let closed = false;

  async function hold(): Promise<PoolClient> {
    const held = await database.pool.connect();
    held.on('error', () => undefined);
    await held.query('select pg_advisory_lock_shared($1, hashtext(name)) from unnest($2::text[]) as name', [
      space,
      [...workers],
    ]);
    return held;
  }

  async function look(lease: PoolClient): Promise<void> {
    // The moment of grace is for a worker that took a job before its lease was there.
    const { rows } = await lease.query<{ name: string; dead: boolean }>(
      `select name, pg_try_advisory_xact_lock($1, hashtext(name)) as dead from (
         select distinct locked_by as name from graphile_worker.jobs
          where locked_at < now() - interval '2 seconds' and not locked_by = any($2::text[])) as busy`,
      [space, [...workers]],
    );
    const dead = rows.filter((row) => row.dead).map((row) => row.name);
    if (dead.length > 0) await free(dead);
  }

  async function tick(): Promise<void> {
    try {
      client ??= await hold();
      await look(client);
    } catch {
      // The connection and with it the leases are gone; the next tick takes them anew.
      client?.release(true);
      client = null;
    }
  }

  await look(client);
  let ticking: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    ticking = ticking.then(tick);
  }, interval);
  timer.unref();
  return {
    async close() {
      if (closed) return;
      closed = true;
      clearInterval(timer);
      await ticking;
      client?.release(true);
    },
  };
}

/** The clients of the database that hold a worker's lease, as people can find them: name or address, and process. */
export async function liveWorkers(database: Queryable): Promise<string[]> {
  const rows = await database.query<{ who: string }>(
    `select distinct concat_ws(' ', nullif(application_name, ''), coalesce(host(client_addr), 'local socket'),
                               'server process', activity.pid) as who
       from pg_locks locks join pg_stat_activity activity using (pid)
      where locktype = 'advisory' and granted and classid = $1 and objsubid = 2
        and database = (select oid from pg_database where datname = current_database())
      order by who`,
    [space],
  );
  return rows.map(({ who }) => who);
}
