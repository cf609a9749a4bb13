import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type BotConfig, installHooks, type RunningBot, readBotConfig, startBot } from '../../bot/main.ts';
import { type Database, openDatabase } from '../../src/index.ts';
import { type BotWorld, createBotWorld } from './world.ts';

let folder: string;
let database: Database;
let world: BotWorld;
let bot: RunningBot;
const key = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();

function configOf(w: BotWorld): BotConfig {
  return {
    forge: {
      kind: 'gitlab',
      url: w.sandbox.url,
      token: w.people.bot.token,
      evaluationToken: w.people.evaluator.token,
      webhookSecret: null,
      signingToken: `whsec_${Buffer.alloc(32, 7).toString('base64')}`,
    },
    projects: [w.context.forge.project],
    signingKey: key,
    trustedKeys: new Map(),
    stores: {
      work: { url: `file://${join(w.folder, 'work')}`, credentials: null },
      trusted: { url: `file://${join(w.folder, 'trusted')}`, credentials: null },
    },
    database: database.url,
    folder: join(folder, 'bot'),
    host: '127.0.0.1',
    port: 0,
    publicUrl: 'auto',
    reconcileSeconds: 3600,
    driftHours: 24,
    path: process.env.PATH ?? '',
    ca: null,
    log: 'silent',
  };
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-bot-main-'));
  database = await openDatabase({
    url: null,
    folder: join(folder, 'database'),
  });
  world = await createBotWorld(database);
  // Installing a webhook takes a maintainer.
  world.project.members.set(world.people.bot.id, 40);
  await database.query(
    `insert into deliveries (id, received_at) values ('long-ago', now() - interval '8 days'), ('lately', now())`,
  );
  bot = await startBot(configOf(world));
});
afterAll(async () => {
  await bot?.close();
  await world?.close();
  await database?.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
});

describe('the bot as a whole', () => {
  it('forgets the deliveries that nobody sends again', async () => {
    await bot.reconcile();
    const left = await database.query(`select id from deliveries where id in ('long-ago', 'lately')`);
    expect(left).toEqual([{ id: 'lately' }]);
  });

  it('hears signed webhooks and goes from push to approval', async () => {
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    const change = await world.openChange('exp/a');
    const soon = { timeout: 30_000, interval: 50 };
    await vi.waitFor(
      () => expect(world.statuses(change)['cdl/fashion']).toMatch(/^pending: waiting for app/),
      soon,
    );
    const report = world.comments(change)[0]!;
    const line = /\/approve [0-9a-f]{12}/.exec(report)![0];
    await world.say('vera', change, line);
    await vi.waitFor(() => expect(world.statuses(change)['cdl/fashion']).toBe('success: approved'), soon);
    await vi.waitFor(() => expect(world.comments(change).at(-1)).toContain('Approved fashion'), soon);
    await world.sandbox.settled();
    expect(world.sandbox.violations).toEqual([]);
    const metrics = await (await fetch(`${bot.url}/metrics`)).text();
    expect(metrics).toMatch(/cdl_bot_deliveries_total\{outcome="queued"\} [1-9]/);
    expect(metrics).not.toMatch(/outcome="failed"\} [1-9]/);
  });
});

describe('the webhook', () => {
  const hookUrl = () => `${bot.url}/webhooks/gitlab`;
  const hooks = () => world.project.hooks.filter((one) => one.url === hookUrl());
  const repairs = async () => {
    const text = await (await fetch(`${bot.url}/metrics`)).text();
    return text.split('\n').filter((line) => line.startsWith('cdl_bot_webhook_repairs_total'));
  };
  const says = () => world.say('ada', 1, 'a comment');
  const write = (body: object) => world.api('bot', 'PUT', `hooks/${hooks()[0]!.id}`, body);

  it('is put back to work after GitLab switched it off, with the secrets it must have', async () => {
    await write({ url: hookUrl(), signing_token: `whsec_${Buffer.alloc(32, 8).toString('base64')}` });
    for (let i = 0; i < 5; i++) await says();
    await world.sandbox.settled();
    expect(hooks()[0]).toMatchObject({ failures: 4, disabledUntil: expect.any(String) });
    await bot.reconcile();
    expect(hooks()).toMatchObject([{ failures: 0, disabledUntil: null }]);
    expect(await repairs()).toContain('cdl_bot_webhook_repairs_total{what="revive",outcome="works"} 1');
  });

  it('is made again when it was removed, completed when events are missing, and left alone when all is well', async () => {
    await world.api('bot', 'PUT', `hooks/${hooks()[0]!.id}`, { note_events: false });
    await bot.reconcile();
    expect(hooks()[0]!.events.note_events).toBe(true);
    world.project.hooks.length = 0;
    await bot.reconcile();
    const [made] = hooks();
    await bot.reconcile();
    expect(hooks()).toEqual([made]);
    const lines = (await repairs()).join('\n');
    expect(lines).toContain('{what="repair",outcome="works"} 1');
    expect(lines).toContain('{what="install",outcome="works"} 1');
  });

  const environment = () => ({
    CDL_GITLAB_URL: world.sandbox.url,
    CDL_PROJECT: world.context.forge.project,
    CDL_BOT_TOKEN: world.people.bot.token,
    CDL_SIGNING_TOKEN: `whsec_${Buffer.alloc(32, 7).toString('base64')}`,
    CDL_BOT_URL: bot.url,
  });

  it('is installed by hand as well: one of several stays, and a delivery shows that the bot takes it', async () => {
    await world.api('bot', 'POST', 'hooks', { url: hookUrl() });
    expect(hooks()).toHaveLength(2);
    const { text, isSound } = await installHooks(environment());
    expect(isSound).toBe(true);
    expect(text.replace(hookUrl(), 'URL').replace(world.context.forge.project, 'PROJECT')).toBe(
      [
        '✓ PROJECT: webhook URL: was there, its secrets were written again',
        '  the forge signs its deliveries',
        '  the bot took a test delivery',
      ].join('\n'),
    );
    expect(hooks()).toHaveLength(1);
  });

  it('is not called installed when nobody answers there, or when it takes more rights than the token has', async () => {
    const nowhere = await installHooks({ ...environment(), CDL_BOT_URL: 'http://127.0.0.1:9' });
    expect(nowhere.isSound).toBe(false);
    expect(nowhere.text).toMatch(/✗ .*installed[\s\S]*a test delivery failed/);
    const developer = { ...environment(), CDL_BOT_TOKEN: world.people.eve.token };
    await expect(installHooks(developer)).rejects.toMatchObject({
      code: 'forge-denied',
      message: expect.stringMatching(/: 403 Forbidden$/),
      hint: expect.stringContaining('webhooks take a Maintainer'),
    });
    await expect(installHooks({ ...environment(), CDL_BOT_URL: undefined })).rejects.toMatchObject({
      code: 'environment-missing',
    });
  });
});

