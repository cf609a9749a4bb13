import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { catalogue, type ErrorCode, UserError } from '../core/error.ts';

/** A message that every process running model code may end with. */
export interface ChildError {
  kind: 'error';
  code: string;
  message: string;
  hint: string;
}

/**
 * Starts one of our programs that run model code and yields its messages, one JSON document a line on file descriptor 3.
 * It gets `environment` and the job's file, nothing else. A SIGTERM lets it tidy up first. Throws the UserError it reports,
 * or `failure` when it was killed.
 */
export async function* followChild<M extends { kind: string }>(
  program: string,
  job: object,
  place: { folder: string; environment: Record<string, string>; signal: AbortSignal },
  failure: UserError,
): AsyncGenerator<Exclude<M, ChildError>> {
  const { folder, environment, signal } = place;
  const file = join(folder, 'job.json');
  await writeFile(file, JSON.stringify(job));
  const child = spawn(process.execPath, [program, file], {
    cwd: folder,
    env: { ...environment, HOME: folder },
    // What model code prints must not mix with the result on stdout.
    stdio: ['ignore', 2, 2, 'pipe'],
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code));
  });
  const stop = () => child.kill('SIGTERM');
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop, { once: true });
  try {
    for await (const line of createInterface({ input: child.stdio[3] as Readable })) {
      const message = JSON.parse(line) as M | ChildError;
      if (message.kind === 'error') {
        const { code, message: text, hint } = message as ChildError;
        const known = Object.hasOwn(catalogue, code);
        throw new UserError(known ? (code as ErrorCode) : 'code-invalid', text, hint || undefined);
      }
      yield message as Exclude<M, ChildError>;
    }
    if ((await ended) === null) throw failure;
  } finally {
    signal.removeEventListener('abort', stop);
    if (child.exitCode === null) child.kill('SIGKILL');
  }
}
