import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { UpstreamError } from '../core/error.ts';
import { type S3Send, xmlText } from './s3-request.ts';
import type { Entry } from './types.ts';

/** Bodies up to this many bytes go in one request; also the size of the first parts of a larger one. */
export const partSize = 16 * 1024 * 1024;

const atOnce = 3;

/**
 * The chunks of a stream gathered into parts. Later ones are larger, so that the 10 000 parts S3 allows hold 5 TiB, its
 * largest object.
 */
export async function* partsOf(body: Readable): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let size = 0;
  let count = 0;
  for await (const chunk of body) {
    const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk);
    held.push(bytes);
    size += bytes.length;
    const wanted = partSize * 2 ** Math.floor(count / 1500);
    if (size >= wanted) {
      yield Buffer.concat(held);
      count++;
      held = [];
      size = 0;
    }
  }
  if (size > 0) yield Buffer.concat(held);
}

/**
 * Uploads parts and joins them in one last, conditional request, whose status it returns; until then nothing is to be seen.
 * A failure aborts the upload. What a killed process left is never visible; the bucket's lifecycle rule removes it
 * (MinIO does so by itself after a day).
 */
export function uploadParts(
  send: S3Send,
  object: string,
  parts: AsyncIterable<Buffer>,
  conditions: Record<string, string>,
  accepted: readonly number[],
): Promise<number> {
  const sendPart = async (query: string, body: Buffer) => {
    const response = await send({ method: 'PUT', object, query, body, repeatable: true }, [200]);
    response.resume();
    return String(response.headers.etag);
  };
  return joinParts(send, object, parts, sendPart, conditions, accepted);
}

/** Objects up to this many bytes are copied in one request (S3 API reference, CopyObject). */
export const copyLimit = 5 * 1024 ** 3;

/**
 * Copies an object onto itself in parts (S3 API reference, UploadPartCopy), which makes it young. False when another one
 * took its place meanwhile.
 */
export async function copyParts(
  send: S3Send,
  object: string,
  source: string,
  entry: Entry,
): Promise<boolean> {
  const step = 1024 ** 3;
  const ranges = async function* () {
    for (let start = 0; start < entry.size; start += step) {
      yield `bytes=${start}-${Math.min(start + step, entry.size) - 1}`;
    }
  };
  const copyPart = async (query: string, range: string) => {
    const headers = {
      'x-amz-copy-source': source,
      'x-amz-copy-source-range': range,
      'x-amz-copy-source-if-match': entry.etag,
    };
    const answer = await text(await send({ method: 'PUT', object, query, headers, repeatable: true }, [200]));
    const etag = xmlText(answer, 'ETag');
    if (!etag) throw new UpstreamError('store', `${object}: a part was not copied`, { retryable: true });
    return etag;
  };
  const conditions = { 'if-match': entry.etag };
  const status = await joinParts(send, object, ranges(), copyPart, conditions, [200, 404, 409, 412]);
  return status === 200;
}

async function joinParts<P>(
  send: S3Send,
  object: string,
  parts: AsyncIterable<P>,
  sendPart: (query: string, part: P) => Promise<string>,
  conditions: Record<string, string>,
  accepted: readonly number[],
): Promise<number> {
  const started = await send({ method: 'POST', object, query: 'uploads=', repeatable: true }, [200]);
  const id = xmlText(await text(started), 'UploadId');
  if (!id) throw new UpstreamError('store', `${object}: no upload id was given`, { retryable: false });
  const upload = `uploadId=${encodeURIComponent(id)}`;
  const running = new Set<Promise<void>>();
  try {
    const etags: string[] = [];
    for await (const part of parts) {
      const number = etags.push('');
      const sending = (async () => {
        etags[number - 1] = await sendPart(`partNumber=${number}&${upload}`, part);
      })();
      running.add(sending);
      sending.then(
        () => running.delete(sending),
        () => undefined,
      );
      if (running.size >= atOnce) await Promise.race(running);
    }
    await Promise.all(running);
    const list = etags.map(
      (etag, index) => `<Part><PartNumber>${index + 1}</PartNumber><ETag>${etag}</ETag></Part>`,
    );
    const body = Buffer.from(`<CompleteMultipartUpload>${list.join('')}</CompleteMultipartUpload>`);
    const done = await send(
      { method: 'POST', object, query: upload, headers: conditions, body, repeatable: false },
      accepted,
    );
    const answer = await text(done);
    // S3 answers 200 before it has joined the parts, and may then say in the body that it could not.
    const failure = xmlText(answer, 'Code');
    const status = done.statusCode ?? 0;
    if (status === 200 && failure) {
      throw new UpstreamError('store', `${object}: ${failure}`, { retryable: true });
    }
    if (status !== 200) await abort();
    return status;
  } catch (error) {
    await Promise.allSettled(running);
    await abort();
    throw error;
  }

  /** Tidying up only: when it fails, the first error is the one worth reading. */
  async function abort(): Promise<void> {
    const request = { method: 'DELETE', object, query: upload, repeatable: false } as const;
    await send(request, [200, 204, 404]).then(
      (response) => response.resume(),
      () => undefined,
    );
  }
}
