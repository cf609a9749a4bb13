import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { createApp, type Receiver } from '../../bot/app.ts';
import { readEvent } from '../../bot/gitlab.ts';
import { createMetrics } from '../../bot/metrics.ts';
import { signWebhook, verifyWebhook } from '../../bot/signature.ts';
import type { Task } from '../../bot/types.ts';

const samples = join(process.env.CDL_SHARED ?? '../shared', 'specs/gitlab-webhooks');
const haveSamples = existsSync(samples);
if (!haveSamples) console.warn(`skipped: the sample payloads are not at ${samples}`);

const token = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const other = `whsec_${Buffer.alloc(32, 8).toString('base64')}`;
const now = 1_768_543_200_000;

function signed(body: Buffer, change: Record<string, string> = {}): Record<string, string> {
  const id = change['webhook-id'] ?? 'delivery-1';
  const timestamp = change['webhook-timestamp'] ?? String(now / 1000);
  return {
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': signWebhook(token, id, timestamp, body),
    ...change,
  };
}

describe('a webhook delivery', () => {
  const body = Buffer.from('{"a":1}');
  const check = (
    headers: Record<string, string>,
    secrets = { signing: [token], token: null as string | null },
  ) => verifyWebhook(headers, body, secrets, now);

  it.skipIf(!haveSamples)(
    'of every sample with its own headers is genuine, and no longer when a byte differs',
    () => {
      const { signing_token, headers } = JSON.parse(readFileSync(join(samples, 'headers.json'), 'utf8')) as {
        signing_token: string;
        headers: Record<string, Record<string, string>>;
      };
      expect(Object.keys(headers).length).toBeGreaterThan(15);
      for (const [name, given] of Object.entries(headers)) {
        const text = JSON.stringify(JSON.parse(readFileSync(join(samples, `${name}.json`), 'utf8')));
        const at = Number(given['webhook-timestamp']) * 1000;
        const secrets = { signing: [signing_token], token: null };
        const { 'webhook-id': id = '' } = given;
        expect(verifyWebhook(given, Buffer.from(text), secrets, at), name).toEqual({ ok: true, id });
        expect(verifyWebhook(given, Buffer.from(`${text} `), secrets, at).ok, name).toBe(false);
      }
    },
  );

  it('counts when any of several signatures is by any of our keys', () => {
    const good = signWebhook(token, 'delivery-1', String(now / 1000), body);
    const headers = signed(body, { 'webhook-signature': `v1,AAAA ${good}` });
    expect(check(headers).ok).toBe(true);
    expect(check(headers, { signing: [other, token], token: null }).ok).toBe(true);
    expect(check(headers, { signing: [other], token: null }).ok).toBe(false);
  });

  it('is refused five minutes too early or too late', () => {
    for (const [seconds, ok] of [
      [-301, false],
      [-299, true],
      [299, true],
      [301, false],
    ] as const) {
      const headers = signed(body, { 'webhook-timestamp': String(now / 1000 + seconds) });
      expect(check(headers).ok).toBe(ok);
    }
  });

  it('without a signature needs the token, and a wrong signature is not mended by a right token', () => {
    const plain = { 'idempotency-key': 'delivery-2', 'x-gitlab-token': 'legacy-secret' };
    expect(check(plain, { signing: [token], token: 'legacy-secret' })).toEqual({
      ok: true,
      id: 'delivery-2',
    });
    expect(check(plain, { signing: [token], token: 'another' }).ok).toBe(false);
    expect(check(plain, { signing: [token], token: null }).ok).toBe(false);
    const forged = { ...signed(body), 'webhook-signature': 'v1,AAAA', 'x-gitlab-token': 'legacy-secret' };
    expect(check(forged, { signing: [token], token: 'legacy-secret' }).ok).toBe(false);
  });

  it('is nothing when headers are missing or odd', () => {
    expect(check({}).ok).toBe(false);
    expect(check(signed(body, { 'webhook-timestamp': 'soon' })).ok).toBe(false);
    expect(check({ ...signed(body), 'webhook-id': '' }).ok).toBe(false);
  });
});

describe.skipIf(!haveSamples)('the events in the sample payloads', () => {
  const read = (name: string) => readEvent(JSON.parse(readFileSync(join(samples, `${name}.json`), 'utf8')));

  it('are the ones the bot acts on', () => {
    const project = 'acme/dl-demo';
    expect(read('merge_request_open')).toEqual({ kind: 'change', project, change: 16, over: false });
    expect(read('merge_request_merge')).toMatchObject({ kind: 'change', over: true });
    expect(read('merge_request_close')).toMatchObject({ kind: 'change', over: true });
    expect(read('merge_request_update_push')).toMatchObject({ kind: 'change', over: false });
    expect(read('note_mr')).toEqual({ kind: 'comment', project, change: 16, comment: '1244' });
    expect(read('note_mr_update')).toBeNull();
    expect(read('pipeline_success')).toMatchObject({ kind: 'pipeline', change: 16, state: 'success' });
    expect(read('push_main')).toEqual({ kind: 'push', project, branch: 'main' });
    expect(read('push_branch_delete')).toBeNull();
    expect(read('tag_push')).toBeNull();
    expect(read('job_success')).toBeNull();
    expect(read('deployment_success')).toMatchObject({ kind: 'deployment', environment: 'production' });
  });

  it('never make the reader fail', () => {
    for (const name of readdirSync(samples)) {
      if (name !== 'headers.json') expect(() => read(name.replace('.json', ''))).not.toThrow();
    }
    for (const odd of [null, 3, [], {}, { object_kind: 'note' }]) expect(readEvent(odd)).toBeNull();
  });
});

