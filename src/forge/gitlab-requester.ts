import { Readable } from 'node:stream';
import type { Gitlab } from '@gitbeaker/rest';
import { UpstreamError } from '../core/error.ts';
import { readBody, send } from './http.ts';
import type { Network } from './network.ts';

/** The HTTP side of gitbeaker, as its resources call it. */
type RequesterFn = NonNullable<NonNullable<ConstructorParameters<typeof Gitlab>[0]>['requesterFn']>;
type Requester = ReturnType<RequesterFn>;

const largestAnswer = 64 * 1024 * 1024;

/** `perPage` → `per_page`; names that are snake case already stay. */
function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

// Only the first level is ours to rename: below it are names that people chose (inputs, variables).
function renameKeys(values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [snake(name), value]));
}

function queryString(parameters: Record<string, unknown>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(renameKeys(parameters))) {
    if (value === undefined || value === null) continue;
    if (Array.isArray(value)) for (const one of value) query.append(`${name}[]`, String(one));
    else query.append(name, String(value));
  }
  return query.toString();
}

async function encodeBody(
  body: FormData | Record<string, unknown>,
): Promise<{ type: string; bytes: Buffer }> {
  if (body instanceof FormData) {
    const form = new Response(body);
    const type = form.headers.get('content-type') ?? 'multipart/form-data';
    return { type, bytes: Buffer.from(await form.arrayBuffer()) };
  }
  return { type: 'application/json', bytes: Buffer.from(JSON.stringify(renameKeys(body))) };
}

/**
 * A requester for gitbeaker on our own HTTP, because its own repeats every call, also POST, ten times within a second
 * after 429 and 502, and knows no certificate of one's own. With `asStream` the body is a web stream of raw bytes.
 */
export function createRequester(network: Network): RequesterFn {
  return (resource) => {
    const call = async (
      method: string,
      endpoint: string,
      options: {
        body?: FormData | Record<string, unknown>;
        searchParams?: Record<string, unknown>;
        asStream?: boolean;
      } = {},
    ) => {
      const url = new URL(endpoint, resource.url.endsWith('/') ? resource.url : `${resource.url}/`);
      url.search = queryString(options.searchParams ?? {});
      const headers: Record<string, string> = { ...resource.headers, accept: 'application/json, */*' };
      for (const [name, value] of Object.entries(resource.authHeaders)) headers[name] = await value();
      let bytes: Buffer | null = null;
      const isEmpty =
        options.body && !(options.body instanceof FormData) && Object.keys(options.body).length === 0;
      if (options.body && !isEmpty) {
        const encoded = await encodeBody(options.body);
        headers['content-type'] = encoded.type;
        bytes = encoded.bytes;
      }
      const received = await send({ method, url, headers, body: bytes, network });
      const { status } = received;
      if (options.asStream) {
        return { status, headers: received.headers, body: Readable.toWeb(received.body) };
      }
      const answer = await readBody(received.body, largestAnswer);
      if (!answer)
        throw new UpstreamError(url.host, `${url.pathname}: answer too long`, { retryable: false });
      const json = received.headers['content-type']?.startsWith('application/json') && answer.length > 0;
      let body: unknown = answer.toString('utf8');
      if (json) {
        try {
          body = JSON.parse(answer.toString('utf8'));
        } catch (cause) {
          throw new UpstreamError(url.host, `${url.pathname}: not JSON`, { retryable: true, status, cause });
        }
      } else if (answer.length === 0) body = null;
      // gitbeaker spreads later pages as they are: what is no list would end in a TypeError, or in letters.
      if (Number(options.searchParams?.page ?? 1) > 1 && !Array.isArray(body))
        throw new UpstreamError(url.host, `${url.pathname}: not a page of a list`, {
          retryable: true,
          status,
        });
      return { status, headers: received.headers, body };
    };
    return {
      get: (endpoint, options) => call('GET', endpoint, options),
      post: (endpoint, options) => call('POST', endpoint, options),
      put: (endpoint, options) => call('PUT', endpoint, options),
      patch: (endpoint, options) => call('PATCH', endpoint, options),
      delete: (endpoint, options) => call('DELETE', endpoint, options),
    } as Requester;
  };
}
