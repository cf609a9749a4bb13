import { type FastifyInstance, fastify } from 'fastify';
import { Counter, collectDefaultMetrics, Registry } from 'prom-client';
import { readEvent } from './gitlab.ts';
import { verifyWebhook, type WebhookSecrets } from './signature.ts';
import type { Task } from './types.ts';

/** One project as the webhook side sees it. */
export interface Receiver {
  isKnownDelivery(id: string): Promise<boolean>;
  rememberDelivery(id: string): Promise<void>;
  enqueue(task: Task): Promise<void>;
  defaultBranch(): Promise<string>;
}

/** Counters of the bot, by what happened. */
export interface BotMetrics {
  registry: Registry;
  deliveries: Counter<'outcome'>;
  tasks: Counter<'kind' | 'outcome'>;
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
  };
}

/** GitLab's payloads are small; a push of many commits is cut at 20. */
const largestBody = 5 * 1024 * 1024;

async function queueEvent(
  receiver: Receiver,
  event: NonNullable<ReturnType<typeof readEvent>>,
): Promise<void> {
  switch (event.kind) {
    case 'change':
      await receiver.enqueue({ kind: 'change', change: event.change });
      // A merge changes the default branch's releases.
      await receiver.enqueue({ kind: 'branch' });
      return;
    case 'comment':
      return receiver.enqueue({ kind: 'comment', change: event.change, comment: event.comment });
    case 'pipeline':
      if (event.change !== null) return receiver.enqueue({ kind: 'change', change: event.change });
      // An evaluation or a deployment ended: which changes wait for it, the branch task finds out.
      return receiver.enqueue({ kind: 'branch' });
    case 'push':
      if (event.branch === (await receiver.defaultBranch())) await receiver.enqueue({ kind: 'branch' });
      return;
    case 'deployment':
      return receiver.enqueue({ kind: 'branch' });
  }
}

/**
 * The bot's HTTP side. `POST /webhooks/gitlab` verifies, remembers the delivery, queues and answers at once: GitLab waits 10
 * seconds and does not deliver again. `receivers` by path of the project.
 */
export function createApp(options: {
  receivers: ReadonlyMap<string, Receiver>;
  secrets: WebhookSecrets;
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
    const event = readEvent(payload);
    const receiver = event ? receivers.get(event.project) : undefined;
    if (!event || !receiver) {
      metrics.deliveries.inc({ outcome: 'ignored' });
      return reply.code(204).send();
    }
    if (await receiver.isKnownDelivery(verified.id)) {
      metrics.deliveries.inc({ outcome: 'repeated' });
      return reply.code(200).send({ queued: false });
    }
    // Queued before it is remembered: a crash in between does the work twice, which changes nothing, and never not at all.
    await queueEvent(receiver, event);
    await receiver.rememberDelivery(verified.id);
    metrics.deliveries.inc({ outcome: 'queued' });
    return reply.code(202).send({ queued: true });
  });
  return app;
}
