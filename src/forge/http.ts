import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { UpstreamError, UserError } from '../core/error.ts';
import { dispatcherOf, type Network } from './network.ts';
import { tellRequest } from './requests.ts';

/** One request to a forge. `body` is complete, so that it can be sent again. */
export interface Sending {
  method: string;
  url: URL;
  headers: Record<string, string>;
  body: Buffer | null;
  /** Proxies and certificates; nothing: straight there. */
  network?: Network | undefined;
  /** Milliseconds without a byte before the attempt is given up. */
  idle?: number;
  /** Gives a redirection (3xx) back instead of failing, so that the caller decides what to send there. */
  redirects?: true;
}

/** A success: 2xx (or 3xx where asked for), the body unread. */
export interface Received {
  status: number;
  headers: Record<string, string>;
  body: Readable;
}

const attempts = 5;
const longestWait = 60_000;

/** Milliseconds that Retry-After says to wait (RFC 9110, 10.2.3: seconds or a date); null when it says nothing. */
function readWait(retryAfter: string | undefined, now: number): number | null {
  if (retryAfter === undefined) return null;
  const seconds = Number(retryAfter);
  const wait = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(retryAfter) - now;
  return Number.isFinite(wait) ? Math.max(0, wait) : null;
}

/**
 * Milliseconds to wait before attempt `attempt` (from 1): what Retry-After says, otherwise exponential from 250 ms with full
 * jitter; null when a person would have given up before.
 */
export function backoff(
  attempt: number,
  retryAfter: string | undefined,
  now: number,
  random: number,
): number | null {
  const wait = readWait(retryAfter, now);
  if (wait !== null) return wait > longestWait ? null : wait;
  return 250 * 2 ** (attempt - 1) * (0.5 + random / 2);
}

/** Failures of a connection that was never there. */
const neverMade = new Set(['ECONNREFUSED', 'ENOTFOUND', 'UND_ERR_CONNECT_TIMEOUT']);

/** A certificate nobody trusts (OpenSSL's and Node's names) and a proxy that wants another password do not mend themselves. */
const staysBroken = /^(CERT_|ERR_TLS_|ERR_SSL_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_)|\(407\)/;

/**
 * Whether the same request may be sent again. 429 says nothing was done; after a 5xx or a broken connection a POST may
 * have been carried out, so only methods that can be repeated are (RFC 9110, 9.2.2), and connections never made.
 */
export function mayRepeat(method: string, failure: { status: number } | { code: string }): boolean {
  if ('status' in failure && failure.status === 429) return true;
  if ('code' in failure && neverMade.has(failure.code)) return true;
  if ('code' in failure && staysBroken.test(failure.code)) return false;
  const repeatable = method === 'GET' || method === 'HEAD' || method === 'PUT' || method === 'DELETE';
  if ('code' in failure) return repeatable;
  return repeatable && [502, 503, 504].includes(failure.status);
}

async function once(sending: Sending): Promise<Received> {
  const { request } = await import('undici');
  const idle = sending.idle ?? 30_000;
  const answer = await request(sending.url, {
    dispatcher: await dispatcherOf(sending.network ?? {}),
    method: sending.method as 'GET',
    headers: sending.headers,
    body: sending.body,
    headersTimeout: idle,
    bodyTimeout: idle,
  });
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(answer.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  return { status: answer.statusCode, headers, body: answer.body };
}

/** What went wrong with a connection, in the words of the operating system where it has some. */
function codeOf(cause: unknown): string {
  const { code, message } = cause as { code?: unknown; message?: unknown };
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') return 'ETIMEDOUT';
  if (code === 'UND_ERR_SOCKET') return 'ECONNRESET';
  // What a proxy answered stands in the message alone.
  if (code === 'UND_ERR_ABORTED' || code === 'UND_ERR_INVALID_ARG') return String(message);
  return String(code ?? 'unknown');
}

/** Reads a body of at most `limit` bytes; null when it is longer (the rest is not read). Throws UpstreamError when it breaks off. */
export async function readBody(body: Readable, limit: number): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > limit) {
        body.destroy();
        return null;
      }
      chunks.push(chunk);
    }
  } catch (cause) {
    // Half an answer is none; what was asked for may be done all the same, which the next try finds.
    throw new UpstreamError('forge', 'the answer broke off', { retryable: true, cause });
  }
  return Buffer.concat(chunks);
}

/**
 * What an error body says, in whichever of the forges' shapes: `{message}`, `{error}`, `{message: {field: [problem]}}`,
 * `{message, errors: [{message}]}`, text.
 */
function explanation(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    if (value && typeof value === 'object') {
      const said = ('message' in value && value.message) || ('error' in value && value.error) || text;
      const more = 'errors' in value ? ` ${JSON.stringify(value.errors)}` : '';
      return `${typeof said === 'string' ? said : JSON.stringify(said)}${more}`.slice(0, 500);
    }
  } catch {
    // Not JSON: a proxy's page, most likely.
  }
  return text.replace(/\s+/g, ' ').slice(0, 200);
}

