import { reservedPrefixes } from './gateway-state.ts';

/** Where a request to the gateway goes. `path` is what the server process gets. */
export type Destination =
  | { kind: 'own'; what: 'live' | 'ready' | 'metadata' | 'metrics'; environment: string }
  /** `model` is null where the protocol names none: then the environment's only model is meant. */
  | { kind: 'model'; environment: string; model: string | null; version: string | null; path: string }
  | { kind: 'unknown' };

const own: Record<string, 'live' | 'ready' | 'metadata' | 'metrics'> = {
  '/healthz': 'live',
  '/v2/health/live': 'live',
  '/v2/health/ready': 'ready',
  '/v2': 'metadata',
  '/v2/': 'metadata',
  '/metrics': 'metrics',
};

/** The environment that needs no prefix. */
export const defaultEnvironment = 'production';

/**
 * Reads the path of a request. Environments are the first segment (`/staging/v2/models/…`), `production` may be left out.
 * `/seldon/<environment>/<model>/…` is understood too: the form of Seldon's ingress, and the way to name the model for
 * `/api/v1.0/predictions` where an environment has several.
 */
export function readPath(url: string): Destination {
  const [path = '/', query] = url.split('?', 2) as [string, string | undefined];
  const suffix = query === undefined ? '' : `?${query}`;
  const ingress = /^\/seldon\/([^/]+)\/([^/]+)(\/(?:api|v2)\/.*)$/.exec(path);
  if (ingress) {
    const [, environment, model, rest] = ingress as unknown as [string, string, string, string];
    const version = /^\/v2\/models\/[^/]+\/versions\/([^/]+)/.exec(rest)?.[1] ?? null;
    return { kind: 'model', environment, model, version, path: rest + suffix };
  }
  const prefix = /^\/([a-z0-9][a-z0-9_-]*)(\/.*)$/.exec(path);
  const hasPrefix = prefix !== null && !reservedPrefixes.includes(prefix[1]!);
  const environment = hasPrefix ? prefix[1]! : defaultEnvironment;
  const rest = hasPrefix ? prefix[2]! : path;
  if (Object.hasOwn(own, rest)) return { kind: 'own', what: own[rest]!, environment };
  const model = /^\/v2\/models\/([^/]+)(?:\/versions\/([^/]+))?(?:\/.*)?$/.exec(rest);
  if (model) {
    return { kind: 'model', environment, model: model[1]!, version: model[2] ?? null, path: rest + suffix };
  }
  if (rest.startsWith('/api/v1.0/')) {
    return { kind: 'model', environment, model: null, version: null, path: rest + suffix };
  }
  return { kind: 'unknown' };
}