describe('the configuration from the environment', () => {
  /** All that has no default. */
  const settings = {
    CDL_GITLAB_URL: 'https://gitlab.example.com',
    CDL_PROJECT: 'acme/a',
    CDL_BOT_TOKEN: 't',
    CDL_SIGNING_TOKEN: `whsec_${'A'.repeat(43)}=`,
    CDL_SIGNING_KEY: key,
    CDL_WORK_STORE: 'file:///w',
    CDL_TRUSTED_STORE: 'file:///t',
    CDL_BOT_FOLDER: '/b',
  };

  it('names what is missing', async () => {
    await expect(readBotConfig({})).rejects.toMatchObject({
      code: 'environment-missing',
      message:
        'not set: CDL_PROJECT, CDL_GITLAB_URL, CDL_BOT_TOKEN, CDL_SIGNING_TOKEN, CDL_SIGNING_KEY, CDL_WORK_STORE, CDL_TRUSTED_STORE, CDL_BOT_FOLDER',
    });
    await expect(readBotConfig({ CDL_FORGE: 'gitea' })).rejects.toMatchObject({ code: 'config-invalid' });
  });

  it('has a default for everything that can have one', async () => {
    const config = await readBotConfig({ ...settings, CDL_PROJECT: 'acme/a, acme/b' });
    expect(config).toMatchObject({
      projects: ['acme/a', 'acme/b'],
      port: 8080,
      reconcileSeconds: 60,
      driftHours: 24,
      database: null,
    });
  });

  it.each([
    [
      { CDL_SIGNING_KEY: '/nowhere/key.pem' },
      'CDL_SIGNING_KEY is no PEM, and no file that can be read: ENOENT',
    ],
    [{ CDL_TRUSTED_KEYS: '/nowhere/key.pem' }, 'CDL_TRUSTED_KEYS is no PEM, and no file'],
    [{ CDL_TRUSTED_KEYS: key }, 'CDL_TRUSTED_KEYS holds no public key'],
    [
      { CDL_TRUSTED_KEYS: '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----' },
      'something else than a public key (block 1)',
    ],
    [{ CDL_SIGNING_TOKEN: 'hush' }, 'CDL_SIGNING_TOKEN is not whsec_ and 24 to 64 bytes'],
    [{ CDL_BOT_PORT: '99999' }, 'CDL_BOT_PORT "99999" is not a number from 0 to 65535'],
    [{ CDL_BOT_PORT: '80.5' }, 'is not a whole number'],
    // A timer of more than 24 days would ring at once, and again and again.
    [{ CDL_RECONCILE_SECONDS: '2592000' }, 'is not a number from 0 to 604800'],
    [{ CDL_RECONCILE_SECONDS: 'daily' }, 'CDL_RECONCILE_SECONDS "daily" is not a number'],
  ])('says of %o what is wrong with which variable', async (more, problem) => {
    const failed = readBotConfig({ ...settings, ...more });
    await expect(failed).rejects.toMatchObject({
      code: 'config-invalid',
      message: expect.stringContaining(problem),
    });
    await expect(failed).rejects.not.toThrow(/hush|nowhere/);
  });

  it('refuses a key of another kind', async () => {
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const signingKey = rsa.export({ type: 'pkcs8', format: 'pem' }).toString();
    await expect(startBot({ ...configOf(world), signingKey })).rejects.toMatchObject({
      code: 'config-invalid',
    });
  });
});

describe('the pages of a bot without CDL_STATUS_TOKEN', () => {
  it('have no status', async () => {
    for (const path of ['/status', '/status?token=', '/status.json'])
      expect((await fetch(`${bot.url}${path}`)).status).toBe(404);
  });
});
