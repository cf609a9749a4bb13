import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { UpstreamError } from '../../core/error.ts';
import { openCoordinator } from './client.ts';
import { detectHiding } from './hide.ts';
import { runJob } from './job.ts';

/** How a runner is set up. */
export interface RunnerOptions {
  /** The forge, without `/api/v4`. */
  url: string;
  token: string;
  concurrency: number;
  builds: string;
  /** PATH of the jobs. */
  systemPath: string;
  /** A folder put before everything in PATH, such as the one holding `cdl`; null = none. */
  path: string | null;
  /** Folders that its jobs find empty, where the system can do that. */
  hide?: readonly string[];
  /** Milliseconds between SIGTERM and SIGKILL; 5000 unless given. */
  graceMs?: number;
  log?: (line: string) => void;
}

/** A working runner. */
export interface Runner {
  /** Resolves when the runner was stopped; rejects (UpstreamError) when the forge refuses it for good. */
  done: Promise<void>;
  /** Whether the folders of `hide` are hidden. */
  hides: boolean;
  /** Takes no more jobs, ends running ones and waits until they are reported. */
  stop(): Promise<void>;
}

/** Starts a shell runner: clones, runs, uploads; `concurrency` jobs at a time. Jobs have the rights of this process's user. */
export async function startRunner(options: RunnerOptions): Promise<Runner> {
  const path =
    options.path === null ? options.systemPath : `${options.path}${delimiter}${options.systemPath}`;
  const bash = await findProgram('bash', options.systemPath);
  const hiding = options.hide ? await detectHiding(options.hide, options.systemPath) : null;
  const place = {
    client: openCoordinator(options.url, options.token),
    builds: options.builds,
    path,
    shell: bash === null ? { program: '/bin/sh', pipefail: false } : { program: bash, pipefail: true },
    prefix: hiding ?? [],
    graceMs: options.graceMs ?? 5000,
  };
  const stopping = new AbortController();
  const log = options.log ?? (() => {});

  const work = async (): Promise<void> => {
    let pause = 100;
    while (!stopping.signal.aborted) {
      try {
        const job = await place.client.requestJob(stopping.signal);
        pause = 100;
        if (job === null) continue;
        log(`job ${job.id} ${job.job_info.name}: started`);
        await runJob(place, job, stopping.signal);
        log(`job ${job.id} ${job.job_info.name}: done`);
      } catch (error) {
        if (stopping.signal.aborted) break;
        if (error instanceof UpstreamError && !error.retryable) throw error;
        log(error instanceof Error ? error.message : String(error));
        await sleep(pause, null, { signal: stopping.signal }).catch(() => {});
        pause = Math.min(pause * 2, 5000);
      }
    }
  };

  const workers = Array.from({ length: options.concurrency }, work);
  // One worker that is refused ends the others too.
  const done = Promise.all(workers.map((worker) => worker.finally(() => stopping.abort()))).then(() => {});
  done.catch(() => {});
  return {
    done,
    hides: hiding !== null,
    async stop() {
      stopping.abort();
      await Promise.allSettled(workers);
    },
  };
}

async function findProgram(name: string, path: string): Promise<string | null> {
  for (const folder of path.split(delimiter)) {
    const file = join(folder, name);
    const found = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (folder !== '' && found) return file;
  }
  return null;
}
