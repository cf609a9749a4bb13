import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { chmod, chown, lchown, lstat, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { UserError } from '../core/error.ts';

/** As whom the server runs, when not as ourselves. */
export interface ServerUser {
  uid: number;
  gid: number;
}

/** Where an embedded server has its files, and as whom it runs. */
export interface Place {
  home: string;
  user: ServerUser | null;
}

/** Where root keeps what an unprivileged server must reach. */
const systemFolder = '/var/lib/cdl';

/**
 * Where the server of a folder lives: `postgres` in it, mode 0700. PostgreSQL refuses to run as root; then it runs as the
 * folder's owner, or as `nobody` when that is root too. Where that user cannot get to the folder (below a 0700 /root, say)
 * the files are in `/var/lib/cdl/<hash of the folder's path>` instead, and `moved-to` in the folder says so.
 */
export async function preparePlace(folder: string): Promise<Place> {
  const root = resolve(folder);
  await mkdir(root, { recursive: true });
  const user = process.getuid?.() === 0 ? await userFor(root) : null;
  let home = join(root, 'postgres');
  if (user && !(await canReach(root, user))) {
    await mkdir(systemFolder, { recursive: true });
    await chmod(systemFolder, 0o755);
    home = join(systemFolder, createHash('sha256').update(root).digest('hex').slice(0, 16));
    await writeFile(join(root, 'moved-to'), `${home}\n`);
    await sweep();
    await mkdir(home, { recursive: true });
    await writeFile(join(home, 'moved-from'), `${root}\n`);
  }
  await mkdir(join(home, 'run'), { recursive: true });
  for (const path of [home, join(home, 'run')]) {
    if (user) await chown(path, user.uid, user.gid);
    await chmod(path, 0o700);
  }
  return { home, user };
}

/**
 * Removes what was moved here for folders that are gone: a killed program could not. What another program removes at this
 * moment, or its server still writes to, is left to the next sweep.
 */
async function sweep(): Promise<void> {
  for (const name of await readdir(systemFolder)) {
    const home = join(systemFolder, name);
    const root = await readFile(join(home, 'moved-from'), 'utf8').catch(() => null);
    if (root === null || (await stat(root.trim()).catch(() => null))) continue;
    await rm(home, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** sockaddr_un holds 104 bytes on macOS and 108 on Linux; what PostgreSQL appends is 14. */
const longestSocketFolder = 88;

/** The folder of the server's socket: `run` in its home, or, where that path is too long for one, a private one in /tmp. */
export function socketFolder(place: Place): string {
  const folder = join(place.home, 'run');
  if (Buffer.byteLength(folder) <= longestSocketFolder) return folder;
  return `/tmp/cdl-${createHash('sha256').update(place.home).digest('hex').slice(0, 16)}`;
}

/** Makes {@link socketFolder} and makes sure that it is the server user's alone: /tmp is everybody's. */
export async function prepareSocketFolder(place: Place): Promise<string> {
  const folder = socketFolder(place);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if (place.user) await lchown(folder, place.user.uid, place.user.gid);
  const found = await lstat(folder);
  const uid = place.user?.uid ?? process.getuid?.();
  if (!found.isDirectory() || found.uid !== uid || (found.mode & 0o077) !== 0) {
    throw new UserError('database-unavailable', `${folder} belongs to somebody else`, 'remove it');
  }
  return folder;
}

/** Where root puts a copy of the binaries for a user who cannot reach the installed ones. */
export function binariesCopy(version: string): string {
  return join(systemFolder, `postgres-${version}`);
}

async function userFor(folder: string): Promise<ServerUser> {
  const { uid, gid } = await stat(folder);
  if (uid !== 0) return { uid, gid };
  const line = /^nobody:[^:]*:(\d+):(\d+):/m.exec(readFileSync('/etc/passwd', 'utf8'));
  return line ? { uid: Number(line[1]), gid: Number(line[2]) } : { uid: 65534, gid: 65534 };
}

/** Whether a user may pass through every folder on the way (the x bits; access lists are not looked at). */
async function canReach(path: string, user: ServerUser): Promise<boolean> {
  for (let folder = path; ; folder = dirname(folder)) {
    const { mode, uid, gid } = await stat(folder);
    const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}
