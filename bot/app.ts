import { type FastifyInstance, fastify } from 'fastify';
import { Counter, collectDefaultMetrics, Registry } from 'prom-client';
import { type Receiver, receiveEvent } from './event.ts';
import { readEvent } from './gitlab.ts';
import { verifyWebhook, type WebhookSecrets } from './signature.ts';

export type { Receiver } from './event.ts';

/** Counters of the bot, by what happened. */
export interface BotMetrics {
  registry: Registry;
  deliveries: Counter<'outcome'>;
  tasks: Counter<'kind' | 'outcome'>;
  /** Webhooks of ours that were gone, changed or switched off. */
  hookRepairs: Counter<'what' | 'outcome'>;
}

/** Fresh metrics; a process may hold more than one bot. */
export function createMetrics(): BotMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return {
    registry,
    deliveries: new Counter({
      name: 'cdl_bot_deliveries_total',
      help: 'Webhook deliveries',
      labelNames: ['outcome'],
      registers: [registry],
    }),
    tasks: new Counter({
      name: 'cdl_bot_tasks_total',
      help: 'Tasks that were run',
      labelNames: ['kind', 'outcome'],
      registers: [registry],
    }),
    hookRepairs: new Counter({
      name: 'cdl_bot_webhook_repairs_total',
      help: 'Webhooks that were gone, changed or switched off, by what was done and whether it helped',
      labelNames: ['what', 'outcome'],
      registers: [registry],
    }),
  };
}

/** GitLab's payloads are small; a push of many commits is cut at 20. */
const largestBody = 5 * 1024 * 1024;

/**
 * The bot's HTTP side. `POST /webhooks/gitlab` verifies, remembers the delivery, queues and answers at once: GitLab waits 10
 * seconds and does not deliver again. `receivers` by path of the project.
 */
export function createApp(options: {
  receivers: ReadonlyMap<string, Receiver>;
  /** Null where no GitLab is. */
  secrets: WebhookSecrets | null;
  metrics: BotMetrics;
  now(): number;
  onError(error: unknown): void;
}): FastifyInstance {
  const { receivers, secrets, metrics } = options;
  const app = fastify({ logger: false, bodyLimit: largestBody, forceCloseConnections: true });
  // The signature is over the bytes as they came.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  app.setErrorHandler(async (error, _request, reply) => {
    const status = (error as { statusCode?: number }).statusCode ?? 500;
    if (status >= 500) options.onError(error);
    return reply.code(status).send({ error: status >= 500 ? 'try again' : 'refused' });
  });
  app.get('/healthz', async () => ({ status: 'ok' }));
  app.get('/metrics', async (_request, reply) =>
    reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
  );
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
    const outcome = await receiveEvent(receivers, verified.id, readEvent(payload));
    metrics.deliveries.inc({ outcome });
    if (outcome === 'ignored') return reply.code(204).send();
    return reply.code(outcome === 'queued' ? 202 : 200).send({ queued: outcome === 'queued' });
  });
  return app;
}
