import { rootCertificates } from 'node:tls';
import type { Dispatcher } from 'undici';
import type { Limits } from './limits.ts';

/** Proxies by the scheme of what is asked for, and the hosts that are asked directly; null: none. */
export interface ProxySettings {
  http: string | null;
  https: string | null;
  /** Host names, `.suffixes` and `*`, separated by commas. */
  no: string | null;
}

/** The way to a server. */
export interface Network {
  /** PEM certificates to trust besides the usual ones, of the proxy as well. */
  ca?: string | undefined;
  proxy?: ProxySettings | null | undefined;
  /** What the server said of when to come back. */
  limits?: Limits | undefined;
}

/**
 * The proxies that an environment names, in capital or small letters (small ones first, as curl reads them); null when it
 * names none. HTTP_PROXY serves https too when no HTTPS_PROXY is there.
 */
export function readProxies(env: Readonly<Record<string, string | undefined>>): ProxySettings | null {
  const value = (name: string) => env[name] || env[name.toUpperCase()] || null;
  const http = value('http_proxy');
  const https = value('https_proxy') ?? http;
  return http || https ? { http, https, no: value('no_proxy') } : null;
}

/** The usual certificates and one's own: given alone, one's own would be the only ones that count. */
export const withCertificates = (ca: string): string[] => [...rootCertificates, ca];

/** What git (libcurl) is told of the same proxies, as environment variables. */
export function gitProxies(proxy: ProxySettings | null | undefined): Record<string, string> {
  if (!proxy) return {};
  return {
    ...(proxy.http && { http_proxy: proxy.http }),
    ...(proxy.https && { https_proxy: proxy.https }),
    ...(proxy.no && { no_proxy: proxy.no }),
  };
}

const dispatchers = new Map<string, Promise<Dispatcher>>();

async function open({ ca, proxy }: Network): Promise<Dispatcher> {
  const { Agent, EnvHttpProxyAgent } = await import('undici');
  const tls = ca ? { ca: withCertificates(ca) } : null;
  const direct = { ...(tls && { connect: tls }) };
  if (!proxy) return new Agent(direct);
  return new EnvHttpProxyAgent({
    ...direct,
    ...(tls && { requestTls: tls, proxyTls: tls }),
    // Given, so that undici does not look into the process's environment.
    httpProxy: proxy.http ?? '',
    httpsProxy: proxy.https ?? '',
    noProxy: proxy.no ?? '',
    // What is not encrypted is asked of the proxy itself: many let CONNECT through to port 443 alone.
    proxyTunnel: false,
  });
}

/** Connections to servers, kept open between requests; one set of them for each way there. */
export function dispatcherOf(network: Network): Promise<Dispatcher> {
  const key = JSON.stringify([network.ca ?? null, network.proxy ?? null]);
  let found = dispatchers.get(key);
  if (!found) {
    found = open(network);
    dispatchers.set(key, found);
  }
  return found;
}
