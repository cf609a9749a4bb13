import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { UpstreamError, UserError } from '../core/error.ts';
import { checkKey, checkRange } from './key.ts';
import { openS3Requests, type S3Options, type S3Send, xmlText } from './s3-request.ts';
import { copyLimit, copyParts, partsOf, uploadParts } from './s3-upload.ts';
import type { Entry, ObjectStore, PutResult, Range } from './types.ts';

/** The parts of an `s3://bucket/prefix?endpoint=…&region=…&path-style=…` URL. Throws UserError config-invalid. */
export function parseS3Url(
  url: string,
): Pick<S3Options, 'endpoint' | 'bucket' | 'prefix' | 'region' | 'pathStyle'> {
  const wrong = (why: string) =>
    new UserError(
      'config-invalid',
      `the store ${url}: ${why}`,
      'use s3://bucket/prefix?endpoint=https://host:port&region=us-east-1',
    );
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (!parsed?.hostname) throw wrong('it names no bucket');
  if (parsed.username || parsed.password) throw wrong('credentials do not belong into a URL');
  const known = new Set(['endpoint', 'region', 'path-style']);
  const unknown = [...parsed.searchParams.keys()].find((name) => !known.has(name));
  if (unknown) throw wrong(`unknown parameter ${unknown}`);
  const region = parsed.searchParams.get('region') ?? 'us-east-1';
  const given = parsed.searchParams.get('endpoint');
  const endpoint = given ?? `https://s3.${region}.amazonaws.com`;
  if (!/^https?:$/.test(URL.canParse(endpoint) ? new URL(endpoint).protocol : '')) {
    throw wrong(`the endpoint ${endpoint} is no http or https address`);
  }
  const style = parsed.searchParams.get('path-style') ?? String(given !== null);
  if (style !== 'true' && style !== 'false') throw wrong('path-style is true or false');
  const prefix = decodeURIComponent(parsed.pathname).replace(/^\/+|\/+$/g, '');
  if (prefix !== '') checkKey(prefix);
  return { endpoint, bucket: parsed.hostname, prefix, region, pathStyle: style === 'true' };
}

/** Answers of a conditional write: done; the condition does not hold (RFC 9110 §15.5.13), nothing to compare with, a race. */
const conditional = [200, 404, 409, 412];

/**
 * Opens a bucket of MinIO, AWS S3 or any store with conditional writes (`If-None-Match: *` and `If-Match` on PutObject and
 * CompleteMultipartUpload). Whether it has them is tried out on the object `.cdl-probe`, for some stores take the headers
 * and write all the same: at opening, or, where these credentials may not write there, beside the first conditional write.
 * Throws UserError store-unsupported, store-denied, config-invalid (no such bucket); UpstreamError, retryable for 5xx and
 * network failures. Reads and unconditional writes were then already repeated.
 */
