import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { text } from 'node:stream/consumers';
import { setTimeout as wait } from 'node:timers/promises';
import { rootCertificates } from 'node:tls';
import type { Client } from 'minio';
import { UpstreamError, UserError } from '../core/error.ts';

/** Where a bucket is and who asks. `prefix` is put before every key; `ca` is a PEM certificate trusted besides the usual. */
export interface S3Options {
  endpoint: string;
  bucket: string;
  prefix: string;
  region: string;
  pathStyle: boolean;
  accessKey: string;
  secretKey: string;
  sessionToken?: string;
  ca?: string;
  /** It is not tried out whether there are conditional writes before somebody writes. */
  readOnly?: true;
}

/** One request; `query` is already encoded. `repeatable` ones are tried again when the store does not answer. */
export interface S3Request {
  method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  object?: string;
  query?: string;
  headers?: Record<string, string>;
  body?: Buffer;
  repeatable: boolean;
}

/** Sends one signed request and gives the answer if its status is one of `accepted`; otherwise throws (see openS3Store). */
export type S3Send = (request: S3Request, accepted: readonly number[]) => Promise<IncomingMessage>;

// The client throws for a status that is not listed; here every status is ours to read.
const everyStatus = Array.from({ length: 400 }, (_, index) => 200 + index);

const attempts = 4;

/** Talks to one bucket. */
export interface S3Requests {
  send: S3Send;
  /** A presigned URL to read an object (S3 API reference, "Authenticating requests: using query parameters"). Sends nothing. */
  link(object: string, seconds: number, type: string): Promise<string>;
}

/** Makes what talks to one bucket. No request is sent yet. */
export async function openS3Requests(options: S3Options, url: string): Promise<S3Requests> {
  const { Client } = await import('minio');
  const endpoint = new URL(options.endpoint);
  const secure = endpoint.protocol === 'https:';
  const agent = secure
    ? new https.Agent({ keepAlive: true, ...(options.ca && { ca: [...rootCertificates, options.ca] }) })
    : new http.Agent({ keepAlive: true });
  const client = new Client({
    endPoint: endpoint.hostname.replace(/^\[|\]$/g, ''),
    port: Number(endpoint.port) || (secure ? 443 : 80),
    useSSL: secure,
    region: options.region,
    pathStyle: options.pathStyle,
    accessKey: options.accessKey,
    secretKey: options.secretKey,
    ...(options.sessionToken && { sessionToken: options.sessionToken }),
    // Its own retries print to the console and repeat conditional writes, whose first answer would be lost.
    retryOptions: { disableRetry: true },
    transportAgent: agent,
    transport: impatient(secure ? https : http),
  });
  const send: S3Send = async (request, accepted) => {
    for (let attempt = 1; ; attempt++) {
      try {
        const response = await sendOnce(client, options, request, url);
        if (accepted.includes(response.statusCode ?? 0)) return response;
        throw await refusal(response, request, url, options.bucket);
      } catch (error) {
        const again = error instanceof UpstreamError && error.retryable && request.repeatable;
        if (!again || attempt === attempts) throw error;
        await wait(100 * 2 ** attempt * (0.5 + Math.random()));
      }
    }
  };
  return {
    send,
    link: (object, seconds, type) =>
      client.presignedGetObject(options.bucket, object, seconds, { 'response-content-type': type }),
  };
}

async function sendOnce(
  client: Client,
  options: S3Options,
  request: S3Request,
  url: string,
): Promise<IncomingMessage> {
  const { method, object, query, headers, body } = request;
  try {
    return await client.makeRequestAsync(
      {
        method,
        bucketName: options.bucket,
        ...(object !== undefined && { objectName: object }),
        ...(query !== undefined && { query }),
        headers: { ...headers },
      },
      body ?? '',
      everyStatus,
      options.region,
    );
  } catch (cause) {
    const message = cause instanceof Error ? cause.message || String(cause) : String(cause);
    const status = /HTTP status: (\d+)/.exec(message)?.[1];
    throw new UpstreamError(
      'store',
      `${url} ${status ? `answered ${status}` : `cannot be reached: ${message}`}`,
      {
        retryable: true,
        cause,
        ...(status && { status: Number(status) }),
      },
    );
  }
}

/** What an answer that was not accepted means (S3 API reference, "Error responses"). */
async function refusal(
  response: IncomingMessage,
  request: S3Request,
  url: string,
  bucket: string,
): Promise<UserError | UpstreamError> {
  const status = response.statusCode ?? 0;
  const body = await text(response);
  const code = xmlText(body, 'Code');
  const what = `${request.method} ${request.object ?? ''}`.trim();
  const said = `${url} ${what}: ${status} ${code ?? ''} ${xmlText(body, 'Message') ?? ''}`.trim();
  if (status === 403 || status === 401 || code === 'ExpiredToken' || code === 'InvalidToken') {
    return new UserError('store-denied', said);
  }
  if (code === 'NoSuchBucket') {
    return new UserError('config-invalid', said, `make the bucket ${bucket}, or correct the store's URL`);
  }
  if (status === 501) return new UserError('store-unsupported', said);
  return new UpstreamError('store', said, { retryable: status >= 500 || status === 429, status });
}

/** The text of the first element of this name, or null. S3's answers are flat enough for that. */
export function xmlText(xml: string, name: string): string | null {
  const found = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
  if (found === undefined) return null;
  return found
    .replaceAll('&quot;', '"')
    .replaceAll('&#34;', '"')
    .replaceAll('&apos;', "'")
    .replaceAll('&#39;', "'")
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&');
}

/** A transport that gives up on a store which accepts a connection and then says nothing. */
function impatient(protocol: Pick<typeof http, 'request'>): Pick<typeof http, 'request'> {
  const request = (
    options: http.RequestOptions,
    callback: (response: IncomingMessage) => void,
  ): http.ClientRequest => {
    const sent = protocol.request(options, callback);
    const silence = (seconds: number) =>
      sent.setTimeout(seconds * 1000, () => sent.destroy(new Error(`no data for ${seconds} s`)));
    silence(60);
    // A reader may pause for long while it works on what it has.
    sent.once('response', () => silence(600));
    return sent;
  };
  return { request } as Pick<typeof http, 'request'>;
}
