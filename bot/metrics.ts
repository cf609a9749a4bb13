import { AggregatorRegistry, Counter, collectDefaultMetrics, Registry } from 'prom-client';

/** What one thread counted (prom-client, `getMetricsAsJSON`). */
export type ThreadMetrics = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

/** Counters of the bot, by what happened. */
export interface BotMetrics {
  registry: Registry;
  /** What another thread of the bot counted last, under the same names. */
  others: ThreadMetrics;
  deliveries: Counter<'outcome'>;
  tasks: Counter<'kind' | 'outcome'>;
  /** Webhooks of ours that were gone, changed or switched off. */
  hookRepairs: Counter<'what' | 'outcome'>;
}

/** Fresh metrics; a process may hold more than one bot. `process`: with those of the process itself. */
export function createMetrics({ process = true } = {}): BotMetrics {
  const registry = new Registry();
  if (process) collectDefaultMetrics({ register: registry });
  return {
    registry,
    others: [],
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

/** The page for Prometheus: what all threads counted, added up. */
export async function metricsText({ registry, others }: BotMetrics): Promise<string> {
  const all = [await registry.getMetricsAsJSON(), others];
  return AggregatorRegistry.aggregate(all as unknown as object[]).metrics();
}
