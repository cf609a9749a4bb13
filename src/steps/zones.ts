import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '../core/error.ts';
import {
  createZone,
  type ObjectStore,
  type OpenOutside,
  openStore,
  type StoreCredentials,
} from '../store/index.ts';
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
  return createZone(name, store, {
    ...(cached && { cache: join(cacheFolder(env), 'blobs') }),
    ...(root !== null && { outside: outsideOf(env, name, root) }),
  });
}

/**
 * The buckets that data versions of a project may refer to: those that its `cdl.yaml` here calls sources `in_place`, of the
 * withheld side for the trusted zone alone. Whoever can write a version could else make other people's jobs look anywhere.
 */
export function outsideOf(env: Environment, name: Zone['name'], root: string): OpenOutside {
  const opened = new Map<string, Promise<{ store: ObjectStore; key: string }>>();
  let known: Promise<OutsidePlace[]> | null = null;
  return async (at) => {
    known ??= declared(root, name);
    const wanted = placeOf(at);
    const isKnown = (await known).some(
      (one) =>
        one.bucket === wanted?.bucket &&
        (one.key === wanted.key || (/\/$|^$/.test(one.key) && wanted.key.startsWith(one.key))),
    );
    if (!wanted || !isKnown) {
      throw new UserError(
        'store-denied',
        `a data version refers to ${at}, which no source with in_place in cdl.yaml names`,
        'look at it where cdl.yaml is as it was when the version was made',
      );
    }
    const { bucket, key } = wanted;
    const { openBucket } = await import('../store/index.ts');
    const { sourceAccess } = await import('./source-access.ts');
    let store = opened.get(bucket);
    if (!store) {
      const { s3, network } = await sourceAccess(env, name === 'trusted' ? 'test' : 'train');
      store = openBucket(bucket, {
        accessKey: '',
        secretKey: '',
        ...(network?.ca && { ca: network.ca }),
        ...s3,
      });
      opened.set(bucket, store);
    }
    return { ...(await store), key };
  };
}

interface OutsidePlace {
  bucket: string;
  key: string;
}

/** The two halves of an `s3:` URL; null for what is none. */
function placeOf(at: string): OutsidePlace | null {
  try {
    const url = new URL(at);
    if (url.protocol !== 's3:') return null;
    const key = decodeURIComponent(url.pathname).replace(/^\/+/, '');
    return { bucket: `s3://${url.host}/${url.search}`, key };
  } catch {
    return null;
  }
}

async function declared(root: string, name: Zone['name']): Promise<OutsidePlace[]> {
  const { parseProject, projectFile } = await import('../core/project.ts');
  const text = await readFile(join(root, projectFile), 'utf8').catch(() => null);
  const datasets = text === null ? {} : parseProject(text).datasets;
  return Object.values(datasets)
    .flatMap((set) => set.sources)
    .filter((source) => source.in_place && (name === 'trusted' || source.side !== 'test'))
    .flatMap((source) => source.s3 ?? [])
    .flatMap((url) => placeOf(url) ?? []);
}
