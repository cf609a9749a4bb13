import { AggregatorRegistry, Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { watchForge } from '../src/index.ts';

/** What one thread counted (prom-client, `getMetricsAsJSON`). */
export type ThreadMetrics = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

/** Counters of the bot, by what happened. */
export interface BotMetrics {
  registry: Registry;
  /** What another thread of the bot counted last, under the same names. */
  others: ThreadMetrics;
  /** Measures what is not counted as it happens, before each look. */
  refresh(): Promise<void>;
  deliveries: Counter<'outcome'>;
  tasks: Counter<'kind' | 'outcome'>;
  /** Webhooks of ours that were gone, changed or switched off. */
  hookRepairs: Counter<'what' | 'outcome'>;
  /** From a delivery's first byte to the answer. */
  deliverySeconds: Histogram<'forge'>;
  taskSeconds: Histogram<'kind' | 'outcome'>;
  queueTasks: Gauge<'state'>;
  queueOldest: Gauge<'state'>;
  forgeRequests: Counter<'method' | 'route' | 'status'>;
  forgeSeconds: Histogram<'method'>;
  forgeRetries: Counter<string>;
  forgeLimitWait: Counter<string>;
  /** Unix time of the last look that went well. */
  reconciled: Gauge<'project'>;
  reports: Counter<'outcome'>;
  decisions: Counter<'kind'>;
  build: Gauge<'version' | 'node'>;
}

/** Fresh metrics; a process may hold more than one bot. `process`: with those of the process itself. */
export function createMetrics({ process = true } = {}): BotMetrics {
  const registry = new Registry();
  if (process) collectDefaultMetrics({ register: registry });
  return {
    registry,
    others: [],
    refresh: async () => {},
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
    deliverySeconds: new Histogram({
      name: 'cdl_bot_delivery_duration_seconds',
      help: 'Time in which webhook deliveries were answered',
      labelNames: ['forge'],
      buckets: [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5, 10],
      registers: [registry],
    }),
    taskSeconds: new Histogram({
      name: 'cdl_bot_task_duration_seconds',
      help: 'Time that tasks took, by what became of them',
      labelNames: ['kind', 'outcome'],
      buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
      registers: [registry],
    }),
    queueTasks: new Gauge({
      name: 'cdl_bot_queue_tasks',
      help: 'Tasks in the queue by state; dead ones are dead letters. The same from every bot on one database',
      labelNames: ['state'],
      registers: [registry],
    }),
    queueOldest: new Gauge({
      name: 'cdl_bot_queue_oldest_seconds',
      help: 'How long the oldest task of a state has been in it; 0 for dead letters, whose time nobody keeps',
      labelNames: ['state'],
      registers: [registry],
    }),
    forgeRequests: new Counter({
      name: 'cdl_bot_forge_requests_total',
      help: 'Requests to the forge, each try counted, by route and HTTP status or what went wrong with the connection',
      labelNames: ['method', 'route', 'status'],
      registers: [registry],
    }),
    forgeSeconds: new Histogram({
      name: 'cdl_bot_forge_request_duration_seconds',
      help: 'Time until the forge began to answer',
      labelNames: ['method'],
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers: [registry],
    }),
    forgeRetries: new Counter({
      name: 'cdl_bot_forge_retries_total',
      help: 'Requests to the forge that were sent again',
      registers: [registry],
    }),
    forgeLimitWait: new Counter({
      name: 'cdl_bot_forge_rate_limit_wait_seconds_total',
      help: 'Time spent waiting because the rate limit of the forge was used up',
      registers: [registry],
    }),
    reconciled: new Gauge({
      name: 'cdl_bot_reconcile_last_success_timestamp_seconds',
      help: 'When the last look for what no webhook told ended well, in Unix time; 0 until the first',
      labelNames: ['project'],
      registers: [registry],
    }),
    reports: new Counter({
      name: 'cdl_bot_reports_total',
      help: 'Reports on changes: written, or found to say the same already',
      labelNames: ['outcome'],
      registers: [registry],
    }),
    decisions: new Counter({
      name: 'cdl_bot_decisions_total',
      help: 'Decisions that were signed, by kind; data is the approval of a data version',
      labelNames: ['kind'],
      registers: [registry],
    }),
    build: new Gauge({
      name: 'cdl_bot_build_info',
      help: 'Always 1; its labels say what runs',
      labelNames: ['version', 'node'],
      registers: [registry],
    }),
  };
}

/** Counts this thread's requests to forges until the returned function is called. */
export function countForge(metrics: BotMetrics): () => void {
  return watchForge(({ method, route, outcome, seconds, retryIn, isLimited, held }) => {
    metrics.forgeRequests.inc({ method, route, status: outcome });
    metrics.forgeSeconds.observe({ method }, seconds);
    metrics.forgeLimitWait.inc(held);
    if (retryIn === null) return;
    metrics.forgeRetries.inc();
    if (isLimited) metrics.forgeLimitWait.inc(retryIn);
  });
}

/** The page for Prometheus: what all threads counted, added up. */
export async function metricsText(metrics: BotMetrics): Promise<string> {
  await metrics.refresh();
  const { registry, others } = metrics;
  const all = [await registry.getMetricsAsJSON(), others];
  return AggregatorRegistry.aggregate(all as unknown as object[]).metrics();
}
