import { createHash } from 'node:crypto';
import { z } from 'zod';
import { isSameText } from './signature.ts';

const eventSchema = z.object({
  Records: z
    .array(
      z.object({
        eventName: z.string(),
        s3: z.object({
          object: z.object({
            key: z.string(),
            eTag: z.string().default(''),
            sequencer: z.string().default(''),
          }),
        }),
      }),
    )
    .max(1000),
});

/**
 * Whether a notification of a bucket carries the token that MinIO was given (`MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN`), which it
 * sends as `Authorization: Bearer …`.
 */
export function isOfBucket(authorization: string | undefined, token: string): boolean {
  return isSameText(authorization ?? '', `Bearer ${token}`);
}

/**
 * An id of the registry records that a notification (S3 event message structure 2.x) says were written, the same for the
 * same write; null when it is about none. Nothing else of it counts: what was registered is read from the store.
 */
export function registrationIn(payload: unknown): string | null {
  const parsed = eventSchema.safeParse(payload);
  if (!parsed.success) return null;
  const written = parsed.data.Records.filter(
    ({ eventName, s3 }) =>
      /^(?:s3:)?ObjectCreated:/.test(eventName) &&
      // Keys of events are encoded as in forms; of ours only `/` may be.
      /(?:^|\/)records\/versions\//.test(s3.object.key.replaceAll(/%2f/gi, '/')),
  ).map(({ s3 }) => s3.object);
  if (written.length === 0) return null;
  const hash = createHash('sha256');
  for (const { key, eTag, sequencer } of written) hash.update(JSON.stringify([key, eTag, sequencer]));
  return `bucket-${hash.digest('hex').slice(0, 40)}`;
}
