import { setTimeout as wait } from 'node:timers/promises';
import { type Database, UpstreamError } from '../src/index.ts';
import { type Tracing, untraced } from './trace.ts';
import type { Task } from './types.ts';
import { jobOf, type QueuedTask, taskName } from './work.ts';

/** Milliseconds to wait for a database that is away: a delivery refused is not sent again, and forges hang up after 10 s. */
const patience = 8_000;

/**
 * Takes deliveries in with one statement each: remembered and queued together, so that a crash loses none and a repetition
 * does nothing, and the forge is answered after one way to the database. The tables are those of the queue
 * (graphile-worker, `graphile_worker.add_job`) and `deliveries`.
 */
export function createInbox(
  database: Database,
  project: string,
  tracing: Tracing = untraced,
): (id: string, tasks: readonly Task[]) => Promise<boolean> {
  const sql = `with fresh as (insert into deliveries (id) values ($1) on conflict (id) do nothing returning id)
    select (select count(*) from fresh) as fresh, count(graphile_worker.add_job(
      identifier => $3, payload => (job -> 'payload')::json, queue_name => job ->> 'queue', job_key => job ->> 'key'
    )) as queued from fresh, jsonb_array_elements($2::jsonb) as job`;
  const take = async (id: string, tasks: readonly Task[]): Promise<boolean> => {
    const trace = tracing.parent();
    const payload = (task: Task): QueuedTask => ({ task, delivery: id, ...(trace !== null && { trace }) });
    const jobs = tasks.map((task) => ({ payload: payload(task), ...jobOf(project, task) }));
    const params = [id, JSON.stringify(jobs), taskName(project)];
    const until = Date.now() + patience;
    for (;;) {
      try {
        const [row] = await database.query<{ fresh: number }>(sql, params);
        return row?.fresh === 1;
      } catch (error) {
        if (!(error instanceof UpstreamError && error.retryable) || Date.now() > until) throw error;
        await wait(100);
      }
    }
  };
  return (id, tasks) => tracing.run('queue add', { kind: 'producer' }, () => take(id, tasks));
}
