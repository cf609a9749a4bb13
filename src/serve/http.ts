import type { IncomingMessage, ServerResponse } from 'node:http';
import { badRequest, RequestError } from './request-error.ts';

/** Largest request body, in bytes, unless told otherwise. */
export const defaultBodyLimit = 16 * 1024 * 1024;

/** Reads a body whole. Throws RequestError 413 above `limit` bytes, 415 for a compressed one, 400 when it is cut short. */
export function readBody(request: IncomingMessage, limit: number): Promise<Buffer> {
  const encoding = request.headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') {
    return Promise.reject(
      new RequestError(415, `content-encoding ${encoding} is not taken; send plain JSON`),
    );
  }
  const tooLarge = new RequestError(413, `the body is larger than ${limit} bytes`, { connection: 'close' });
  if (Number(request.headers['content-length'] ?? 0) > limit) return Promise.reject(tooLarge);
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > limit) {
        request.pause();
        reject(tooLarge);
      } else chunks.push(chunk);
    });
    request.on('end', () => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size)));
    request.on('error', () => reject(badRequest('the body was cut short')));
    request.on('aborted', () => reject(badRequest('the body was cut short')));
  });
}

/** Parses a JSON body. Throws RequestError 400. */
export function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw badRequest(`the body is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Ends a response with a JSON body. Does nothing when the client is gone. */
export function sendJson(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  send(response, status, 'application/json', JSON.stringify(value), headers);
}

/** Ends a response with a text of a type. Does nothing when the client is gone. */
export function send(
  response: ServerResponse,
  status: number,
  type: string,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  if (response.destroyed || response.headersSent) return;
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text), ...headers });
  response.end(text);
}

const requestId = /^[\w.:-]{1,128}$/;

/** The id a client gave its request in `x-request-id`, when it is a plain one. */
export function requestIdOf(request: IncomingMessage): string | null {
  const value = request.headers['x-request-id'];
  return typeof value === 'string' && requestId.test(value) ? value : null;
}
