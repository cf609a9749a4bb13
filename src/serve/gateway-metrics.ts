import { get } from 'node:http';
import { mergeExpositions } from './exposition.ts';
import type { Passed } from './proxy.ts';
import type { Supervisor } from './supervisor.ts';

/** What the gateway counts of each version, and everything its server processes count. */
export interface GatewayMetrics {
  tried(route: { model: string; environment: string }, tried: Passed): void;
  /** Prometheus text, with the processes' own metrics labelled by `instance`. */
  text(): Promise<string>;
}

/** Opens the metrics of a gateway. `cdl_gateway_requests_total` has code 0 for tries that got no answer. */
export async function openGatewayMetrics(supervisor: Supervisor): Promise<GatewayMetrics> {
  const { Registry, Counter, Gauge, Histogram } = await import('prom-client');
  const registry = new Registry();
  const labelNames = ['model', 'environment', 'version', 'candidate'] as const;
  const requests = new Counter({
    name: 'cdl_gateway_requests_total',
    help: 'Tries of requests by the version that was asked, and what came of them.',
    labelNames: [...labelNames, 'code'],
    registers: [registry],
  });
  const duration = new Histogram({
    name: 'cdl_gateway_request_duration_seconds',
    help: 'Time a server process took to answer, as the gateway saw it.',
    labelNames: [...labelNames],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
    registers: [registry],
  });
  new Gauge({
    name: 'cdl_gateway_instances',
    help: 'Server processes that answer.',
    labelNames: [...labelNames],
    registers: [registry],
    collect() {
      this.reset();
      for (const { model, environment, versions } of supervisor.state()) {
        for (const { version, candidate, instances } of versions) {
          const ready = instances.filter((one) => one.status === 'ready').length;
          this.set({ model, environment, version: String(version), candidate }, ready);
        }
      }
    },
  });
  return {
    tried({ model, environment }, { picked, code, latency }) {
      const { version, candidate } = picked.version.spec;
      const labels = { model, environment, version: String(version), candidate };
      requests.inc({ ...labels, code: String(code) });
      duration.observe(labels, latency / 1000);
    },
    async text() {
      const parts = supervisor.ready().map(async ({ route, instance }) => ({
        labels: { environment: route.environment, instance: instance.id },
        text: await scrape(instance.port!),
      }));
      return mergeExpositions([
        { labels: {}, text: await registry.metrics() },
        ...(await Promise.all(parts)),
      ]);
    },
  };
}

/** The metrics of one process; empty when it does not answer, which its absence then tells. */
function scrape(port: number): Promise<string> {
  return new Promise((resolve) => {
    const asked = get({ host: '127.0.0.1', port, path: '/metrics', timeout: 2_000 }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
      response.on('error', () => resolve(''));
    });
    asked.on('timeout', () => asked.destroy());
    asked.on('error', () => resolve(''));
  });
}
