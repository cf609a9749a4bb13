import { createPrivateKey, type KeyObject, sign } from 'node:crypto';
import type { Octokit } from '@octokit/rest';
import { UpstreamError, UserError } from '../core/error.ts';
import { appSchema, installationSchema, installationTokenSchema, read, userSchema } from './github-schema.ts';
import { readBody, send } from './http.ts';
import type { Network } from './network.ts';

/** As whom the driver speaks: an account's token, or an app with its private key (PEM). */
export type GithubAuth =
  | { kind: 'token'; token: string }
  | { kind: 'app'; appId: string; privateKey: string };

const largestAnswer = 64 * 1024 * 1024;
/** Newest version of the REST API that GitHub Enterprise Server knows too (docs.github.com, API versions). */
const apiVersion = '2022-11-28';

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

const withoutBody = new Set([204, 205, 304]);

/** An Octokit on our own HTTP: repeats, rate limits, certificates and errors are the same as for other forges. */
export async function createOctokit(options: {
  url: string;
  network: Network;
  token: () => Promise<string>;
}): Promise<Octokit> {
  const { Octokit } = await import('@octokit/rest');
  const { origin } = new URL(options.url);
  const fetchWithRepeats = async (address: string, init: RequestInit): Promise<Response> => {
    const headers = Object.fromEntries(new Headers(init.headers));
    headers.authorization = `Bearer ${await options.token()}`;
    headers['x-github-api-version'] = apiVersion;
    const body = typeof init.body === 'string' ? Buffer.from(init.body) : null;
    const url = new URL(address);
    // The token is for one server: an address that came from elsewhere is a mistake of ours.
    if (url.origin !== origin)
      throw new Error(`a request to ${url.origin} would carry the token of ${origin}`);
    const received = await send({
      method: init.method ?? 'GET',
      url,
      headers,
      body,
      network: options.network,
    });
    const bytes = await readBody(received.body, largestAnswer);
    if (!bytes) throw new UpstreamError(url.host, `${url.pathname}: answer too long`, { retryable: false });
    return new Response(withoutBody.has(received.status) ? null : new Uint8Array(bytes), {
      status: received.status,
      headers: received.headers,
    });
  };
  const octokit = new Octokit({
    baseUrl: options.url,
    userAgent: 'cdl',
    log: silent,
    request: { fetch: fetchWithRepeats },
  });
  octokit.hook.error('request', (error) => {
    // Octokit wraps what its fetch throws.
    const { cause } = error;
    throw cause instanceof UpstreamError || cause instanceof UserError ? cause : error;
  });
  return octokit;
}

function readAppKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    throw new UserError('config-invalid', 'the private key of the GitHub App is not PEM', undefined, {
      cause,
    });
  }
}

/**
 * A token with which an app speaks for itself (RS256; docs.github.com, generating a JWT for a GitHub App): valid for nine
 * minutes, from a minute ago because clocks differ. `now` in milliseconds.
 */
export function appToken(appId: string, key: KeyObject, now: number): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const seconds = Math.floor(now / 1000);
  const text = `${part({ alg: 'RS256', typ: 'JWT' })}.${part({ iat: seconds - 60, exp: seconds + 540, iss: appId })}`;
  return `${text}.${sign('RSA-SHA256', Buffer.from(text), key).toString('base64url')}`;
}

/** Who the driver is, and the client that speaks as them. */
export interface Identity {
  octokit: Octokit;
  /** Token for git, renewed before it expires. */
  token(): Promise<string>;
  self(): Promise<{ id: number; login: string }>;
  /** Client of the app itself, and its id; null for an account's token. */
  app: { octokit: Octokit; id: number } | null;
}

/** Renewed this many milliseconds before it expires, so that a long push does not outlive it. */
const margin = 10 * 60_000;

/** Opens an identity. Throws UserError config-invalid for a key that is none; forge-denied when the app is unknown. */
export async function openIdentity(options: {
  url: string;
  owner: string;
  repo: string;
  auth: GithubAuth;
  network: Network;
}): Promise<Identity> {
  const { url, owner, repo, auth, network } = options;
  if (auth.kind === 'token') {
    const token = async () => auth.token;
    const octokit = await createOctokit({ url, network, token });
    const self = async () =>
      read(userSchema, (await octokit.rest.users.getAuthenticated()).data, 'the token’s user');
    return { octokit, token, self, app: null };
  }
  const { appId } = auth;
  const key = readAppKey(auth.privateKey);
  const app = await createOctokit({ url, network, token: async () => appToken(appId, key, Date.now()) });
  let held: Promise<{ token: string; expires: number }> | null = null;

  async function renew(): Promise<{ token: string; expires: number }> {
    const found = await app.rest.apps.getRepoInstallation({ owner, repo });
    const { id } = read(installationSchema, found.data, `the app's installation on ${owner}/${repo}`);
    const made = await app.rest.apps.createInstallationAccessToken({
      installation_id: id,
      repositories: [repo],
    });
    const { token, expires_at } = read(installationTokenSchema, made.data, 'an installation token');
    return { token, expires: Date.parse(expires_at) };
  }
  const token = async (): Promise<string> => {
    const before = held;
    const now = before ? await before.catch(() => null) : null;
    if (!now || now.expires - margin < Date.now()) {
      // Several that find it expired at once share one renewal.
      if (held === before) held = renew();
    }
    return (await held!).token;
  };
  const octokit = await createOctokit({ url, network, token });
  const about = read(appSchema, (await app.rest.apps.getAuthenticated()).data, 'the app');
  const self = async () => {
    const found = await octokit.rest.users.getByUsername({ username: `${about.slug}[bot]` });
    return read(userSchema, found.data, 'the user of the app');
  };
  return { octokit, token, self, app: { octokit: app, id: about.id } };
}
