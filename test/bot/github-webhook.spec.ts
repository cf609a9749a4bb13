import { createHmac } from 'node:crypto';
import { createRequire } from 'node:module';
import type { FastifyInstance } from 'fastify';
import { afterEach, describe, expect, it } from 'vitest';
import { createApp } from '../../bot/app.ts';
import { type GithubReceiver, githubEvents, mountGithub, readGithubEvent } from '../../bot/github.ts';
import { readBotConfig } from '../../bot/main.ts';
import { createMetrics } from '../../bot/metrics.ts';
import type { Task } from '../../bot/types.ts';

interface Example {
  name: string;
  examples: { action?: string }[];
}
const all = createRequire(import.meta.url)('@octokit/webhooks-examples') as Example[];
const examplesOf = (name: string) => all.find((one) => one.name === name)!.examples;
const secret = 'a secret of many letters';

describe('the events in GitHub’s own example payloads', () => {
  const read = (name: string, action?: string) =>
    examplesOf(name)
      .filter((one) => action === undefined || one.action === action)
      .map((one) => readGithubEvent(name, one));

  it('are the ones the bot acts on', () => {
    const project = 'Codertocat/Hello-World';
    expect(read('pull_request', 'opened')[0]).toEqual({
      kind: 'change',
      project,
      change: 2,
      over: false,
    });
    expect(read('pull_request', 'closed')[0]).toMatchObject({ kind: 'change', over: true });
    expect(read('pull_request', 'synchronize')[0]).toMatchObject({ kind: 'change' });
    expect(read('pull_request_review', 'submitted')[0]).toMatchObject({ kind: 'change', change: 2 });
    expect(read('push').find((one) => one !== null)).toMatchObject({ kind: 'push', project });
    expect(read('deployment_status')[0]).toMatchObject({ kind: 'deployment', environment: 'production' });
    expect(read('merge_group', 'checks_requested')[0]).toEqual({
      kind: 'queue',
      project: 'octo-org/octo-repo',
      branch: 'gh-readonly-queue/main/pr-104-929f8209d40f77f4abc622a499c93a83babdbe64',
    });
    expect(read('workflow_run', 'completed')[0]).toMatchObject({ kind: 'pipeline' });
    expect(read('check_run', 'completed')).toEqual(read('check_run', 'completed').map(() => null));
    const [again] = examplesOf('check_run').filter((one) => one.action === 'rerequested') as {
      check_run: object;
    }[];
    const ofChange = { ...again, check_run: { ...again!.check_run, pull_requests: [{ number: 4 }] } };
    expect(readGithubEvent('check_run', ofChange)).toMatchObject({ kind: 'change', change: 4 });
  });

  it('are comments only when new, on a pull request and not the bot’s own', () => {
    expect(read('issue_comment', 'edited').concat(read('issue_comment', 'deleted')).filter(Boolean)).toEqual(
      [],
    );
    const [example] = examplesOf('issue_comment').filter((one) => one.action === 'created') as {
      issue: object;
      comment: { id: number; user: { id: number } };
    }[];
    const onPull = { ...example, issue: { ...example!.issue, number: 7, pull_request: {} } };
    const onIssue = { ...onPull, issue: { ...example!.issue, pull_request: undefined } };
    const { id, user } = example!.comment;
    expect(readGithubEvent('issue_comment', onPull)).toMatchObject({ change: 7, comment: String(id) });
    expect(readGithubEvent('issue_comment', onPull, '1')).not.toBeNull();
    expect(readGithubEvent('issue_comment', onPull, String(user.id))).toBeNull();
    expect(readGithubEvent('issue_comment', onIssue)).toBeNull();
  });

  it('never make the reader fail, whatever they are', () => {
    expect(all.length).toBeGreaterThan(40);
    for (const { name, examples } of all) {
      for (const one of examples) {
        const event = readGithubEvent(name, one);
        if (!(githubEvents as string[]).includes(name)) expect(event, name).toBeNull();
      }
    }
    for (const name of [...githubEvents, 'toString', '__proto__', '']) {
      for (const odd of [null, 3, [], {}, { repository: null }])
        expect(readGithubEvent(name, odd)).toBeNull();
    }
  });
});