/**
 * A used-up rate limit as 429 with Retry-After. GitLab names when to come back in RateLimit-Reset (doc:
 * administration/settings/user_and_ip_rate_limits), GitHub, which may say 403, in x-ratelimit-reset (docs.github.com, rate limits
 * for the REST API), both in epoch seconds; other servers name the seconds to wait there.
 */
export function readLimit(
  status: number,
  headers: Readonly<Record<string, string>>,
  now: number,
): { status: number; retryAfter: string | undefined } {
  const retryAfter = headers['retry-after'];
  if (status !== 403 && status !== 429) return { status, retryAfter };
  if (retryAfter !== undefined) return { status: 429, retryAfter };
  const isUsedUp = (headers['ratelimit-remaining'] ?? headers['x-ratelimit-remaining']) === '0';
  if (status === 403 && !isUsedUp) return { status, retryAfter };
  const named = headers['x-ratelimit-reset'];
  const reset = Number(headers['ratelimit-reset'] ?? named ?? Number.NaN);
  if (!Number.isFinite(reset)) return { status: 429, retryAfter };
  // Nobody waits for thirty years: that much is a point in time.
  const isTime = named !== undefined || reset >= 1e9;
  const seconds = isTime ? Math.max(0, Math.ceil(reset - now / 1000)) : reset;
  return { status: 429, retryAfter: seconds.toString() };
}

/** Says when the limit of the token itself ends, and not of one route alone: only such answers say how much is left. */
const tellsOfToken = (headers: Readonly<Record<string, string>>): boolean =>
  'ratelimit-reset' in headers || 'x-ratelimit-reset' in headers;

/**
 * Sends, and repeats what may be repeated. What the forge said not to ask for yet waits, for longer than a minute it fails
 * unasked. Throws UserError forge-denied (401, 403), UpstreamError with `status` for every other answer that is no success;
 * `retryable` for 408, 409, 429, 5xx and a broken connection.
 */
export async function send(
  sending: Sending,
  wait: (ms: number) => Promise<unknown> = sleep,
): Promise<Received> {
  const what = `${sending.method} ${sending.url.pathname}`;
  const service = sending.url.host;
  const limits = sending.network?.limits;
  for (let attempt = 1; ; attempt++) {
    const rest = limits?.rest(sending, Date.now()) ?? 0;
    if (rest > longestWait) {
      const end = new Date(Date.now() + rest).toISOString();
      throw new UpstreamError(service, `${what}: not asked, the rate limit is used up until ${end}`, {
        retryable: true,
        status: 429,
      });
    }
    if (rest > 0) await wait(rest);
    let received: Received;
    const began = performance.now();
    const tell = (outcome: string, pause: number | null, isLimited: boolean) =>
      tellRequest(sending.method, sending.url.pathname, {
        outcome,
        seconds: (performance.now() - began) / 1000,
        retryIn: pause === null ? null : pause / 1000,
        isLimited,
        held: rest / 1000,
      });
    try {
      received = await once(sending);
    } catch (cause) {
      const code = codeOf(cause);
      const pause = backoff(attempt, undefined, Date.now(), Math.random());
      const isRepeated = attempt < attempts && pause !== null && mayRepeat(sending.method, { code });
      tell(/^[A-Z_]+$/.test(code) ? code : 'failed', isRepeated ? pause : null, false);
      if (isRepeated) {
        await wait(pause);
        continue;
      }
      throw new UpstreamError(service, `${what}: ${code}`, { retryable: !staysBroken.test(code), cause });
    }
    const { headers } = received;
    const { status: first } = received;
    if ((first >= 200 && first < 300) || (sending.redirects && first >= 300 && first < 400)) {
      tell(String(first), null, false);
      return received;
    }
    const { status, retryAfter } = readLimit(received.status, headers, Date.now());
    const words = explanation((await readBody(received.body, 64 * 1024))?.toString('utf8') ?? '');
    // GitLab begins with it as well: "403 Forbidden".
    const said = words.startsWith(`${status} `) ? words : `${status} ${words}`;
    const told = status === 429 ? readWait(retryAfter, Date.now()) : null;
    if (told !== null) limits?.refused(sending, told, tellsOfToken(headers), Date.now());
    const pause = backoff(attempt, retryAfter, Date.now(), Math.random());
    const isRepeated = attempt < attempts && pause !== null && mayRepeat(sending.method, { status });
    tell(String(status), isRepeated ? pause : null, status === 429);
    if (isRepeated) {
      await wait(pause);
      continue;
    }
    if (status === 401 || status === 403) {
      throw new UserError('forge-denied', `${service} refused ${what}: ${said}`);
    }
    const retryable = status >= 500 || [408, 409, 429].includes(status);
    throw new UpstreamError(service, `${what}: ${said}`, { retryable, status });
  }
}
