import { describeError, UpstreamError } from '../core/error.ts';
import { dispatcherOf, type Network } from './network.ts';

/** What a server said, whatever it was. */
export interface Said {
  status: number;
  headers: Record<string, string>;
  /** Parsed; null when it is no JSON. */
  json: unknown;
  /** How far the server's clock is ahead of ours, in seconds; null when it names no date. */
  ahead: number | null;
}

const longest = 10_000;
const most = 4 * 1024 * 1024;

/**
 * Asks once, without repeats, and gives every answer back as it is: for looking at how a forge answers. Throws UpstreamError
 * when nobody answers.
 */
export async function askOnce(url: URL, headers: Record<string, string>, network: Network): Promise<Said> {
  const { request } = await import('undici');
  try {
    const answer = await request(url, {
      dispatcher: await dispatcherOf(network),
      method: 'GET',
      headers: { accept: 'application/json', 'user-agent': 'cdl', ...headers },
      headersTimeout: longest,
      bodyTimeout: longest,
    });
    const now = Date.now();
    const told: Record<string, string> = {};
    for (const [name, value] of Object.entries(answer.headers)) {
      if (value !== undefined) told[name] = String(value);
    }
    const text = Number(told['content-length'] ?? 0) > most ? '' : await answer.body.text();
    const date = Date.parse(told.date ?? '');
    return {
      status: answer.statusCode,
      headers: told,
      json: parse(text),
      ahead: Number.isFinite(date) ? Math.round((date - now) / 1000) : null,
    };
  } catch (cause) {
    const { code } = cause as { code?: unknown };
    const why = typeof code === 'string' && !code.startsWith('UND_ERR') ? code : describeError(cause).message;
    throw new UpstreamError(url.host, why, { retryable: true, cause });
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // A proxy's or a web server's page.
    return null;
  }
}