describe('the bot’s HTTP side', () => {
  const apps: ReturnType<typeof createApp>[] = [];
  afterEach(async () => {
    await Promise.all(apps.splice(0).map((app) => app.close()));
  });

  function start(broken = false) {
    const known = new Set<string>();
    const told: unknown[] = [];
    const tasks: Task[] = [];
    const receiver: Receiver = {
      async take(id, given) {
        if (broken) throw new Error('database down: secret-connection-string');
        if (known.has(id)) return false;
        known.add(id);
        tasks.push(...given);
        return true;
      },
    };
    const app = createApp({
      receivers: new Map([['acme/dl-demo', receiver]]),
      secrets: { signing: [token], token: null },
      metrics: createMetrics(),
      now: () => now,
      onError: (_error, about) => told.push(about),
    });
    apps.push(app);
    return { app, tasks, known, told };
  }

  const note = Buffer.from(
    JSON.stringify({
      object_kind: 'note',
      project: { path_with_namespace: 'acme/dl-demo' },
      object_attributes: { id: 5, noteable_type: 'MergeRequest', action: 'create' },
      merge_request: { iid: 3 },
    }),
  );
  const post = (app: ReturnType<typeof createApp>, headers: Record<string, string>, payload = note) =>
    app.inject({ method: 'POST', url: '/webhooks/gitlab', headers, payload });

  it('queues a delivery once, however often it comes', async () => {
    const { app, tasks } = start();
    expect((await post(app, signed(note))).statusCode).toBe(202);
    expect((await post(app, signed(note))).statusCode).toBe(200);
    expect(tasks).toEqual([{ kind: 'comment', change: 3, comment: '5' }]);
    const metrics = await app.inject('/metrics');
    expect(metrics.body).toContain('cdl_bot_deliveries_total{outcome="repeated"} 1');
    expect((await app.inject('/healthz')).json()).toEqual({ status: 'ok' });
  });

  it('looks at the default branch, and so at every open change, only when a change is merged or closed', async () => {
    const { app, tasks } = start();
    for (const [index, given] of [
      { state: 'opened', action: 'update' },
      { state: 'opened', action: 'approved' },
      { state: 'merged', action: 'merge' },
      { state: 'closed', action: 'close' },
    ].entries()) {
      const payload = {
        object_kind: 'merge_request',
        project: { path_with_namespace: 'acme/dl-demo' },
        object_attributes: { iid: index + 1, ...given },
      };
      const body = Buffer.from(JSON.stringify(payload));
      expect((await post(app, signed(body, { 'webhook-id': `change-${index}` }), body)).statusCode).toBe(202);
    }
    expect(tasks).toEqual([
      { kind: 'change', change: 1 },
      { kind: 'change', change: 2 },
      { kind: 'change', change: 3 },
      { kind: 'branch' },
      { kind: 'change', change: 4 },
      { kind: 'branch' },
    ]);
  });

  it('refuses a wrong signature without saying more, and forgets nothing it could not queue', async () => {
    const { app, tasks, known, told } = start(true);
    const refused = await post(app, signed(note, { 'webhook-signature': 'v1,AAAA' }));
    expect(refused.statusCode).toBe(401);
    expect(refused.body).not.toContain('whsec_');
    const headers = signed(note);
    const failed = await post(app, headers);
    expect(failed.statusCode).toBe(500);
    // Whoever reads the log finds the delivery in the forge's list.
    expect(told).toEqual([{ delivery: headers['webhook-id'] }]);
    expect(failed.body).not.toContain('secret');
    expect(tasks).toEqual([]);
    expect(known.size).toBe(0);
  });

  it('takes what it does not act on without a fuss', async () => {
    const { app, tasks } = start();
    for (const text of [
      '{"object_kind":"wiki_page"}',
      '[]',
      note.toString().replace('acme/dl-demo', 'else/where'),
    ]) {
      const body = Buffer.from(text);
      expect((await post(app, signed(body), body)).statusCode).toBe(204);
    }
    const broken = Buffer.from('{');
    expect((await post(app, signed(broken), broken)).statusCode).toBe(400);
    expect(tasks).toEqual([]);
  });
});
