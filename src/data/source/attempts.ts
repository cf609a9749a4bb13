import { setTimeout as delay } from 'node:timers/promises';
import { UserError } from '../../core/error.ts';
import { plainUrl } from './plain-url.ts';

/** Why one attempt did not succeed; `retryable` when the same attempt may work a moment later. */
export class Unreachable extends Error {
  readonly retryable: boolean;
  /** How long the server asks to be left alone, in milliseconds; null when it says nothing. */
  readonly after: number | null;
  constructor(message: string, retryable: boolean, options?: ErrorOptions & { after?: number | null }) {
    super(message, options);
    this.retryable = retryable;
    this.after = options?.after ?? null;
  }
}

const attempts = 4;
/** A server that asks for a longer pause than this (milliseconds) is away: the next mirror is tried. */
const longestPause = 120_000;

/** How often and for how long one file is tried for. */
export interface Patience {
  signal?: AbortSignal | undefined;
  /** First pause before a retry, in milliseconds; doubles each time. Default 500. */
  retryDelay?: number | undefined;
}

/**
 * Tries again after a failure that may pass, with doubling pauses, or the one a server asks for. An attempt that got
 * further than those before does not count: `progressed` says so. Throws UserError source-unreachable, interrupted, and
 * whatever else `action` throws.
 */
export async function persistently<T>(
  name: string,
  patience: Patience,
  action: () => Promise<T>,
  progressed: () => boolean = () => false,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      patience.signal?.throwIfAborted();
      return await action();
    } catch (error) {
      if (patience.signal?.aborted) {
        throw new UserError('interrupted', `the download of ${plainUrl(name)} was stopped`, undefined, {
          cause: error,
        });
      }
      if (!(error instanceof Unreachable)) throw error;
      if (progressed()) attempt = 1;
      const isAway = (error.after ?? 0) > longestPause;
      if (!error.retryable || attempt === attempts || isAway) {
        const later = isAway ? `, and asks for a pause of ${Math.ceil(error.after! / 1000)} s` : '';
        throw new UserError('source-unreachable', `${plainUrl(name)}: ${error.message}${later}`, undefined, {
          cause: error,
        });
      }
      const pause = Math.max(error.after ?? 0, (patience.retryDelay ?? 500) * 2 ** (attempt - 1));
      // Aborted while it waits, the next round says so.
      await delay(pause, undefined, { ...(patience.signal && { signal: patience.signal }) }).catch(
        () => undefined,
      );
    }
  }
}

/** Failures of the network are retried; a full disk, say, is neither retried nor taken for an outage. */
export function asUnreachable(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const cause = error.cause instanceof Error ? error.cause : error;
  const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : '';
  const text = cause.message || code;
  if (/^(ENOTFOUND|ECONNREFUSED|ERR_INVALID_URL|CERT_|ERR_TLS|DEPTH_|SELF_SIGNED|UNABLE_TO)/.test(code)) {
    return new Unreachable(text, false, { cause: error });
  }
  const network =
    /^(EAI_AGAIN|ECONN|EPIPE|ETIMEDOUT|EHOST|ENET|UND_ERR|ERR_STREAM_PREMATURE_CLOSE|HPE_)/.test(code);
  if (network || error instanceof TypeError || error.message === 'terminated') {
    return new Unreachable(text, true, { cause: error });
  }
  return error;
}

/** `Retry-After` in milliseconds from now: seconds or a date (RFC 9110 §10.2.3); null when there is none. */
export function retryAfter(value: string | null): number | null {
  if (value === null) return null;
  if (/^\d+$/.test(value.trim())) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, date - Date.now());
}
