import type { Queryable } from './types.ts';

/**
 * A task of the queue in a backup: what was asked for, not the rows the queue keeps of it, so that another version of
 * graphile-worker can take it up. A try that was under way when the snapshot was taken did not end, so it does not count.
 */
export const queueColumns = [
  { name: 'task', type: 'text' },
  { name: 'key', type: 'text' },
  { name: 'queue', type: 'text' },
  { name: 'payload', type: 'json' },
  { name: 'priority', type: 'integer' },
  { name: 'run_at', type: 'timestamp with time zone' },
  { name: 'attempts', type: 'integer' },
  { name: 'max_attempts', type: 'integer' },
  { name: 'last_error', type: 'text' },
  { name: 'created_at', type: 'timestamp with time zone' },
] as const;

/**
 * The tasks that are not done, oldest first. One without a key was replaced by another while it ran and can never run
 * again, so it is passed over (see openQueue).
 */
export const queueSelect = `
  select tasks.identifier as task, job.key, queues.queue_name as queue, job.payload, job.priority, job.run_at,
         greatest(job.attempts - (job.locked_at is not null)::int, 0) as attempts, job.max_attempts, job.last_error,
         job.created_at, job.id
    from graphile_worker._private_jobs job
    join graphile_worker._private_tasks tasks on tasks.id = job.task_id
    left join graphile_worker._private_job_queues queues on queues.id = job.job_queue_id
   where job.key is not null`;

/** Queues tasks as they were: `rows` is a JSON array of arrays in the order of {@link queueColumns}. */
export async function addQueueRows(transaction: Queryable, rows: string): Promise<void> {
  // Two statements: what a function has inserted, the statement that called it cannot change.
  await transaction.query(
    `select count(graphile_worker.add_job(identifier => job ->> 0, job_key => job ->> 1, queue_name => job ->> 2,
              payload => (job ->> 3)::json, priority => (job ->> 4)::int, run_at => (job ->> 5)::timestamptz,
              max_attempts => (job ->> 7)::int))
       from (select job from jsonb_array_elements($1::jsonb) with ordinality as one (job, place) order by place) jobs`,
    [rows],
  );
  await transaction.query(
    `update graphile_worker._private_jobs set attempts = (job ->> 6)::int, last_error = job ->> 8,
            created_at = (job ->> 9)::timestamptz
       from jsonb_array_elements($1::jsonb) as one (job) where key = job ->> 1`,
    [rows],
  );
}
