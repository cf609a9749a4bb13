import { parentPort } from 'node:worker_threads';
import { extractFiles } from './extract.ts';
import { packFiles } from './pack.ts';
import type { Job } from './pool.ts';

// A thread of the pool: synchronous file system calls, which would hold up the main thread.
parentPort?.on('message', (job: Job) => {
  const result = job.kind === 'pack' ? packFiles(job.root, job.files) : extractFiles(job.job);
  parentPort?.postMessage(result, result.kind === 'packed' ? [result.bytes.buffer as ArrayBuffer] : []);
});
