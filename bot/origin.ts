import { AsyncLocalStorage } from 'node:async_hooks';
import type { Tracing } from './trace.ts';

/** What a line of the log is about, where a webhook led to it: the forge's id of the delivery, and the trace (W3C Trace Context). */
export interface Origin {
  delivery?: string;
  trace_id?: string;
}

const deliveries = new AsyncLocalStorage<string>();

/** Does `work` as what the delivery with this id led to; null when none did. */
export function fromDelivery<T>(delivery: string | null, work: () => Promise<T>): Promise<T> {
  return delivery === null ? work() : deliveries.run(delivery, work);
}

/** The delivery that led to what is done here; null when none did. */
export function currentDelivery(): string | null {
  return deliveries.getStore() ?? null;
}

/**
 * The fields that every line of the log about the work going on carries; empty outside of any. `trace_id` as
 * OpenTelemetry names it in logs (specification, trace context in non-OTLP log formats).
 */
export function originOf(tracing: Pick<Tracing, 'parent'>): Origin {
  const delivery = currentDelivery();
  const trace = tracing.parent()?.split('-')[1];
  return { ...(delivery !== null && { delivery }), ...(trace !== undefined && { trace_id: trace }) };
}
