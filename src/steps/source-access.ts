import { readFile } from 'node:fs/promises';
import { UserError } from '../core/error.ts';
import type { SourceAccess } from '../data/source/options.ts';
import { readProxies } from '../forge/network.ts';
import type { Environment } from './zones.ts';

/** Variables of sources that the test side may have its own of. */
const sourceCredentials = ['TOKENS', 'ACCESS_KEY', 'SECRET_KEY', 'SESSION_TOKEN'] as const;

/** PEM text, or the content of the file that a variable names. */
async function pemOf(value: string): Promise<string> {
  return value.includes('-----BEGIN') ? value : readFile(value, 'utf8');
}

/**
 * The ways to the sources of data sets: proxies as everywhere, `CDL_SOURCE_CA` (a PEM certificate, or a path to one),
 * `CDL_SOURCE_TOKENS` (one line a host: `host[:port] Bearer …` or `host[:port] Basic …`), and `CDL_SOURCE_ACCESS_KEY`,
 * `CDL_SOURCE_SECRET_KEY`, `CDL_SOURCE_SESSION_TOKEN` for buckets. For the test side the same with `CDL_TEST_SOURCE_…` come
 * first, which only protected jobs get. Throws UserError config-invalid.
 */
export async function sourceAccess(
  given: Environment,
  side: 'train' | 'test' = 'train',
): Promise<SourceAccess> {
  const env: Record<string, string | undefined> = { ...given };
  for (const name of side === 'test' ? sourceCredentials : []) {
    env[`CDL_SOURCE_${name}`] = given[`CDL_TEST_SOURCE_${name}`] || given[`CDL_SOURCE_${name}`];
  }
  const tokens = new Map<string, string>();
  for (const line of (env.CDL_SOURCE_TOKENS ?? '').split('\n')) {
    const [, host, value] = /^\s*(\S+)\s+((?:Bearer|Basic) \S+)\s*$/.exec(line) ?? [];
    if (host !== undefined && value !== undefined) tokens.set(host.toLowerCase(), value);
    else if (line.trim() !== '') {
      throw new UserError(
        'config-invalid',
        'CDL_SOURCE_TOKENS has a line that is not "host Bearer token" or "host Basic base64"',
      );
    }
  }
  const { CDL_SOURCE_ACCESS_KEY: accessKey, CDL_SOURCE_SECRET_KEY: secretKey } = env;
  const sessionToken = env.CDL_SOURCE_SESSION_TOKEN;
  const ca = env.CDL_SOURCE_CA ? await pemOf(env.CDL_SOURCE_CA) : undefined;
  const kept = ['PATH', 'HOME', 'SSH_AUTH_SOCK', 'GIT_CONFIG_GLOBAL', 'GIT_CONFIG_NOSYSTEM'];
  return {
    network: { ca, proxy: readProxies(env) },
    authorization: (host) => tokens.get(host.toLowerCase()) ?? null,
    s3:
      accessKey && secretKey
        ? { accessKey, secretKey, ...(sessionToken && { sessionToken }), ...(ca && { ca }) }
        : null,
    gitEnv: Object.fromEntries(kept.flatMap((name) => (env[name] ? [[name, env[name]]] : []))),
  };
}
