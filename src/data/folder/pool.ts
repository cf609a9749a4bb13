import { readFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { type ExtractJob, type ExtractResult, extractFiles } from './extract.ts';
import { type PackFile, type PackResult, packFiles } from './pack.ts';

/** What a thread of the pool is asked for. */
export type Job =
  | { kind: 'pack'; root: string; files: readonly PackFile[]; into: ArrayBuffer | null }
  | { kind: 'extract'; job: ExtractJob };

/** Does a job in the thread that calls it. */
export function doJob(job: Job): PackResult | ExtractResult {
  return job.kind === 'pack' ? packFiles(job.root, job.files, job.into) : extractFiles(job.job);
}

/** Threads that read and write many small files, and this one, which lends a hand while all of them have enough to do. */
export interface FilePool {
  /** How many jobs it is worth having under way. */
  readonly width: number;
  pack(root: string, files: readonly PackFile[]): Promise<PackResult>;
  /** Takes back the bytes of a result, for the next: what is left to the collector is in memory for a while. */
  done(result: PackResult): void;
  extract(job: ExtractJob): Promise<ExtractResult>;
  close(): Promise<void>;
}

/** Below this many files, starting a thread takes longer than it saves. */
const worthwhile = 1500;

/**
 * How many threads gain something: as many as processors are idle, beside the one this thread uses. On two busy processors
 * a thread costs more, in starting and in handing over, than it saves.
 */
function idleProcessors(): number {
  const processors = availableParallelism();
  const busy = Math.min(loadavg()[0] ?? 0, runningNow());
  return Math.max(0, Math.min(8, processors - 1, Math.round(processors - busy)));
}

/** How many other threads run at this moment, where the system says so (proc_loadavg(5)): the load average is of a minute. */
function runningNow(): number {
  try {
    const [, running] = /^(?:\S+ ){3}(\d+)\//.exec(readFileSync('/proc/loadavg', 'latin1')) ?? [];
    return running === undefined ? Infinity : Number(running) - 1;
  } catch {
    return Infinity;
  }
}

async function program(): Promise<string> {
  const { packageRoot } = await import('../../exec/root.ts');
  return join(packageRoot(), 'dist', 'data', 'folder-worker.js');
}

/** A thread with the jobs it was given and has not answered, in their order. */
interface Thread {
  worker: Promise<Worker>;
  waiting: { resolve(result: PackResult | ExtractResult): void; reject(error: unknown): void }[];
  /** Why it answers no more. */
  gone: Error | null;
}

function startThread(): Thread {
  const fail = (error: Error) => {
    thread.gone ??= error;
    for (const one of thread.waiting.splice(0)) one.reject(thread.gone);
  };
  const start = async () => {
    const { Worker } = await import('node:worker_threads');
    return new Worker(await program())
      .on('message', (result: PackResult | ExtractResult) => thread.waiting.shift()?.resolve(result))
      .on('error', fail)
      .on('exit', () => fail(new Error('a thread that reads files ended early')));
  };
  const thread: Thread = { worker: start(), waiting: [], gone: null };
  thread.worker.catch(fail);
  return thread;
}

async function ask(thread: Thread, job: Job): Promise<PackResult | ExtractResult> {
  if (thread.gone) throw thread.gone;
  const answer = new Promise<PackResult | ExtractResult>((resolve, reject) => {
    thread.waiting.push({ resolve, reject });
  });
  answer.catch(() => {});
  const moved = job.kind === 'pack' && job.into ? [job.into] : [];
  (await thread.worker).postMessage(job, moved);
  return answer;
}

/** Opens a pool; threads start when there is work for them, at most `threads`. Jobs come back in any order. */
export function openFilePool(threads: number = idleProcessors()): FilePool {
  const all: Thread[] = [];
  const spare: ArrayBuffer[] = [];
  let files = 0;

  /** The thread that is to do a job; null when all have one, and one of them the next, too. */
  function take(): Thread | null {
    const free = all.find(({ waiting }) => waiting.length === 0);
    if (free) return free;
    if (all.length < threads) return all[all.push(startThread()) - 1]!;
    const jobs = all.reduce((sum, { waiting }) => sum + waiting.length, 0);
    return jobs > threads ? null : all[0]!;
  }

  async function run(job: Job, count: number): Promise<PackResult | ExtractResult> {
    files += count;
    const thread = threads === 0 || files < worthwhile ? undefined : take();
    if (thread) return ask(thread, job);
    // What the threads have done meanwhile is taken in first, so that they get their next jobs.
    if (thread === null) await new Promise((resolve) => setImmediate(resolve));
    return doJob(job);
  }

  const width = threads === 0 ? 1 : threads + 2;
  return {
    width,
    pack: (root, wanted) =>
      run(
        { kind: 'pack', root, files: wanted, into: spare.pop() ?? null },
        wanted.length,
      ) as Promise<PackResult>,
    done(result) {
      if (result.kind === 'packed' && spare.length < width) spare.push(result.bytes.buffer as ArrayBuffer);
    },
    extract: (job) => run({ kind: 'extract', job }, job.files.length) as Promise<ExtractResult>,
    async close() {
      await Promise.all(all.map(async ({ worker }) => (await worker).terminate()));
    },
  };
}
