import { readFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { type ExtractJob, type ExtractResult, extractFiles } from './extract.ts';
import { type PackFile, type PackResult, packFiles } from './pack.ts';

/** What a thread of the pool is asked for. */
export type Job =
  | { kind: 'pack'; root: string; files: readonly PackFile[] }
  | { kind: 'extract'; job: ExtractJob };

/** Threads that read and write many small files. */
export interface FilePool {
  /** How many jobs it is worth having under way. */
  readonly width: number;
  pack(root: string, files: readonly PackFile[]): Promise<PackResult>;
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

/** Opens a pool; threads start when there is work for them, at most `threads`. Jobs come back in any order. */
export function openFilePool(threads: number = idleProcessors()): FilePool {
  const idle: Worker[] = [];
  const all: Worker[] = [];
  const waiting: ((worker: Worker) => void)[] = [];
  let started = 0;
  let files = 0;

  async function take(): Promise<Worker> {
    const free = idle.pop();
    if (free) return free;
    if (started < threads) {
      started += 1;
      const worker = new Worker(await program());
      all.push(worker);
      return worker;
    }
    return new Promise((resolve) => waiting.push(resolve));
  }

  async function run(job: Job): Promise<PackResult | ExtractResult> {
    const worker = await take();
    try {
      return await new Promise((resolve, reject) => {
        const done = () => worker.off('message', onMessage).off('error', onError).off('exit', onExit);
        const onMessage = (result: PackResult | ExtractResult) => {
          done();
          resolve(result);
        };
        const onError = (error: Error) => {
          done();
          reject(error);
        };
        const onExit = () => onError(new Error('a thread that reads files ended early'));
        worker.on('message', onMessage).on('error', onError).on('exit', onExit);
        worker.postMessage(job);
      });
    } finally {
      const next = waiting.shift();
      if (next) next(worker);
      else idle.push(worker);
    }
  }

  const inline = (count: number): boolean => {
    files += count;
    return threads === 0 || files < worthwhile;
  };

  return {
    width: threads + 1,
    async pack(root, wanted) {
      if (inline(wanted.length)) return packFiles(root, wanted);
      return (await run({ kind: 'pack', root, files: wanted })) as PackResult;
    },
    async extract(job) {
      if (inline(job.files.length)) return extractFiles(job);
      return (await run({ kind: 'extract', job })) as ExtractResult;
    },
    async close() {
      await Promise.all(all.map((worker) => worker.terminate()));
    },
  };
}
