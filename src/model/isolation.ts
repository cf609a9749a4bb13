import { existsSync, realpathSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { run } from '../exec/run.ts';

/** What kept foreign code from the network: a namespace of the kernel without any interface, or nothing. */
export type Isolation = 'network namespace' | 'none';

/** How to start a program so that it has no network: words to put before its own, and what they achieve. */
export interface Confinement {
  prefix: string[];
  isolation: Isolation;
}

/** `--pid` hides all other processes, so that they cannot be signalled; `--kill-child` ends the program with its wrapper. */
const namespaces = ['--net', '--pid', '--fork', '--kill-child=SIGKILL'];

/**
 * The strongest confinement this machine allows (util-linux, unshare(1)): as root at once, otherwise through a user
 * namespace; containers and some distributions forbid both.
 */
export async function detectConfinement(): Promise<Confinement> {
  const program = ['/usr/bin/unshare', '/bin/unshare', '/usr/sbin/unshare'].find((path) => existsSync(path));
  if (program) {
    for (const user of [[], ['--user', '--map-root-user']]) {
      const words = [...user, ...namespaces, '--'];
      const tried = await run(program, [...words, process.execPath, '--version'], { env: {} }).catch(
        () => null,
      );
      if (tried?.code === 0) return { prefix: [program, ...words], isolation: 'network namespace' };
    }
  }
  return { prefix: [], isolation: 'none' };
}

/**
 * Arguments of Node's permission model (nodejs.org/docs/latest-v20.x/api/permissions.html): files may only be read below
 * `read` and written below `write`; no child processes or workers, and no native add-ons unless `addons` says so.
 */
export function permissionArguments(
  read: readonly string[],
  write: readonly string[],
  addons = false,
): string[] {
  return [
    '--experimental-permission',
    '--no-warnings',
    ...(addons ? ['--allow-addons'] : []),
    ...read.map((path) => `--allow-fs-read=${path}`),
    ...write.map((path) => `--allow-fs-write=${path}`),
  ];
}

/**
 * Where packages may be installed for a program in `folder`: every `node_modules` above it, as Node looks for them, and where
 * one that is a link leads to, because permissions are those of the real file.
 */
export function moduleFolders(folder: string): string[] {
  const found = new Set<string>();
  for (let at = folder; ; at = dirname(at)) {
    const modules = join(at, 'node_modules');
    if (existsSync(modules)) found.add(modules).add(realpathSync(modules));
    if (at === dirname(at)) return [...found];
  }
}

/** Memory (resident, bytes) of a process and its children; 0 where there is no /proc. */
export async function memoryOf(pid: number): Promise<number> {
  const text = async (path: string) => readFile(path, 'utf8').catch(() => '');
  const status = await text(`/proc/${pid}/status`);
  const own = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
  const children = (await text(`/proc/${pid}/task/${pid}/children`)).split(' ').filter(Boolean);
  const theirs = await Promise.all(children.map((child) => memoryOf(Number(child))));
  return theirs.reduce((sum, one) => sum + one, own);
}
