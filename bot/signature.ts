import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

/** Secrets a delivery may be signed with. `signing` are `whsec_…` tokens (two while one is being replaced). */
export interface WebhookSecrets {
  signing: readonly string[];
  /** For forges that do not sign (GitLab before 19.0); null refuses deliveries without a signature. */
  token: string | null;
}

/** Whether a delivery is genuine, and under which id it is remembered. */
export type Verified = { ok: true; id: string } | { ok: false; reason: string };

/** Seconds a delivery may be early or late (Standard Webhooks, verifying webhook authenticity). */
const tolerance = 5 * 60;

type Headers = Readonly<Record<string, string | string[] | undefined>>;

const one = (headers: Headers, name: string): string | null => {
  const value = headers[name];
  return typeof value === 'string' && value !== '' ? value : null;
};

/** Compares without telling by time where two texts differ, or how long the secret is. */
export function isSameText(a: string, b: string): boolean {
  const [x, y] = [a, b].map((text) => createHash('sha256').update(text).digest());
  return timingSafeEqual(x!, y!);
}

/** The signature of a body (Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, key after `whsec_` in base64). */
export function signWebhook(signingToken: string, id: string, timestamp: string, body: Buffer): string {
  const key = Buffer.from(signingToken.replace(/^whsec_/, ''), 'base64');
  const mac = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64');
  return `v1,${mac}`;
}

/**
 * Verifies a delivery of GitLab: by signature when there is one (any of those listed may match), else by the secret
 * token. `now` in milliseconds. A delivery with a wrong signature is refused even if the token is right.
 */
export function verifyWebhook(
  headers: Headers,
  body: Buffer,
  secrets: WebhookSecrets,
  now: number,
): Verified {
  const signatures = one(headers, 'webhook-signature');
  const id = one(headers, 'webhook-id') ?? one(headers, 'idempotency-key');
  if (!id || id.length > 200) return { ok: false, reason: 'no delivery id' };
  if (signatures) {
    const timestamp = one(headers, 'webhook-timestamp') ?? '';
    if (!/^\d{1,12}$/.test(timestamp)) return { ok: false, reason: 'no timestamp' };
    if (one(headers, 'webhook-id') === null) return { ok: false, reason: 'no delivery id' };
    const expected = secrets.signing.map((token) => signWebhook(token, id, timestamp, body));
    const given = signatures.split(' ').slice(0, 10);
    let matches = false;
    for (const signature of given) {
      for (const wanted of expected) matches = isSameText(signature, wanted) || matches;
    }
    if (!matches) return { ok: false, reason: 'wrong signature' };
    if (Math.abs(now / 1000 - Number(timestamp)) > tolerance)
      return { ok: false, reason: 'too old or too new' };
    return { ok: true, id };
  }
  if (secrets.token === null) return { ok: false, reason: 'not signed' };
  const token = one(headers, 'x-gitlab-token');
  if (token === null || !isSameText(token, secrets.token)) return { ok: false, reason: 'wrong token' };
  return { ok: true, id };
}
