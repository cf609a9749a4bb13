import { homedir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '../core/error.ts';
import { createZone, openStore, type StoreCredentials } from '../store/index.ts';
import type { Zone } from '../store/types.ts';

// Apart from context.ts, which loads all that steps need: whoever opens a zone and nothing else does not wait for that.

/** The process environment, which context.ts and the command line read and hand on. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Where downloads and other things that may be lost are kept. */
export function cacheFolder(env: Environment): string {
  return env.CDL_CACHE ?? join(env.XDG_CACHE_HOME ?? join(env.HOME ?? homedir(), '.cache'), 'cdl');
}

function credentials(env: Environment, zone: Zone['name']): StoreCredentials | null {
  const prefix = `CDL_${zone.toUpperCase()}`;
  const accessKey = env[`${prefix}_ACCESS_KEY`];
  const secretKey = env[`${prefix}_SECRET_KEY`];
  if (!accessKey || !secretKey) return null;
  const sessionToken = env[`${prefix}_SESSION_TOKEN`];
  const ca = env.CDL_STORE_CA;
  return { accessKey, secretKey, ...(sessionToken && { sessionToken }), ...(ca && { ca }) };
}

/**
 * Opens one zone of the store: `CDL_WORK_STORE` or `CDL_TRUSTED_STORE`. On a person's machine without either, both are
 * folders below the repository's `.cdl/store`. In CI an unset one means that this job may not use it. Blobs of the work zone
 * are kept in the cache folder; those of the trusted zone are not, because jobs that may not read it use the same folder.
 */
export async function openZone(env: Environment, name: Zone['name'], root: string | null): Promise<Zone> {
  const variable = `CDL_${name.toUpperCase()}_STORE`;
  const url = env[variable] ?? (env.CI || root === null ? null : `file:${join(root, '.cdl', 'store', name)}`);
  if (!url) {
    throw new UserError(
      'store-denied',
      `${variable} is not set: this job has no access to the ${name} zone of the store`,
      name === 'trusted'
        ? 'only jobs on protected branches get it, as a protected CI variable'
        : 'set it as a CI variable of the project',
    );
  }
  const store = await openStore(url, credentials(env, name));
  const cached = name === 'work' && !url.startsWith('file:');
  return createZone(name, store, cached ? { cache: join(cacheFolder(env), 'blobs') } : {});
}
