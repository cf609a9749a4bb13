import { Counter, collectDefaultMetrics, Registry } from 'prom-client';

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
