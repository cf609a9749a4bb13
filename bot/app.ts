import { type FastifyInstance, fastify } from 'fastify';
import { isOfBucket, registrationIn } from './bucket.ts';
import { type Receiver, receiveEvent } from './event.ts';
import { readEvent } from './gitlab.ts';
import { type BotMetrics, metricsText } from './metrics.ts';
import { fromDelivery, type Origin, originOf } from './origin.ts';
import { verifyWebhook, type WebhookSecrets } from './signature.ts';
import { type Tracing, untraced } from './trace.ts';

export type { Receiver } from './event.ts';

/** A request that is not a delivery: the bot answers it, not its reception. */
export interface ForwardedRequest {
  method: string;
  url: string;
  headers: Record<string, string | string[] | undefined>;
  /** Empty when there is none. */
  body: Uint8Array;
}

/** What the bot answers to one. */
export interface ForwardedAnswer {
  status: number;
  headers: Record<string, string | string[] | number | undefined>;
  body: Uint8Array;
}

/** GitLab's payloads are small; a push of many commits is cut at 20. */
const largestBody = 5 * 1024 * 1024;

/** What people and machines look at. */
function addPages(app: FastifyInstance, metrics: BotMetrics): void {
  app.get('/healthz', async () => ({ status: 'ok' }));
  app.get('/metrics', async (_request, reply) =>
    reply.type(metrics.registry.contentType).send(await metricsText(metrics)),
  );
}

/** `POST /webhooks/bucket`: something was registered, so every project looks at the changes that wait for it. */
function mountBucket(
  app: FastifyInstance,
  {
    receivers,
    metrics,
    token,
  }: { receivers: ReadonlyMap<string, Receiver>; metrics: BotMetrics; token: string },
): void {
  app.post('/webhooks/bucket', async (request, reply) => {
    if (!isOfBucket(request.headers.authorization, token)) {
      metrics.deliveries.inc({ outcome: 'refused' });
      return reply.code(401).send({ error: 'wrong token' });
    }
    let id: string | null = null;
    try {
      id = registrationIn(JSON.parse(String(request.body)));
    } catch {
      metrics.deliveries.inc({ outcome: 'refused' });
      return reply.code(400).send({ error: 'not JSON' });
    }
    let outcome: 'ignored' | 'repeated' | 'queued' = id === null ? 'ignored' : 'repeated';
    for (const [project, receiver] of id === null ? [] : receivers) {
      if (await receiver.take(`${id} ${project}`, [{ kind: 'registry' }])) outcome = 'queued';
    }
    metrics.deliveries.inc({ outcome });
    if (outcome === 'ignored') return reply.code(204).send();
    return reply.code(outcome === 'queued' ? 202 : 200).send({ queued: outcome === 'queued' });
  });
}

/**
 * The bot's HTTP side. `POST /webhooks/gitlab` verifies, remembers the delivery, queues and answers at once: GitLab waits 10
 * seconds and does not deliver again. `receivers` by path of the project.
 */
export function createApp(options: {
  receivers: ReadonlyMap<string, Receiver>;
  /** Null where no GitLab is. */
  secrets: WebhookSecrets | null;
  /** What notifications of the store's bucket carry; without it none are taken. */
  bucketToken?: string | null;
  metrics: BotMetrics;
  now(): number;
  onError(error: unknown, about?: Origin): void;
  tracing?: Tracing;
  /** Where only deliveries are taken in: who answers everything else. */
  forward?: (request: ForwardedRequest) => Promise<ForwardedAnswer>;
}): FastifyInstance {
  const { receivers, secrets, metrics, tracing = untraced } = options;
  // What came before it was told to close is taken in, and answered.
  const app = fastify({ logger: false, bodyLimit: largestBody, return503OnClosing: false });
  // The signature is over the bytes as they came.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  const origins = new WeakMap<object, Origin>();
  app.setErrorHandler(async (error, request, reply) => {
    const status = (error as { statusCode?: number }).statusCode ?? 500;
    if (status >= 500) options.onError(error, origins.get(request));
    return reply.code(status).send({ error: status >= 500 ? 'try again' : 'refused' });
  });
  app.addHook('onResponse', async ({ url }, reply) => {
    const forge = /^\/webhooks\/(gitlab|github)$/.exec(url.split('?', 1)[0] ?? '')?.[1];
    if (forge) metrics.deliverySeconds.observe({ forge }, reply.elapsedTime / 1000);
  });
  const { forward } = options;
  if (forward) {
    app.setNotFoundHandler(async ({ method, url, headers, body }, reply) => {
      const answer = await forward({
        method,
        url,
        headers,
        body: Buffer.isBuffer(body) ? body : Buffer.alloc(0),
      });
      return reply.code(answer.status).headers(answer.headers).send(Buffer.from(answer.body));
    });
  } else addPages(app, metrics);
  if (options.bucketToken) mountBucket(app, { ...options, token: options.bucketToken });
  if (secrets === null) return app;
  app.post('/webhooks/gitlab', async (request, reply) => {
    const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
    const verified = verifyWebhook(request.headers, body, secrets, options.now());
    if (!verified.ok) {
      metrics.deliveries.inc({ outcome: 'refused' });
      return reply.code(401).send({ error: verified.reason });
    }
    let payload: unknown;
    try {
      payload = JSON.parse(body.toString('utf8'));
    } catch {
      metrics.deliveries.inc({ outcome: 'refused' });
      return reply.code(400).send({ error: 'not JSON' });
    }
    const outcome = await fromDelivery(verified.id, () =>
      tracing.run('webhook gitlab', { kind: 'server' }, () => {
        origins.set(request, originOf(tracing));
        return receiveEvent(receivers, verified.id, readEvent(payload));
      }),
    );
    metrics.deliveries.inc({ outcome });
    if (outcome === 'ignored') return reply.code(204).send();
    return reply.code(outcome === 'queued' ? 202 : 200).send({ queued: outcome === 'queued' });
  });
  return app;
}
