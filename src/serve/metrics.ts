import type { Servable } from './types.ts';

/** What a model server counts. Durations are in seconds, as Prometheus wants them. */
export interface ServerMetrics {
  contentType: string;
  requestStarted(): void;
  requestEnded(route: string, code: number, seconds: number): void;
  text(): Promise<string>;
}

/**
 * Opens the Prometheus metrics of one server: requests by route and code, a histogram of durations, requests in flight,
 * scoring records by fate, and the model's identity as labels of `cdl_model_info`.
 */
export async function openServerMetrics(
  info: Servable['info'],
  candidate: string,
  scores: () => { written: number; dropped: number },
): Promise<ServerMetrics> {
  const { Registry, Counter, Gauge, Histogram, collectDefaultMetrics } = await import('prom-client');
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const requests = new Counter({
    name: 'cdl_requests_total',
    help: 'Requests answered, by route and status code.',
    labelNames: ['route', 'code'],
    registers: [registry],
  });
  const duration = new Histogram({
    name: 'cdl_request_duration_seconds',
    help: 'Time from the first byte of a request to its answer.',
    labelNames: ['route'],
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
    registers: [registry],
  });
  const inFlight = new Gauge({
    name: 'cdl_requests_in_flight',
    help: 'Requests being answered.',
    registers: [registry],
  });
  new Gauge({
    name: 'cdl_model_info',
    help: 'Always 1; the labels say what is served.',
    labelNames: ['model', 'version', 'package', 'candidate'],
    registers: [registry],
  }).set({ model: info.model, version: info.version, package: info.package, candidate }, 1);
  new Counter({
    name: 'cdl_scoring_records_total',
    help: 'Scoring records by fate: written, or dropped because the log could not keep up.',
    labelNames: ['fate'],
    registers: [registry],
    collect() {
      this.reset();
      const { written, dropped } = scores();
      this.inc({ fate: 'written' }, written);
      this.inc({ fate: 'dropped' }, dropped);
    },
  });
  return {
    contentType: registry.contentType,
    requestStarted: () => inFlight.inc(),
    requestEnded(route, code, seconds) {
      inFlight.dec();
      requests.inc({ route, code: String(code) });
      duration.observe({ route }, seconds);
    },
    text: () => registry.metrics(),
  };
}