export async function openS3Store(options: S3Options): Promise<ObjectStore> {
  const before = options.prefix === '' ? '' : `${options.prefix}/`;
  const url = `s3://${options.bucket}/${options.prefix}?endpoint=${options.endpoint}`;
  const { send, link } = await openS3Requests(options, url);
  let proven = options.readOnly ? false : await probe(send, `${before}.cdl-probe`, url);

  const objectOf = (key: string): string => {
    checkKey(key);
    return before + key;
  };

  async function stat(key: string): Promise<Entry | null> {
    const response = await send({ method: 'HEAD', object: objectOf(key), repeatable: true }, [200, 404]);
    response.resume();
    return response.statusCode === 404 ? null : entryOf(key, response);
  }

  async function open(key: string, range?: Range): Promise<{ entry: Entry; body: Readable } | null> {
    if (range) checkRange(range);
    const object = objectOf(key);
    const nothing = async () => {
      const entry = await stat(key);
      return entry && { entry, body: Readable.from([], { objectMode: false }) };
    };
    if (range?.length === 0) return nothing();
    const headers = range && { range: `bytes=${range.offset}-${range.offset + range.length - 1}` };
    const response = await send(
      { method: 'GET', object, ...(headers && { headers }), repeatable: true },
      range ? [200, 206, 404, 416] : [200, 404],
    );
    // The part begins at the object's end or beyond (RFC 9110 §15.5.17).
    if (response.statusCode === 416) {
      response.resume();
      return nothing();
    }
    if (await isAbsent(response, options.bucket, url)) return null;
    const entry = entryOf(key, response);
    if (range && response.statusCode === 200 && (range.offset > 0 || range.length < entry.size)) {
      response.destroy();
      throw new UserError('store-unsupported', `${url} answers with whole objects when asked for a part`);
    }
    return { entry, body: readable(response, `${url} ${key}`) };
  }

  async function* list(prefix: string): AsyncGenerator<Entry> {
    for (let token: string | null = ''; token !== null; ) {
      const query = [
        ...(token ? [`continuation-token=${encode(token)}`] : []),
        'encoding-type=url',
        'list-type=2',
        `prefix=${encode(before + prefix)}`,
      ].join('&');
      const page = await text(await send({ method: 'GET', query, repeatable: true }, [200]));
      for (const [, content = ''] of page.matchAll(/<Contents>(.*?)<\/Contents>/gs)) {
        // In url encoding a space is a plus (S3 API reference, ListObjectsV2, encoding-type).
        const object = decodeURIComponent((xmlText(content, 'Key') ?? '').replaceAll('+', ' '));
        const key = object.slice(before.length);
        yield {
          key,
          size: Number(xmlText(content, 'Size')),
          etag: xmlText(content, 'ETag') ?? '',
          modified: Date.parse(xmlText(content, 'LastModified') ?? ''),
        };
      }
      token = xmlText(page, 'IsTruncated') === 'true' ? xmlText(page, 'NextContinuationToken') : null;
    }
  }

  return {
    url,
    open,
    stat,
    get: async (key, range) => (await open(key, range))?.body ?? null,

    list,
    async *listKeys(prefix) {
      for await (const { key } of list(prefix)) yield key;
    },

    touch: (key) => touch(key, objectOf(key)),
    link: (key, { seconds, type }) => link(objectOf(key), seconds, type),

    async delete(key, only) {
      const found = only === undefined ? null : await stat(key);
      if (found && found.modified >= only!.before) return false;
      const request = { method: 'DELETE', object: objectOf(key), repeatable: true } as const;
      (await send(request, [200, 204, 404])).resume();
      return true;
    },

    async put(key, body, { ifAbsent, ifMatch } = {}): Promise<PutResult> {
      const object = objectOf(key);
      const conditions: Record<string, string> = {};
      if (ifAbsent) conditions['if-none-match'] = '*';
      if (ifMatch !== undefined) conditions['if-match'] = ifMatch;
      const isPlain = !ifAbsent && ifMatch === undefined;
      if (!isPlain && !proven) {
        const zone = key.includes('/') ? key.slice(0, key.indexOf('/') + 1) : '';
        if (!(await probe(send, `${before}${zone}.cdl-probe`, url))) {
          throw new UserError('store-denied', `${url}: these credentials may not write ${key}`);
        }
        proven = true;
      }
      for (let attempt = 1; ; attempt++) {
        const status = await write(object, body, conditions, isPlain ? [200] : conditional);
        if (status === 200) return 'stored';
        if (ifMatch !== undefined) return 'changed';
        if (status === 412) return 'exists';
        // 409: another write of this key is under way and may yet fail (S3 user guide, "Conditional requests").
        if (status !== 409 || body instanceof Readable || attempt === 5) {
          throw new UpstreamError('store', `${url} PUT ${key}: ${status}`, { retryable: true, status });
        }
      }
    },
  };

  /** A copy of an object onto itself (S3 API reference, CopyObject; at most 5 GiB, so larger ones in parts). */
  async function touch(key: string, object: string): Promise<boolean> {
    const entry = await stat(key);
    if (!entry) return false;
    const source = `/${options.bucket}/${object}`.split('/').map(encode).join('/');
    if (entry.size > copyLimit) return copyParts(send, object, source, entry);
    const headers = { 'x-amz-copy-source': source, 'x-amz-metadata-directive': 'REPLACE' };
    const response = await send({ method: 'PUT', object, headers, repeatable: true }, [200, 404]);
    if (await isAbsent(response, options.bucket, url)) return false;
    const failure = xmlText(await text(response), 'Code');
    if (failure) throw new UpstreamError('store', `${url} copy ${key}: ${failure}`, { retryable: true });
    return true;
  }

  async function write(
    object: string,
    body: Readable | Uint8Array | string,
    conditions: Record<string, string>,
    accepted: number[],
  ): Promise<number> {
    const single = async (bytes: Buffer) => {
      const repeatable = accepted.length === 1;
      const request = { method: 'PUT', object, headers: conditions, body: bytes, repeatable } as const;
      const response = await send(request, accepted);
      if (await isAbsent(response, options.bucket, url)) return 404;
      response.resume();
      return response.statusCode ?? 0;
    };
    if (!(body instanceof Readable)) return single(Buffer.from(body));
    const parts = partsOf(body);
    const first = await parts.next();
    const second = first.done ? first : await parts.next();
    if (second.done) return single(first.done ? Buffer.alloc(0) : first.value);
    const all = async function* () {
      yield first.value as Buffer;
      yield second.value as Buffer;
      yield* parts;
    };
    return uploadParts(send, object, all(), conditions, accepted);
  }
}