describe('the bot’s HTTP side for GitHub', () => {
  const apps: FastifyInstance[] = [];
  afterEach(async () => {
    await Promise.all(apps.splice(0).map((app) => app.close()));
  });

  async function start(broken = false) {
    const known = new Set<string>();
    const tasks: Task[] = [];
    const errors: unknown[] = [];
    const receiver: GithubReceiver = {
      async take(id, given) {
        if (broken) throw new Error('database down: secret-connection-string');
        if (known.has(id)) return false;
        known.add(id);
        tasks.push(...given);
        return true;
      },
      self: () => '99',
    };
    const metrics = createMetrics();
    const receivers = new Map([['acme/fashion', receiver]]);
    const app = createApp({ receivers, secrets: null, metrics, now: () => 0, onError: () => {} });
    await mountGithub(app, {
      receivers,
      metrics,
      secret,
      auth: { kind: 'token', token: 'ghp_x' },
      url: 'http://127.0.0.1:9/api/v3',
      onError: (error, about) => errors.push({ error, about }),
    });
    apps.push(app);
    return { app, tasks, known, errors };
  }

  const repository = { full_name: 'acme/fashion' };
  const comment = (author: number) =>
    JSON.stringify({
      repository,
      action: 'created',
      issue: { number: 3, pull_request: {} },
      comment: { id: 5, user: { id: author } },
    });
  const sign = (body: string, key = secret) =>
    `sha256=${createHmac('sha256', key).update(body).digest('hex')}`;
  const post = (
    app: FastifyInstance,
    payload: string,
    change: Record<string, string> = {},
    event = 'issue_comment',
  ) =>
    app.inject({
      method: 'POST',
      url: '/webhooks/github',
      payload,
      headers: {
        'content-type': 'application/json',
        'x-github-event': event,
        'x-github-delivery': 'delivery-1',
        'x-hub-signature-256': sign(payload),
        ...change,
      },
    });

  it('queues a delivery once, however often it comes', async () => {
    const { app, tasks } = await start();
    for (let i = 0; i < 2; i++) expect((await post(app, comment(7))).statusCode).toBe(200);
    expect(tasks).toEqual([{ kind: 'comment', change: 3, comment: '5' }]);
    const metrics = await app.inject('/metrics');
    expect(metrics.body).toContain('cdl_bot_deliveries_total{outcome="queued"} 1');
    expect(metrics.body).toContain('cdl_bot_deliveries_total{outcome="repeated"} 1');
  });

  it('leaves its own comments, other repositories and other events alone', async () => {
    const { app, tasks } = await start();
    expect((await post(app, comment(99))).statusCode).toBe(200);
    const other = comment(7).replace('acme/fashion', 'else/where');
    expect((await post(app, other)).statusCode).toBe(200);
    expect(
      (await post(app, JSON.stringify({ repository, zen: 'Keep it logically awesome.' }), {}, 'ping'))
        .statusCode,
    ).toBe(200);
    expect(tasks).toEqual([]);
  });

  it('refuses what is not signed with the secret, over the very bytes', async () => {
    const { app, tasks } = await start();
    const body = comment(7);
    for (const change of [
      { 'x-hub-signature-256': sign(body, 'another secret') },
      { 'x-hub-signature-256': sign(`${body} `) },
      { 'x-hub-signature-256': 'sha256=' },
      { 'x-hub-signature-256': '' },
    ]) {
      const refused = await post(app, body, change);
      expect(refused.statusCode).toBeGreaterThanOrEqual(400);
      expect(refused.statusCode).toBeLessThan(500);
      expect(refused.body).not.toContain(secret);
    }
    const broken = '{"repository":';
    expect((await post(app, broken)).statusCode).toBe(400);
    expect((await post(app, body, { 'content-type': 'text/plain' })).statusCode).toBe(415);
    expect((await post(app, `"${'x'.repeat(6 * 1024 * 1024)}"`)).statusCode).toBe(413);
    expect(tasks).toEqual([]);
    expect((await app.inject('/metrics')).body).toContain('outcome="refused"} 6');
    const gitlab = await app.inject({ method: 'POST', url: '/webhooks/gitlab', payload: '{}' });
    expect(gitlab.statusCode).toBe(404);
  });

  it('refuses a delivery that is forged with another’s signature, cut off anywhere, or 25 MB long', async () => {
    const { app, tasks, errors } = await start();
    const body = comment(7);
    const other = comment(7).replace('"number":3', '"number":4');
    expect((await post(app, other, { 'x-hub-signature-256': sign(body) })).statusCode).toBe(400);
    const { 'x-hub-signature-256': _unsigned, ...unsigned } = { 'x-hub-signature-256': '' };
    const bare = { 'content-type': 'application/json', 'x-github-event': 'issue_comment', ...unsigned };
    const nothing = await app.inject({
      method: 'POST',
      url: '/webhooks/github',
      payload: body,
      headers: { ...bare, 'x-github-delivery': 'delivery-1' },
    });
    expect(nothing.statusCode).toBe(400);
    const weak = `sha1=${createHmac('sha1', secret).update(body).digest('hex')}`;
    const old = { ...bare, 'x-github-delivery': 'delivery-1', 'x-hub-signature': weak };
    const sha1 = await app.inject({ method: 'POST', url: '/webhooks/github', payload: body, headers: old });
    expect(sha1.statusCode).toBe(400);
    for (let length = 1; length < body.length; length += 11) {
      expect((await post(app, body.slice(0, length))).statusCode, String(length)).toBe(400);
    }
    const huge = Buffer.alloc(25 * 1024 * 1024, 0x20).toString();
    expect((await post(app, huge)).statusCode).toBe(413);
    expect(tasks).toEqual([]);
    expect(errors).toEqual([]);
  });

  it('survives payloads nested a hundred thousand deep or with a polluted prototype', async () => {
    const { app, tasks, errors } = await start();
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    const polluted = '{"__proto__":{"action":"created"},"repository":{"full_name":"acme/fashion"}}';
    for (const payload of [deep, polluted]) {
      expect((await post(app, payload)).statusCode).toBeLessThan(500);
    }
    expect(tasks).toEqual([]);
    const inside = comment(7).replace('{', `{"x":${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)},`);
    expect((await post(app, inside)).statusCode).toBe(200);
    expect(tasks).toEqual([{ kind: 'comment', change: 3, comment: '5' }]);
    expect(errors).toEqual([]);
    expect(({} as { action?: string }).action).toBeUndefined();
  });

  it('takes an edited comment for nothing, whoever edited it', async () => {
    const { app, tasks } = await start();
    const edited = comment(7).replace('"created"', '"edited"');
    expect((await post(app, edited)).statusCode).toBe(200);
    expect(tasks).toEqual([]);
  });

  it('forgets nothing that it could not queue, and says nothing of why', async () => {
    const { app, known, errors } = await start(true);
    const failed = await post(app, comment(7));
    expect(failed.statusCode).toBe(500);
    expect(failed.body).not.toContain('connection-string');
    expect(known.size).toBe(0);
    expect(errors).toMatchObject([{ about: { delivery: 'delivery-1' } }]);
  });
});

