import { randomUUID } from 'node:crypto';
import {
  request as connect,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { requestIdOf } from './http.ts';
import type { Instance } from './instance.ts';
import { RequestError } from './request-error.ts';
import type { Picked, Supervisor } from './supervisor.ts';

/** What is known of a request once it was answered; `picked` is the process that did. */
export interface Passed {
  picked: Picked;
  code: number;
  /** Milliseconds. */
  latency: number;
}

/** Where to and how long to try. */
export interface PassOptions {
  environment: string;
  model: string;
  version: string | null;
  path: string;
  body: Buffer;
  /** Milliseconds a request waits for a process to become ready before it fails with 503. */
  hold: number;
  /** Told of every try, also of those whose failure the client never saw. */
  onTried(tried: Passed): void;
}

/** Answers up to this many bytes are collected before they are passed on, so that a server dying halfway goes unnoticed. */
const collectedBytes = 1024 * 1024;

const maxTries = 5;

// RFC 9110, 7.6.1: these belong to one connection and are not passed on. Ours are not to be forged by clients.
const ownHeaders = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'expect',
  'host',
  'content-length',
]);

function passedHeaders(headers: IncomingHttpHeaders): Record<string, string | string[]> {
  const passed: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || ownHeaders.has(name) || name.startsWith('x-cdl-')) continue;
    passed[name] = value;
  }
  return passed;
}

type Answer =
  | { kind: 'whole'; code: number; headers: IncomingHttpHeaders; body: Buffer }
  | { kind: 'streamed'; code: number };

/**
 * Passes a request to a process of its route and the answer back. An inference changes nothing, so one that found its
 * process dying or stopping is tried on another one; the request id stays the same, so that a record made twice can be
 * told. Throws RequestError 503 when none became ready in time, 502 when all tries failed.
 */
export async function passOn(
  supervisor: Supervisor,
  request: IncomingMessage,
  response: ServerResponse,
  options: PassOptions,
): Promise<void> {
  const { environment, model, version } = options;
  const headers = passedHeaders(request.headers);
  headers['x-request-id'] ??= requestIdOf(request) ?? randomUUID();
  if (options.body.length > 0) headers['content-length'] = String(options.body.length);
  const failed = new Set<Instance>();
  const deadline = performance.now() + options.hold;
  let why = 'no process is ready';
  for (let tries = 0; tries < maxTries; ) {
    const picked = supervisor.pick(environment, model, version, failed);
    if (!picked) {
      const left = deadline - performance.now();
      if (left <= 0 || response.destroyed || !supervisor.knows(environment, model, version)) break;
      await supervisor.changed(left);
      continue;
    }
    tries++;
    const { instance } = picked;
    const since = performance.now();
    instance.inFlight++;
    try {
      const extra = {
        'x-cdl-version': String(picked.version.spec.version),
        'x-cdl-candidate': picked.version.spec.candidate,
      };
      const answer = await ask(instance, request.method ?? 'GET', headers, options, response, extra);
      options.onTried({ picked, code: answer.code, latency: performance.now() - since });
      if (answer.kind === 'streamed') return;
      if (answer.code === 503 && tries < maxTries) {
        failed.add(instance);
        why = 'every process is stopping';
        continue;
      }
      respond(response, answer, extra);
      return;
    } catch (error) {
      if (response.destroyed) return;
      options.onTried({ picked, code: 0, latency: performance.now() - since });
      failed.add(instance);
      why = error instanceof Error ? error.message : String(error);
      if (response.headersSent) {
        response.destroy();
        return;
      }
    } finally {
      instance.released();
    }
  }
  const isUnready = why === 'no process is ready';
  throw new RequestError(
    isUnready ? 503 : 502,
    `${environment}/${model} cannot answer now: ${why}`,
    isUnready ? { 'retry-after': '1' } : {},
  );
}

function respond(
  response: ServerResponse,
  answer: { code: number; headers: IncomingHttpHeaders; body: Buffer },
  extra: Record<string, string>,
): void {
  if (response.destroyed) return;
  response.writeHead(answer.code, {
    ...passedHeaders(answer.headers),
    ...extra,
    'content-length': answer.body.length,
  });
  response.end(answer.body);
}

function ask(
  instance: Instance,
  method: string,
  headers: Record<string, string | string[]>,
  options: PassOptions,
  response: ServerResponse,
  extra: Record<string, string>,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = connect({
      host: '127.0.0.1',
      port: instance.port,
      agent: instance.agent,
      path: options.path,
      method,
      headers,
    });
    const abandon = (): void => {
      if (!response.writableFinished) asked.destroy(new Error('the client went away'));
    };
    response.once('close', abandon);
    const settle = (act: () => void): void => {
      response.off('close', abandon);
      act();
    };
    asked.on('error', (error) => settle(() => reject(error)));
    asked.on('response', (answer) => {
      const code = answer.statusCode!;
      answer.on('error', (error) => settle(() => reject(error)));
      // Some ends come as 'aborted' alone when no byte of the body had arrived.
      answer.on('aborted', () =>
        settle(() => reject(new Error('the server ended in the middle of its answer'))),
      );
      const length = Number(answer.headers['content-length'] ?? Number.POSITIVE_INFINITY);
      if (length <= collectedBytes) {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('end', () =>
          settle(() =>
            resolve({ kind: 'whole', code, headers: answer.headers, body: Buffer.concat(chunks) }),
          ),
        );
        return;
      }
      response.writeHead(code, { ...passedHeaders(answer.headers), ...extra });
      answer.pipe(response);
      answer.on('end', () => settle(() => resolve({ kind: 'streamed', code })));
    });
    asked.end(options.body);
  });
}
