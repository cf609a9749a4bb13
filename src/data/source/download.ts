import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { z } from 'zod';
import { asUnreachable, Unreachable } from './attempts.ts';
import { type Answer, ask } from './http.ts';
import type { FetchOptions } from './options.ts';
import { plainUrl } from './plain-url.ts';
import { spool } from './spool.ts';

/** What was said of the bytes that a partial file has; `validator` is a strong ETag or a date, null without either. */
const stateSchema = z.strictObject({ url: z.string(), validator: z.string().nullable() });
type State = z.output<typeof stateSchema>;

/** One file behind a URL, and where what comes of it is kept. */
export interface Download {
  url: string;
  /** The sha256 it must have; null when it is seen for the first time. */
  pin: string | null;
  /** The partial file; beside it `<part>.json` says what it is of. */
  part: string;
  /** Bytes it may have. */
  most: number;
}

/** What one attempt gave. `resumed`: a part of it is of an earlier answer. */
export interface Downloaded {
  sha256: string;
  resumed: boolean;
}

/**
 * One attempt to have a file: what is there already is not sent again (Range with If-Range, RFC 9110 §13.1.5 and §14.2).
 * Without a validator, and from another mirror, a part is added to only when a pin will tell whether it fits. Throws
 * Unreachable (the part stays, for the next attempt or process), UserError data-invalid.
 */
export async function download(wanted: Download, options: FetchOptions): Promise<Downloaded> {
  const { url, pin, part, most } = wanted;
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const state = await readState(part);
  const have = (await stat(part).catch(() => null))?.size ?? 0;
  const validator = state?.url === url ? state.validator : null;
  const from = have > 0 && (validator !== null || pin !== null) ? have : 0;
  let answer: Answer;
  try {
    const headers =
      from > 0 ? { range: `bytes=${from}-`, ...(validator !== null && { 'if-range': validator }) } : {};
    answer = await ask(url, headers, options, signal, from > 0 ? [416] : []);
  } catch (error) {
    throw error instanceof Unreachable ? error : asUnreachable(error);
  }
  const { start, total, body } = placeOf(answer, from);
  if (start === null) {
    answer.body.destroy();
    await discard(part);
    throw new Unreachable(`${plainUrl(url)} has no bytes after ${from}: what there was is thrown away`, true);
  }
  if (start === 0) {
    // In this order: a state never tells of bytes that came before it.
    await discard(part);
    await writeFile(part, '');
    await writeFile(`${part}.json`, JSON.stringify({ url, validator: validatorOf(answer) } satisfies State));
  }
  const sha256 = await spool({ name: url, body, start, total }, part, most, signal, (bytes) =>
    options.onProgress?.({ what: url, bytes, total }),
  );
  return { sha256, resumed: start > 0 };
}

/** Throws away what an earlier attempt left. */
export async function discard(part: string): Promise<void> {
  await rm(`${part}.json`, { force: true });
  await rm(part, { force: true });
}

/** Where an answer's bytes belong, and how many the file has; `start` is null for an answer of no use. */
function placeOf(
  answer: Answer,
  from: number,
): { start: number | null; total: number | null; body: Readable } {
  const { body } = answer;
  const range = /^bytes (?:(\d+)-\d+|\*)\/(\d+|\*)$/.exec(answer.header('content-range') ?? '');
  const whole = range && range[2] !== '*' ? Number(range[2]) : null;
  const useless = { start: null, total: null, body };
  if (answer.status === 416) {
    if (whole !== from) return useless;
    // All of it is there: the answer has nothing to add.
    body.resume();
    return { start: from, total: whole, body: Readable.from([]) };
  }
  if (answer.status === 206) {
    return range?.[1] !== undefined && Number(range[1]) === from
      ? { start: from, total: whole, body }
      : useless;
  }
  const length = answer.header('content-length');
  return { start: 0, total: length === null ? null : Number(length), body };
}

/** A strong ETag, or else the date of the last change; weak ETags say nothing about bytes (RFC 9110 §8.8.1). */
function validatorOf(answer: Answer): string | null {
  const etag = answer.header('etag');
  if (etag !== null && !etag.startsWith('W/')) return etag;
  return answer.header('last-modified');
}

async function readState(part: string): Promise<State | null> {
  try {
    return stateSchema.parse(JSON.parse(await readFile(`${part}.json`, 'utf8')));
  } catch {
    return null;
  }
}
