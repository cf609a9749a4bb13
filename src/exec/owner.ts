import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** How long what another machine holds is believed to be alive, in milliseconds: its processes cannot be looked up here. */
const foreignLease = 60_000;

/**
 * A name that no other process ever uses, from which any process can tell whether its maker still lives:
 * `machine-pid-start-random`. Safe as a file name.
 */
export function ownerName(): string {
  return [machine(), process.pid, startOf(process.pid) ?? 0, randomBytes(6).toString('hex')].join('-');
}

/**
 * Whether the process that made this {@link ownerName} is gone. A process id that was given out again counts as gone
 * (its start time differs). On another machine, or in another container, `since` (milliseconds since 1970) decides.
 */
export function isOwnerGone(name: string, since: number): boolean {
  const [where, pid, start] = name.split('-');
  if (where !== machine()) return Date.now() - since > foreignLease;
  const now = startOf(Number(pid));
  return now === null || String(now) !== start;
}

/** Whether a process runs here under this id; one that only waits to be reaped by its parent does not. */
export function isProcessAlive(pid: number): boolean {
  return startOf(pid) !== null;
}

/** One value per running kernel and process-id namespace. */
function machine(): string {
  const parts = [
    hostname(),
    quietly(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')),
    quietly(() => readlinkSync('/proc/self/ns/pid')),
  ];
  return createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 12);
}

/** When a process started, in the kernel's ticks (proc(5), stat, field 22); 0 where there is no /proc; null when it is gone. */
function startOf(pid: number): number | null {
  const stat = quietly(() => readFileSync(`/proc/${pid}/stat`, 'utf8'));
  if (stat !== null) {
    // The second field is the program's name in parentheses and may hold spaces.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? null : Number(fields[19]);
  }
  if (quietly(() => readFileSync('/proc/self/stat', 'utf8')) !== null) return null;
  try {
    process.kill(pid, 0);
    return 0;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM' ? 0 : null;
  }
}

function quietly(read: () => string): string | null {
  try {
    return read();
  } catch {
    return null;
  }
}
