import type { Readable } from 'node:stream';
import { dispatcherOf } from '../../forge/network.ts';
import { retryAfter, Unreachable } from './attempts.ts';
import type { SourceAccess } from './options.ts';
import { plainUrl } from './plain-url.ts';

/** An answer whose body is still to be read. Names of headers are in small letters. */
export interface Answer {
  /** Where it came from in the end. */
  url: string;
  status: number;
  header(name: string): string | null;
  body: Readable;
}

const redirects = [301, 302, 303, 307, 308];

/**
 * Asks for a file with GET, following redirects: what a host may be told as `Authorization` is decided for each hop by its
 * own host, so credentials never travel on; from https nothing leads to http. Bodies come as they are stored (no coding).
 * Throws Unreachable for every status that is neither 2xx nor one of `accepted`.
 */
export async function ask(
  url: string,
  headers: Readonly<Record<string, string>>,
  access: SourceAccess,
  signal: AbortSignal,
  accepted: readonly number[] = [],
): Promise<Answer> {
  const { request } = await import('undici');
  const dispatcher = await dispatcherOf(access.network ?? {});
  let at = url;
  for (let hop = 0; ; hop++) {
    const { host, protocol } = new URL(at);
    if (protocol !== 'http:' && protocol !== 'https:')
      throw new Unreachable(`${plainUrl(at)} is no http address`, false);
    const authorization = access.authorization?.(host) ?? null;
    const answer = await request(at, {
      dispatcher,
      signal,
      headers: {
        'user-agent': 'cdl',
        'accept-encoding': 'identity',
        ...headers,
        ...(authorization !== null && { authorization }),
      },
    });
    const header = (name: string): string | null => {
      const value = answer.headers[name];
      return value === undefined ? null : Array.isArray(value) ? value.join(', ') : value;
    };
    const { statusCode: status, body } = answer;
    // Who reads it hears of errors; who throws it away need not.
    body.on('error', () => {});
    const location = header('location');
    if (redirects.includes(status) && location !== null) {
      await body.dump();
      if (hop === 10)
        throw new Unreachable(`${plainUrl(url)} leads from one place to the next, without end`, false);
      const next = URL.canParse(location, at) ? new URL(location, at) : null;
      if (!next || (protocol === 'https:' && next.protocol !== 'https:'))
        throw new Unreachable(
          `${plainUrl(at)} leads to ${plainUrl(location)}, which is not safe to follow`,
          false,
        );
      at = next.href;
      continue;
    }
    if ((status >= 200 && status < 300) || accepted.includes(status))
      return { url: at, status, header, body };
    await body.dump();
    const again = status >= 500 || status === 429 || status === 408;
    throw new Unreachable(`${plainUrl(at)} answered ${status}`, again, {
      after: retryAfter(header('retry-after')),
    });
  }
}