const encode = (value: string): string =>
  encodeURIComponent(value).replace(
    /[!'()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  );

/** Whether conditional writes work here: true, false when these credentials may not write this object. */
async function probe(send: S3Send, object: string, url: string): Promise<boolean> {
  const attempt = async (headers: Record<string, string>) => {
    const body = Buffer.from('cdl tries out conditional writes on this object\n');
    const response = await send(
      { method: 'PUT', object, headers, body, repeatable: true },
      [200, 403, 404, 409, 412],
    );
    const answer = await text(response);
    return { status: response.statusCode ?? 0, code: xmlText(answer, 'Code'), answer };
  };
  const first = await attempt({ 'if-none-match': '*' });
  if (first.status === 403) {
    if (first.code === 'AccessDenied') return false;
    throw new UserError('store-denied', `${url}: ${first.code} ${xmlText(first.answer, 'Message') ?? ''}`);
  }
  if (first.code === 'NoSuchBucket') {
    throw new UserError('config-invalid', `${url}: there is no such bucket`, 'make it, or correct the URL');
  }
  const taken = first.status === 200 ? await attempt({ 'if-none-match': '*' }) : first;
  const changed = await attempt({ 'if-match': '"00000000000000000000000000000000"' });
  if (![409, 412].includes(taken.status) || ![409, 412].includes(changed.status)) {
    throw new UserError(
      'store-unsupported',
      `${url} has no conditional writes: it answered ${taken.status} and ${changed.status} where 412 was due`,
    );
  }
  return true;
}

function entryOf(key: string, response: IncomingMessage): Entry {
  const whole = /\/(\d+)$/.exec(response.headers['content-range'] ?? '')?.[1];
  return {
    key,
    size: Number(whole ?? response.headers['content-length']),
    etag: String(response.headers.etag),
    modified: Date.parse(response.headers['last-modified'] ?? ''),
  };
}

/** Tells an absent object (true) from an absent bucket (UserError); reads the body of a 404, and of nothing else. */
async function isAbsent(response: IncomingMessage, bucket: string, url: string): Promise<boolean> {
  if (response.statusCode !== 404) return false;
  if (xmlText(await text(response), 'Code') !== 'NoSuchBucket') return true;
  throw new UserError(
    'config-invalid',
    `${url}: there is no bucket ${bucket}`,
    'make it, or correct the URL',
  );
}

/** The body of an answer, whose breaking-off is an UpstreamError. */
function readable(response: IncomingMessage, what: string): Readable {
  // The stream itself, not one around it, which would handle every chunk once more: only what it fails with is another.
  const destroy = response._destroy.bind(response);
  response._destroy = (cause, done) => {
    if (!cause) return destroy(cause, done);
    const error = new UpstreamError('store', `${what} broke off: ${cause.message}`, {
      retryable: true,
      cause,
    });
    return destroy(error, done);
  };
  return response;
}
