import { spawn } from 'node:child_process';

/** How to start a child process. `env` replaces the environment when given. */
export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  input?: string | Uint8Array;
  /** Ends the child with SIGTERM when aborted. */
  signal?: AbortSignal;
}

/** What a child process left behind. `code` is null when a signal ended it. */
export interface RunResult {
  stdout: Buffer;
  stderr: Buffer;
  code: number | null;
}

/** Runs a program without a shell and collects its output. Throws only when it cannot be started or is aborted, not for its exit code. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env,
      signal: options.signal,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.on('error', reject);
    child.on('close', (code) =>
      resolve({ stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr), code }),
    );
    // A child may end without reading everything; that shows in its exit code, not as a broken pipe here.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input);
  });
}
