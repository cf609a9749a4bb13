import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import type { Trace } from './trace.ts';

/** How a script ended. `stopped` says that we ended it. */
export interface ScriptResult {
  exitCode: number | null;
  stopped: 'timeout' | 'canceled' | null;
}

/** What a script needs. */
export interface ScriptOptions {
  shell: { program: string; pipefail: boolean };
  /** Words before the shell's own. */
  prefix: readonly string[];
  /** Where the script is written; an argument could be too long. */
  file: string;
  cwd: string;
  env: Record<string, string>;
  timeoutMs: number;
  /** Between SIGTERM and SIGKILL. */
  graceMs: number;
  signal: AbortSignal;
  trace: Trace;
}

/** Shell text that shows each command and runs it, stopping at the first that fails, as GitLab's runner writes it (shells/bash.go). */
export function renderScript(commands: readonly string[], pipefail: boolean): string {
  const quote = (text: string): string => `'${text.replace(/'/g, `'\\''`)}'`;
  const shown = commands.map((command) => {
    const [first = '', ...rest] = command.split('\n').filter((line) => line.trim() !== '');
    const note = rest.length > 0 ? ' # collapsed multi-line command' : '';
    return `printf '\\033[32;1m$ %s\\033[0;m\\n' ${quote(first + note)}\n${command}`;
  });
  return [pipefail ? 'set -eo pipefail' : 'set -e', ...shown, ''].join('\n');
}

/**
 * Runs commands in one shell, in its own process group, with nothing on its input. What the group leaves running is ended with
 * it; a process that made its own session goes on.
 */
export async function runScript(commands: readonly string[], options: ScriptOptions): Promise<ScriptResult> {
  const { shell, prefix, file, cwd, env, trace, signal } = options;
  await writeFile(file, renderScript(commands, shell.pipefail));
  const words = [...prefix, shell.program, file];
  const child = spawn(words[0]!, words.slice(1), {
    cwd,
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.on('data', (chunk: Buffer) => trace.write(chunk));
  child.stderr.on('data', (chunk: Buffer) => trace.write(chunk));
  let stopped: ScriptResult['stopped'] = null;
  let killer: NodeJS.Timeout | null = null;
  const kill = (name: NodeJS.Signals): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, name);
    } catch {
      // The group is gone already.
    }
  };
  const stop = (reason: 'timeout' | 'canceled'): void => {
    if (stopped !== null) return;
    stopped = reason;
    kill('SIGTERM');
    killer = setTimeout(() => kill('SIGKILL'), options.graceMs);
  };
  const onAbort = (): void => stop('canceled');
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  const timer = setTimeout(() => stop('timeout'), options.timeoutMs);
  try {
    const closed = once(child, 'close');
    const [exitCode] = (await once(child, 'exit')) as [number | null];
    kill('SIGKILL');
    // A process with its own session may hold the pipes open for ever.
    await Promise.race([closed, new Promise((done) => setTimeout(done, 200))]);
    return { exitCode, stopped };
  } finally {
    clearTimeout(timer);
    if (killer !== null) clearTimeout(killer);
    signal.removeEventListener('abort', onAbort);
    child.stdout.destroy();
    child.stderr.destroy();
  }
}
