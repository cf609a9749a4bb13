import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import type { Runner, TaskList, WorkerEvents } from 'graphile-worker';
import type { Database } from './types.ts';
import { openWorkerLease, type WorkerLease } from './worker-lease.ts';

/** Does one job. Throwing puts it back for later; a job may be done twice (a killed process, a lost connection). */
export type JobHandler = (payload: unknown, signal: AbortSignal) => Promise<void>;

/** How a job waits. */
export interface JobOptions {
  /** Jobs with the same name run one after the other. */
  queue?: string;
  /** A waiting job with this key is replaced instead of a second one added. */
  key?: string;
  runAt?: Date;
  /** Tries before the job counts as dead; 25 unless told, which with the growing pauses is about three days. */
  attempts?: number;
}

/** A job that failed as often as it may. */
export interface DeadJob {
  id: string;
  task: string;
  attempts: number;
  error: string;
}

/** A durable queue in the database. Jobs that were added are done even if every process is killed in between. */
export interface Queue {
  add(task: string, payload: unknown, options?: JobOptions): Promise<void>;
  /** Does jobs until {@link stop}, to whose end the promise lasts; begins anew when the database was away. */
  run(): Promise<void>;
  /** Whether jobs are taken now: not before {@link run}, not while the database is away, not after {@link stop}. */
  isRunning(): boolean;
  /** Takes no more jobs and waits for those under way (after 5 s their signal is aborted). */
  stop(): Promise<void>;
  deadJobs(): Promise<DeadJob[]>;
  /** Gives a dead or waiting job all its tries again, from now. */
  retry(id: string): Promise<void>;
}

/** What does the jobs: graphile-worker's runner, how it ended (undefined, or the error), and the sign that it lives. */
interface Worker {
  runner: Runner;
  ended: Promise<unknown>;
  lease: WorkerLease;
}

/** Makes the queue's tables, or brings them up to date. */
export async function installQueue(database: Database): Promise<void> {
  const { Logger, makeWorkerUtils } = await import('graphile-worker');
  const utils = await makeWorkerUtils({ pgPool: database.pool, logger: new Logger(() => () => undefined) });
  try {
    await utils.migrate();
  } finally {
    await utils.release();
  }
}

/**
 * Opens the queue (graphile-worker, tables in the schema `graphile_worker`). A failed job is tried again after
 * exp(min(10, tries)) seconds; one whose process was killed as soon as another process runs the queue, within seconds.
 */
export async function openQueue(
  database: Database,
  handlers: Readonly<Record<string, JobHandler>>,
  options: { concurrency: number; onFailure?: (task: string, error: unknown) => void },
): Promise<Queue> {
  const { Logger, makeWorkerUtils, run } = await import('graphile-worker');
  const logger = new Logger(() => () => undefined);
  const shared = { pgPool: database.pool, logger };
  const utils = await makeWorkerUtils(shared);
  await utils.migrate();
  // A job whose key was given to another while it ran loses its key and its tries: failing then, it only takes up room.
  await database.query(
    `select graphile_worker.complete_jobs(array_agg(id)) from graphile_worker.jobs
      where key is null and attempts >= max_attempts and locked_at is null having count(*) > 0`,
  );
  let running: Promise<void> | null = null;
  let current: Promise<Worker> | null = null;
  let stopped = false;
  let working = false;

  const taskList: TaskList = Object.fromEntries(
    Object.entries(handlers).map(([task, handle]) => [
      task,
      async (payload, { abortSignal }) => {
        await handle(payload, abortSignal ?? new AbortController().signal);
      },
    ]),
  );

  async function start(): Promise<Worker> {
    const events: WorkerEvents = new EventEmitter();
    const names = new Set<string>();
    // Others take the jobs of a worker without a lease for those of a dead one: none is taken before it is there.
    let allow = () => {};
    let refuse = (_error: unknown) => {};
    const leased = new Promise<null>((resolve, reject) => {
      allow = () => resolve(null);
      refuse = reject;
    });
    leased.catch(() => undefined);
    // Jobs are locked in the name of the pool.
    events.on('pool:create', ({ workerPool }) => names.add(workerPool.id));
    events.on('job:error', ({ job, error }) => options.onFailure?.(job.task_identifier, error));
    const runner = await run({
      ...shared,
      events,
      taskList,
      concurrency: options.concurrency,
      noHandleSignals: true,
      // Workers that look at one serial queue at the same moment turn each other away until they look again.
      pollInterval: 200,
      crontab: '',
      forbiddenFlags: () => leased,
      // Unbatched, the end of a job is written without anybody waiting for it: stop() would return before, and a lost
      // connection would end the process with an unhandled rejection.
      preset: { worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
    });
    const ended = runner.promise.catch((error: unknown) => error);
    try {
      const lease = await openWorkerLease(database, names, (gone) => utils.forceUnlockWorkers(gone));
      allow();
      return { runner, lease, ended };
    } catch (error) {
      refuse(error);
      // Who waits to take jobs hears of it first, and then stops as one that would ask again later.
      await wait(0);
      await runner.stop();
      throw error;
    }
  }

  async function work(): Promise<void> {
    while (!stopped) {
      try {
        current = start();
        const worker = await current;
        working = true;
        const error = await worker.ended;
        working = false;
        await worker.lease.close();
        if (error !== undefined) throw error;
      } catch (error) {
        if (stopped) return;
        options.onFailure?.('the queue itself', error);
        await wait(1000);
      }
    }
  }

  return {
    async add(task, payload, { queue, key, runAt, attempts } = {}) {
      await utils.addJob(task, payload, {
        ...(queue !== undefined && { queueName: queue }),
        jobKey: key ?? randomUUID(),
        ...(runAt && { runAt }),
        ...(attempts !== undefined && { maxAttempts: attempts }),
      });
    },

    run() {
      running ??= work();
      return running;
    },

    isRunning: () => working && !stopped,

    async stop() {
      stopped = true;
      const worker = await current?.catch(() => null);
      // It rejects when it already ended, which is what is wanted.
      await worker?.runner.stop().catch(() => undefined);
      await running;
      await utils.release();
    },

    deadJobs: () =>
      database.query<DeadJob>(
        `select id::text, task_identifier as task, attempts, coalesce(last_error, '') as error
           from graphile_worker.jobs
          where attempts >= max_attempts and locked_at is null and key is not null order by jobs.id`,
      ),

    async retry(id) {
      await database.query(
        `select 1 from graphile_worker.reschedule_jobs(array[$1::bigint], run_at := now(), attempts := 0)`,
        [id],
      );
    },
  };
}
