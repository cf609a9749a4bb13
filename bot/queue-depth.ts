import type { Database } from '../src/index.ts';
import type { BotMetrics } from './metrics.ts';
import { taskName } from './work.ts';

/** States of tasks, as `cdl bot queue` names them. */
export const queueStates = ['waiting', 'running', 'failed', 'dead'] as const;

/** One of {@link queueStates}. */
export type QueueState = (typeof queueStates)[number];

/** How many tasks are in a state, and for how many seconds the oldest is. */
export interface Depth {
  tasks: number;
  /** Waiting: since it was due. Running: since it began. Failed: since it was queued. 0 where nobody noted it (dead). */
  oldest: number;
}

/** The queue of some projects by state, with one statement; every state is there. Throws UpstreamError. */
export async function readDepths(
  database: Database,
  projects: readonly string[],
): Promise<Record<QueueState, Depth>> {
  const rows = await database.query<{ state: QueueState; tasks: number; oldest: number }>(
    `with jobs as (
       select case when locked_at is not null then 'running' when attempts >= max_attempts then 'dead'
                   when attempts > 0 then 'failed' else 'waiting' end as state,
              case when locked_at is not null then locked_at when attempts > 0 then created_at else run_at end as since
         from graphile_worker.jobs where key is not null and task_identifier = any($1)
       union all
       select 'dead', now() from bot_cursors where name like 'failed/%' and value <> '' and project = any($2))
     select state, count(*) as tasks, greatest(0, extract(epoch from now() - min(since)))::float8 as oldest
       from jobs group by state`,
    [projects.map(taskName), [...projects]],
  );
  const depths = Object.fromEntries(queueStates.map((state) => [state, { tasks: 0, oldest: 0 }])) as Record<
    QueueState,
    Depth
  >;
  for (const { state, tasks, oldest } of rows) depths[state] = { tasks, oldest };
  return depths;
}

/** Looks at the queue whenever the metrics are asked for; without a database they say nothing of it. */
export async function measureQueue(
  metrics: Pick<BotMetrics, 'queueTasks' | 'queueOldest'>,
  database: Database,
  projects: readonly string[],
): Promise<void> {
  const depths = await readDepths(database, projects).catch(() => null);
  if (depths === null) {
    metrics.queueTasks.reset();
    metrics.queueOldest.reset();
    return;
  }
  for (const state of queueStates) {
    metrics.queueTasks.set({ state }, depths[state].tasks);
    metrics.queueOldest.set({ state }, depths[state].oldest);
  }
}
