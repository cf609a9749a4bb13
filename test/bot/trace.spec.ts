import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { readBotConfig, startBot } from '../../bot/main.ts';
import { openTracing, untraced } from '../../bot/trace.ts';
import { type Database, openDatabase } from '../../src/index.ts';
import { type BotWorld, createBotWorld } from './world.ts';

const attribute = z.object({ key: z.string(), value: z.record(z.string(), z.unknown()) });
/** What a collector is sent (opentelemetry-proto, trace/v1, as JSON), as far as it is looked at. */
const exported = z.object({
  resourceSpans: z.array(
    z.object({
      resource: z.object({ attributes: z.array(attribute) }),
      scopeSpans: z.array(
        z.object({
          spans: z.array(
            z.object({
              traceId: z.string().regex(/^[0-9a-f]{32}$/),
              spanId: z.string().regex(/^[0-9a-f]{16}$/),
              parentSpanId: z.string().optional(),
              name: z.string(),
              kind: z.int(),
              startTimeUnixNano: z.string(),
              endTimeUnixNano: z.string(),
              attributes: z.array(attribute),
              status: z.object({ code: z.int(), message: z.string().optional() }),
            }),
          ),
        }),
      ),
    }),
  ),
});
type Span = z.infer<typeof exported>['resourceSpans'][0]['scopeSpans'][0]['spans'][0];

let folder: string;
let database: Database;
let world: BotWorld;
let collector: Server;
let url: string;
const bodies: string[] = [];
const requests: { path: string | undefined; key: unknown }[] = [];
const spans: Span[] = [];
const services = new Set<unknown>();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-trace-'));
  database = await openDatabase({
    url: null,
    folder: join(folder, 'database'),
  });
  world = await createBotWorld(database);
  world.project.members.set(world.people.bot.id, 40);
  collector = createServer(async (request, response) => {
    const bytes = await buffer(request);
    const text = (request.headers['content-encoding'] === 'gzip' ? gunzipSync(bytes) : bytes).toString();
    bodies.push(text);
    requests.push({ path: request.url, key: request.headers['x-key'] });
    for (const { resource, scopeSpans } of exported.parse(JSON.parse(text)).resourceSpans) {
      services.add(resource.attributes.find((one) => one.key === 'service.name')?.value.stringValue);
      spans.push(...scopeSpans.flatMap((one) => one.spans));
    }
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
  });
  collector.listen(0, '127.0.0.1');
  await once(collector, 'listening');
  url = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
});
afterAll(async () => {
  collector?.closeAllConnections();
  collector?.close();
  await world?.close();
  await database?.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
});

const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const environment = () => ({
  PATH: process.env.PATH,
  CDL_GITLAB_URL: world.sandbox.url,
  CDL_PROJECT: world.context.forge.project,
  CDL_BOT_TOKEN: world.people.bot.token,
  CDL_EVALUATION_TOKEN: world.people.evaluator.token,
  CDL_SIGNING_TOKEN: `whsec_${Buffer.alloc(32, 7).toString('base64')}`,
  CDL_SIGNING_KEY: pem,
  CDL_WORK_STORE: `file://${join(world.folder, 'work')}`,
  CDL_TRUSTED_STORE: `file://${join(world.folder, 'trusted')}`,
  CDL_DATABASE: database.url,
  CDL_BOT_FOLDER: join(folder, 'bot'),
  CDL_BOT_PORT: '0',
  CDL_BOT_URL: 'auto',
  CDL_LOG: 'silent',
});

