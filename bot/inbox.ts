import type { Database } from '../src/index.ts';
import type { Task } from './types.ts';
import { jobOf, taskName } from './work.ts';

/**
 * Takes deliveries in with one statement each: remembered and queued together, so that a crash loses none and a repetition
 * does nothing, and the forge is answered after one way to the database. The tables are those of the queue
 * (graphile-worker, `graphile_worker.add_job`) and `deliveries`.
 */
export function createInbox(
  database: Database,
  project: string,
): (id: string, tasks: readonly Task[]) => Promise<boolean> {
  const sql = `with fresh as (insert into deliveries (id) values ($1) on conflict (id) do nothing returning id)
    select (select count(*) from fresh) as fresh, count(graphile_worker.add_job(
      identifier => $3, payload => (job -> 'payload')::json, queue_name => job ->> 'queue', job_key => job ->> 'key'
    )) as queued from fresh, jsonb_array_elements($2::jsonb) as job`;
  return async (id, tasks) => {
    const jobs = tasks.map((task) => ({ payload: { task }, ...jobOf(project, task) }));
    const [row] = await database.query<{ fresh: number }>(sql, [id, JSON.stringify(jobs), taskName(project)]);
    return row?.fresh === 1;
  };
}
