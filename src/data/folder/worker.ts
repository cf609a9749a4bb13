import { parentPort } from 'node:worker_threads';
import { doJob, type Job } from './pool.ts';

// A thread of the pool: synchronous file system calls, which would hold up the main thread.
parentPort?.on('message', (job: Job) => {
  const result = doJob(job);
  const large = result.kind === 'packed' ? result.bytes : result.kind === 'written' ? result.stats : null;
  parentPort?.postMessage(result, large ? [large.buffer as ArrayBuffer] : []);
});