describe('the configuration for GitHub', () => {
  const base = {
    CDL_FORGE: 'github',
    CDL_PROJECT: 'acme/fashion',
    CDL_WEBHOOK_SECRET: secret,
    CDL_SIGNING_KEY: '-----BEGIN PRIVATE KEY-----',
    CDL_WORK_STORE: 'file:///w',
    CDL_TRUSTED_STORE: 'file:///t',
    CDL_BOT_FOLDER: '/b',
  };

  it('is an account’s token, or an app with its key', async () => {
    const account = await readBotConfig({ ...base, CDL_BOT_TOKEN: 'ghp_x' });
    expect(account.forge).toEqual({
      kind: 'github',
      url: 'https://api.github.com',
      auth: { kind: 'token', token: 'ghp_x' },
      evaluationToken: null,
      webhookSecret: secret,
      workflow: 'cdl.yml',
    });
    const pem = '-----BEGIN RSA PRIVATE KEY-----';
    const app = await readBotConfig({ ...base, CDL_GITHUB_APP_ID: '42', CDL_GITHUB_PRIVATE_KEY: pem });
    expect(app.forge).toMatchObject({ auth: { kind: 'app', appId: '42', privateKey: pem } });
  });

  it('names what is missing or not known', async () => {
    await expect(readBotConfig(base)).rejects.toThrow('CDL_BOT_TOKEN');
    await expect(readBotConfig({ ...base, CDL_GITHUB_APP_ID: '42' })).rejects.toThrow(
      'CDL_GITHUB_PRIVATE_KEY',
    );
    await expect(readBotConfig({ ...base, CDL_FORGE: 'gitea' })).rejects.toMatchObject({
      code: 'config-invalid',
    });
    const { CDL_WEBHOOK_SECRET: _, ...unsigned } = { ...base, CDL_BOT_TOKEN: 'x' };
    await expect(readBotConfig(unsigned)).rejects.toThrow('CDL_WEBHOOK_SECRET');
  });
});
