import { type ChildProcess, spawn } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { constants } from 'node:os';

/** A program together with all processes that it starts. */
export interface Group {
  /** How the program ended; rejects when it could not be started. Its children may still run. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** The last of what it wrote to stdout and stderr. */
  tail(): string;
  signal(name: NodeJS.Signals): void;
  /** Kills whatever is left of it, also what became a daemon. */
  clear(): Promise<void>;
}

/** Of what a program wrote, so many characters are kept. */
export const longestTail = 32_000;

/** A variable of the environment with a value that no process has but those of one program. */
export interface Mark {
  name: string;
  value: string;
}

/** How to start a group. */
export interface GroupOptions {
  cwd: string;
  environment: Record<string, string>;
  mark: Mark;
}

/**
 * Starts a program as the leader of a process group of its own (setsid(2)). What it prints goes to our stderr. Should this
 * process be killed, a small one that holds the end of a pipe kills the group.
 */
export function startGroup(command: readonly string[], options: GroupOptions): Group {
  const { cwd, mark } = options;
  const env = { ...options.environment, [mark.name]: mark.value };
  const child = spawn(command[0]!, command.slice(1), {
    cwd,
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      process.stderr.write(chunk);
      log = (log + chunk.toString('utf8')).slice(-longestTail);
    });
  }
  const warden = child.pid === undefined ? null : startWarden(child.pid, mark);
  const signal = (name: NodeJS.Signals) => {
    if (child.pid !== undefined) kill(-child.pid, name);
  };
  return {
    ended: new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (code, name) => {
        // What it wrote last is still on its way; children that hold the pipe must not keep us.
        setTimeout(() => resolve({ code, signal: name }), 50);
        child.on('close', () => resolve({ code, signal: name }));
      });
    }),
    tail: () => log.trim(),
    signal,
    async clear() {
      await clearGroup(child.pid, mark);
      child.stdout.destroy();
      child.stderr.destroy();
      warden?.kill('SIGKILL');
    },
  };
}

/**
 * Waits for the end of a pipe that this process holds, however it comes; signals of the terminal do not reach it. Then it kills
 * the group, and who inherited the mark and has a group of its own (the processes of torchrun).
 */
const wardenScript = `trap '' INT HUP TERM
while read -r _; do :; done
kill -KILL -$1
for process in /proc/[0-9]*; do
  if tr '\\0' '\\n' <"$process/environ" 2>/dev/null | grep -qxF "$2"; then kill -KILL "\${process#/proc/}"; fi
done`;

function startWarden(pid: number, { name, value }: Mark): ChildProcess {
  const warden = spawn('/bin/sh', ['-c', wardenScript, 'sh', String(pid), `${name}=${value}`], {
    env: {},
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  warden.on('error', () => undefined);
  warden.stdin.on('error', () => undefined);
  warden.unref();
  return warden;
}

/**
 * Kills a process group (`leader` is undefined where it could not be started) and who left it, but inherited the mark. Resolves
 * when the signals are sent.
 */
export async function clearGroup(leader: number | undefined, mark: Mark): Promise<void> {
  if (leader !== undefined) kill(-leader, 'SIGKILL');
  for (const pid of await marked(mark)) kill(pid, 'SIGKILL');
}

function kill(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (!['ESRCH', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}

/** Processes that inherited the mark, whatever group they moved to (proc(5), environ); none where there is no /proc. */
async function marked({ name, value }: Mark): Promise<number[]> {
  // A variable begins where the one before ends: another one's name may end like this one's.
  const wanted = Buffer.from(`\0${name}=${value}\0`);
  const found: number[] = [];
  for (const entry of await readdir('/proc').catch(() => [])) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    const environ = await readFile(`/proc/${entry}/environ`).catch(() => null);
    if (environ && Buffer.concat([Buffer.of(0), environ]).includes(wanted)) found.push(Number(entry));
  }
  return found;
}

/** The name of a signal. */
export function signalName(number: number): NodeJS.Signals {
  const found = Object.entries(constants.signals).find(([, value]) => value === number);
  return (found?.[0] ?? `signal ${number}`) as NodeJS.Signals;
}
