import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { chown, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { execa } from 'execa';
import { UpstreamError, UserError } from '../core/error.ts';
import { isProcessAlive } from '../exec/owner.ts';
import type { Binaries } from './binaries.ts';
import type { Place } from './place.ts';

/** The one role of an embedded cluster. */
export const superuser = 'cdl';

/** Line numbers, from 0, of postmaster.pid (PostgreSQL source, src/include/utils/pidfile.h). */
const line = { pid: 0, status: 7 };

/**
 * Makes the cluster in `<home>/data` when there is none. Only its socket is ever listened on, in a folder of its user's
 * alone, so connections need no password. Throws UserError database-mismatch for the data of another major version.
 */
export async function initialise(place: Place, { initdb, postgres, env }: Binaries): Promise<void> {
  const data = join(place.home, 'data');
  const made = await readFile(join(data, 'PG_VERSION'), 'utf8').catch(() => null);
  const run = { ...(place.user ?? {}), env, extendEnv: false, cwd: place.home };
  if (made === null) {
    // Made under another name, so that one that was interrupted is never taken for a cluster.
    const fresh = join(place.home, 'data.new');
    await rm(fresh, { recursive: true, force: true });
    const args = [
      '-D',
      fresh,
      '-U',
      superuser,
      '-E',
      'UTF8',
      '--auth=trust',
      '--no-sync',
      '--no-instructions',
    ];
    const locale = ['--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'];
    const result = await execa(initdb, [...args, ...locale], { ...run, reject: false });
    if (result.failed) {
      throw new UserError('database-unavailable', `initdb failed in ${fresh}: ${result.stderr}`);
    }
    await rename(fresh, data);
    return;
  }
  const { stdout } = await execa(postgres, ['--version'], run);
  if (!stdout.includes(` ${made.trim()}.`)) {
    throw new UserError(
      'database-mismatch',
      `${data} is of PostgreSQL ${made.trim()}, this is ${stdout}`,
      'back it up with the version of cdl that made it (cdl db backup), remove it, and restore',
    );
  }
}

/** Starts the server as a process of its own and waits until it takes connections; returns its id. */
export async function startPostmaster(
  place: Place,
  { postgres, env }: Binaries,
  socket: string,
): Promise<number> {
  const data = join(place.home, 'data');
  const log = join(place.home, 'log');
  const settings = {
    listen_addresses: '',
    unix_socket_directories: socket,
    unix_socket_permissions: '0700',
    max_connections: '100',
    shared_buffers: '32MB',
    huge_pages: 'off',
    jit: 'off',
    log_timezone: 'UTC',
    timezone: 'UTC',
  };
  const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  for (const until = Date.now() + 15_000; ; await wait(100)) {
    const output = await open(log, 'w', 0o600);
    try {
      if (place.user) await chown(log, place.user.uid, place.user.gid);
      const server = spawn(postgres, ['-D', data, ...args], {
        ...(place.user ?? {}),
        env,
        cwd: place.home,
        detached: true,
        stdio: ['ignore', output.fd, output.fd],
      });
      server.unref();
      await new Promise((resolve, reject) => server.once('spawn', resolve).once('error', reject));
      while (server.exitCode === null && server.signalCode === null) {
        const file = await readPidFile(place);
        if (file?.[line.pid] === String(server.pid) && file[line.status]?.trim() === 'ready') {
          return server.pid ?? 0;
        }
        await wait(5);
      }
    } finally {
      await output.close();
    }
    const said = (await readFile(log, 'utf8')).trim();
    // After a kill -9 of the server its workers take a moment to notice.
    if (/pre-existing shared memory block/.test(said) && Date.now() < until) continue;
    throw new UpstreamError('database', `PostgreSQL did not start: ${said.slice(-2000)}`, {
      retryable: false,
    });
  }
}

/** Ends a server that nobody watches any more, or waits until one that is stopping is gone. */
export async function endLeftover(place: Place): Promise<void> {
  const pid = Number((await readPidFile(place))?.[line.pid]);
  if (!Number.isInteger(pid) || pid <= 0) return;
  for (let waited = 0; isPostgres(pid); waited += 10) {
    // SIGINT: fast shutdown; it may have had it already, and a second one is no harm. SIGQUIT: without a checkpoint.
    if (waited % 5000 === 0) signal(pid, waited < 10_000 ? 'SIGINT' : 'SIGQUIT');
    await wait(10);
  }
}

/** Whether a process runs under this id and is a PostgreSQL server. */
export function isPostgres(pid: number): boolean {
  if (!isProcessAlive(pid)) return false;
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('postgres');
  } catch {
    // No /proc here, or it ended meanwhile.
    return isProcessAlive(pid);
  }
}

async function readPidFile(place: Place): Promise<string[] | null> {
  const text = await readFile(join(place.home, 'data/postmaster.pid'), 'utf8').catch(() => null);
  return text?.split('\n') ?? null;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
