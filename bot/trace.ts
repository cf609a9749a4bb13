import { AsyncLocalStorage } from 'node:async_hooks';
import type { Attributes, Context, SpanKind } from '@opentelemetry/api';
import { describeError, watchForge } from '../src/index.ts';

/** Where traces go: OTLP over HTTP, as JSON. */
export interface TraceSettings {
  /** The whole URL, `…/v1/traces`. */
  url: string;
  /** For each request; may hold secrets. */
  headers: Record<string, string>;
  /** What the traces call this program (`service.name`). */
  service: string;
}

/** What a piece of work is to the others of its trace. */
export type TraceKind = 'server' | 'producer' | 'consumer' | 'internal';

/** Notes which work took how long, and what led to it. */
export interface Tracing {
  /** Does `work` as a span below the current one, or below `parent` (a `traceparent`, W3C Trace Context). */
  run<T>(
    name: string,
    options: { kind: TraceKind; parent?: string | null; attributes?: Attributes },
    work: () => Promise<T>,
  ): Promise<T>;
  /** The current span as a `traceparent`, to be carried elsewhere; null outside of any. */
  parent(): string | null;
  /** `target`, of which each call that takes time is a span `name method` when it is part of a trace. */
  port<T extends object>(name: string, target: T, attributes?: Attributes): T;
  /** Sends what is left. */
  close(): Promise<void>;
}

/** Notes nothing. */
export const untraced: Tracing = {
  run: (_name, _options, work) => work(),
  parent: () => null,
  port: (_name, target) => target,
  close: async () => {},
};

/** Milliseconds for one export, and between two. */
const patience = 3_000;
const pause = 1_000;

/** `version-trace-span-flags` (W3C Trace Context, 3.2). */
const form = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

/**
 * Starts tracing; OpenTelemetry is loaded only here, and nothing of it is global, for a process may hold several bots.
 * Attributes name methods and routes, never what they are about; what errors say goes through `mask`.
 */
export async function openTracing(
  settings: TraceSettings | null,
  { version, mask }: { version: string; mask(text: string): string },
): Promise<Tracing> {
  if (settings === null) return untraced;
  const [api, { TracerProvider, BatchSpanProcessor }, { resourceFromAttributes }, { OTLPTraceExporter }] =
    await Promise.all([
      import('@opentelemetry/api'),
      import('@opentelemetry/sdk-trace'),
      import('@opentelemetry/resources'),
      import('@opentelemetry/exporter-trace-otlp-http'),
    ]);
  const { url, headers, service } = settings;
  const exporter = new OTLPTraceExporter({ url, headers, timeoutMillis: patience });
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ 'service.name': service, 'service.version': version }),
    spanProcessors: [new BatchSpanProcessor({ exporter, scheduledDelayMillis: pause })],
  });
  const tracer = provider.getTracer('cdl-bot', version);
  const current = new AsyncLocalStorage<Context>();
  const kinds: Record<TraceKind, SpanKind> = {
    server: api.SpanKind.SERVER,
    producer: api.SpanKind.PRODUCER,
    consumer: api.SpanKind.CONSUMER,
    internal: api.SpanKind.INTERNAL,
  };

  function contextOf(parent: string | null | undefined): Context {
    if (parent === undefined) return current.getStore() ?? api.ROOT_CONTEXT;
    const [, traceId = '', spanId = '', flags = ''] = form.exec(parent ?? '') ?? [];
    const told = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true };
    return api.isSpanContextValid(told) ? api.trace.setSpanContext(api.ROOT_CONTEXT, told) : api.ROOT_CONTEXT;
  }

  /** What went wrong, in one line; traces are no place for stacks. */
  const saying = (error: unknown): string => mask(describeError(error).message.split('\n', 1)[0] ?? '');

  /** A call that is over. */
  function leaf(name: string, attributes: Attributes, startTime: number, problem: string | null): void {
    const below = current.getStore();
    if (!below) return;
    const span = tracer.startSpan(name, { kind: api.SpanKind.CLIENT, attributes, startTime }, below);
    if (problem !== null) span.setStatus({ code: api.SpanStatusCode.ERROR, message: problem });
    span.end();
  }

  const stopWatching = watchForge(({ method, route, outcome, seconds, retryIn }) => {
    const status = Number(outcome);
    const attributes = {
      'http.request.method': method,
      'http.route': route,
      ...(Number.isInteger(status) ? { 'http.response.status_code': status } : { 'error.type': outcome }),
      ...(retryIn !== null && { 'cdl.retry_in_seconds': retryIn }),
    };
    const isFine = status >= 200 && status < 400;
    leaf(`forge ${method} ${route}`, attributes, Date.now() - seconds * 1000, isFine ? null : outcome);
  });

  return {
    async run(name, { kind, parent, attributes = {} }, work) {
      const above = contextOf(parent);
      const span = tracer.startSpan(name, { kind: kinds[kind], attributes }, above);
      try {
        return await current.run(api.trace.setSpan(above, span), work);
      } catch (error) {
        span.setStatus({ code: api.SpanStatusCode.ERROR, message: saying(error) });
        throw error;
      } finally {
        span.end();
      }
    },
    parent() {
      const context = current.getStore();
      const span = context && api.trace.getSpanContext(context);
      if (!span) return null;
      return `00-${span.traceId}-${span.spanId}-${span.traceFlags.toString(16).padStart(2, '0')}`;
    },
    port: (name, target, attributes = {}) =>
      new Proxy(target, {
        get(object, key) {
          const value: unknown = Reflect.get(object, key);
          if (typeof value !== 'function') return value;
          return (...args: unknown[]) => {
            const began = Date.now();
            const result: unknown = Reflect.apply(value, object, args);
            if (!(result instanceof Promise)) return result;
            const told = (problem: string | null) =>
              leaf(`${name} ${String(key)}`, attributes, began, problem);
            return result.then(
              (done) => {
                told(null);
                return done;
              },
              (error: unknown) => {
                told(saying(error));
                throw error;
              },
            );
          };
        },
      }),
    async close() {
      stopWatching();
      // Nobody listens there any more: what was noted is lost, and nothing else.
      await provider.shutdown().catch(() => undefined);
    },
  };
}