describe('traces', () => {
  it('lead from a webhook through the queue to what its task asked of forge, store, database and git', async () => {
    const said: string[] = [];
    const bot = await startBot(
      await readBotConfig({
        ...environment(),
        CDL_LOG: 'info',
        OTEL_EXPORTER_OTLP_ENDPOINT: `${url}/`,
        OTEL_EXPORTER_OTLP_HEADERS: 'x-key=a%20secret%20of%20mine',
      }),
      (line) => said.push(line),
    );
    try {
      await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
      const change = await world.openChange('exp/a');
      await vi.waitFor(() => expect(world.statuses(change)['cdl/fashion']).toMatch(/waiting for approval/), {
        timeout: 40_000,
        interval: 100,
      });
      await world.sandbox.settled();
    } finally {
      await bot.close();
    }
    expect(requests[0]).toEqual({ path: '/v1/traces', key: 'a secret of mine' });
    expect([...services]).toEqual(['cdl-bot']);
    const byId = new Map(spans.map((one) => [one.spanId, one]));
    const line = (span: Span): string[] => {
      const above = span.parentSpanId ? byId.get(span.parentSpanId) : undefined;
      return [...(above ? line(above) : []), span.name];
    };
    const lines = spans.map((one) => line(one).join(' → '));
    const way = 'webhook gitlab → queue add → task change →';
    for (const end of [
      'forge GET /api/v4/projects/:x/merge_requests/:x',
      'git head',
      'store readRecord',
      'db query',
    ])
      expect(lines).toContain(`${way} ${end}`);
    expect(lines).toContain('webhook gitlab → queue add → db query');
    expect(lines).toContain('reconcile → queue add');
    // One trace each, and nothing ends before it began.
    for (const span of spans) {
      const above = span.parentSpanId ? byId.get(span.parentSpanId) : undefined;
      if (above) expect(span.traceId).toBe(above.traceId);
      expect(BigInt(span.endTimeUnixNano) >= BigInt(span.startTimeUnixNano)).toBe(true);
    }
    // What the log says of a webhook's work names the delivery and the trace it is part of.
    const converged = said.map((one) => JSON.parse(one)).filter(({ msg }) => msg === 'converged');
    const known = await database.query<{ id: string }>('select id from deliveries');
    const webhooks = spans.filter(({ name }) => name === 'webhook gitlab').map(({ traceId }) => traceId);
    const told = converged.filter(({ delivery }) => delivery !== undefined);
    expect(told.length).toBeGreaterThan(0);
    for (const { delivery, trace_id } of told) {
      expect(known.map(({ id }) => id)).toContain(delivery);
      expect(webhooks).toContain(trace_id);
    }
    const sent = bodies.join('\n');
    const { CDL_BOT_TOKEN, CDL_EVALUATION_TOKEN, CDL_SIGNING_TOKEN } = environment();
    for (const secret of [
      CDL_BOT_TOKEN,
      CDL_EVALUATION_TOKEN,
      CDL_SIGNING_TOKEN,
      'a secret of mine',
      'exp/a',
    ])
      expect(sent).not.toContain(secret);
  }, 90_000);

  it('say what failed, masked, and carry on what another process began', async () => {
    spans.length = 0;
    const settings = { url: `${url}/v1/traces`, headers: {}, service: 'other' };
    const tracing = await openTracing(settings, {
      version: '1',
      mask: (text) => text.replaceAll('hush', '[MASKED]'),
    });
    const parent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
    const broken = { open: () => Promise.reject(new Error('no hush here\nsecond line')), name: 'x' };
    const port = tracing.port('thing', broken);
    await expect(tracing.run('work', { kind: 'consumer', parent }, () => port.open())).rejects.toThrow(
      'no hush here',
    );
    // Outside of any work there is nothing to be part of.
    await expect(port.open()).rejects.toThrow();
    expect([port.name, tracing.parent()]).toEqual(['x', null]);
    await tracing.run('alone', { kind: 'internal', parent: 'nonsense' }, async () => {
      expect(tracing.parent()).toMatch(/^00-(?!a{32})[0-9a-f]{32}-[0-9a-f]{16}-01$/);
    });
    await tracing.close();
    const [call, work, alone] = ['thing open', 'work', 'alone'].map((name) =>
      spans.filter((one) => one.name === name),
    );
    expect(call).toHaveLength(1);
    expect(call![0]).toMatchObject({ traceId: 'a'.repeat(32), parentSpanId: work![0]!.spanId });
    expect(work![0]).toMatchObject({
      traceId: 'a'.repeat(32),
      parentSpanId: 'b'.repeat(16),
      status: { code: 2, message: expect.stringMatching(/no \[MASKED\] here$/) },
    });
    expect(alone![0]!.parentSpanId ?? '').toBe('');
  });

  it('hold nothing up when nobody takes them, and are not made unless they are asked for', async () => {
    const settings = { url: 'http://127.0.0.1:9/v1/traces', headers: {}, service: 'cdl-bot' };
    const tracing = await openTracing(settings, { version: '1', mask: (text) => text });
    expect(await tracing.run('work', { kind: 'internal' }, async () => 7)).toBe(7);
    await tracing.close();
    expect(await openTracing(null, { version: '1', mask: (text) => text })).toBe(untraced);
    expect((await readBotConfig(environment())).traces).toBeNull();
  }, 30_000);

  it('are refused a place or headers that cannot be meant', async () => {
    const read = (more: object) => readBotConfig({ ...environment(), ...more });
    await expect(read({ OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318' })).rejects.toMatchObject({
      message: 'OTEL_EXPORTER_OTLP_ENDPOINT is no URL of http or https',
    });
    await expect(
      read({ OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_EXPORTER_OTLP_HEADERS: 'Bearer hush' }),
    ).rejects.toMatchObject({ code: 'config-invalid', message: expect.not.stringContaining('hush') });
    const whole = await read({
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://a',
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://b/x',
    });
    expect(whole.traces?.url).toBe('http://b/x');
  });
});
