import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, constants, existsSync, openSync, writeSync } from 'node:fs';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { execa } from 'execa';
import { z } from 'zod';
import { UpstreamError, UserError } from '../core/error.ts';
import { withFolderLock } from '../exec/folder-lock.ts';
import { isProcessAlive, ownerName } from '../exec/owner.ts';
import { packageRoot } from '../exec/root.ts';
import { prepareBinaries } from './binaries.ts';
import { endLeftover, initialise, isPostgres, startPostmaster, superuser } from './cluster.ts';
import { type Place, preparePlace, prepareSocketFolder, socketFolder } from './place.ts';
import type { Server } from './postgres.ts';

/** The running server, as its clients find it: its process, the watcher's, and the pipe that says who uses it. */
const stateSchema = z.object({ pid: z.int(), watcher: z.int(), pipe: z.string() });
type State = z.infer<typeof stateSchema>;

/**
 * Joins the PostgreSQL of a folder, and starts it when nobody else did. It is reached through a socket in a folder that only
 * its user may enter, never through the network, and stops when its last client is gone, be it by `kill -9` (watch.sh).
 * In `<home>` (see preparePlace): `data/` the cluster, `run/` socket, pipe and state, `log`. For one machine: two containers
 * must not share it. Throws UserError database-unavailable, database-mismatch; UpstreamError.
 */
export async function joinEmbedded(folder: string): Promise<Server> {
  const place = await withAccess(folder, () => preparePlace(folder));
  let membership: { state: State; fd: number } | null = null;
  let reviving: Promise<void> | null = null;

  async function enter(): Promise<void> {
    const before = membership;
    membership = await withFolderLock(join(place.home, 'lock'), async () => {
      const running = await readState(place);
      const fd = running && (await attach(running));
      if (running && fd !== null) return { state: running, fd };
      const state = await restart(place);
      const started = await attach(state);
      if (started === null)
        throw new UpstreamError('database', 'the watcher did not answer', { retryable: true });
      return { state, fd: started };
    });
    if (before) closeSync(before.fd);
  }

  await withAccess(folder, enter);
  return {
    url: `postgresql://${superuser}@${encodeURIComponent(socketFolder(place))}/postgres`,
    async revive() {
      reviving ??= enter().finally(() => {
        reviving = null;
      });
      await reviving;
    },
    async release() {
      await reviving?.catch(() => undefined);
      if (membership) closeSync(membership.fd);
      membership = null;
    },
  };
}

/** Registers with the server's watcher. Null when there is none, or it is about to end the server. */
async function attach(state: State): Promise<number | null> {
  if (!isPostgres(state.pid)) return null;
  const fd = await openPipe(state);
  if (fd === null) return null;
  const name = ownerName();
  const acknowledged = `${state.pipe}.${name}`;
  try {
    writeSync(fd, `${name}\n`);
    while (isProcessAlive(state.watcher)) {
      if (existsSync(acknowledged)) {
        await rm(acknowledged);
        return fd;
      }
      await wait(2);
    }
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EPIPE')) throw error;
  }
  closeSync(fd);
  return null;
}

/** Under the lock: ends what is left of an earlier server, and starts a new one. */
async function restart(place: Place): Promise<State> {
  await endLeftover(place);
  const binaries = await prepareBinaries(place);
  await initialise(place, binaries);
  const socket = await prepareSocketFolder(place);
  const pid = await startPostmaster(place, binaries, socket);
  const pipe = join(place.home, 'run', `clients-${randomBytes(6).toString('hex')}`);
  const run = { ...(place.user ?? {}), cwd: place.home };
  await execa('mkfifo', ['-m', '600', pipe], run);
  const script = join(packageRoot(), 'src/db/watch.sh');
  // Read by us and passed as text: the server's user may be unable to reach the package.
  const text = await readFile(script, 'utf8');
  const watcher = spawn('/bin/sh', ['-c', text, 'watch.sh', pipe, String(pid), join(place.home, 'data')], {
    ...run,
    detached: true,
    stdio: 'ignore',
  });
  watcher.unref();
  await new Promise((resolve, reject) => watcher.once('spawn', resolve).once('error', reject));
  const state: State = { pid, watcher: watcher.pid ?? 0, pipe };
  const file = join(place.home, 'state.json');
  await writeFile(`${file}.new`, JSON.stringify(state));
  await rename(`${file}.new`, file);
  return state;
}

/** Opens the pipe for writing. A watcher that was just started may not have opened its end yet; a gone one never will. */
async function openPipe(state: State): Promise<number | null> {
  for (;;) {
    try {
      return openSync(state.pipe, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch (error) {
      const isEarly = error instanceof Error && 'code' in error && error.code === 'ENXIO';
      if (!isEarly || !isProcessAlive(state.watcher)) return null;
      await wait(2);
    }
  }
}

async function readState(place: Place): Promise<State | null> {
  try {
    return stateSchema.parse(JSON.parse(await readFile(join(place.home, 'state.json'), 'utf8')));
  } catch {
    // Absent, or from another version: a server that may still run is found by its own pid file.
    return null;
  }
}

/** Says what is wrong with the folder, when it is. */
async function withAccess<T>(folder: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (!['EACCES', 'EPERM', 'EROFS', 'ENOTDIR'].includes(code)) throw error;
    throw new UserError(
      'database-unavailable',
      `the database folder ${folder}: ${String(error)}`,
      'use a folder of your own (another user may have made this one), or name a server with CDL_DATABASE',
      { cause: error },
    );
  }
}
