import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type BotConfig, type RunningBot, readBotConfig, startBot } from '../../bot/main.ts';
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
    url: process.env.CDL_TEST_DATABASE ?? null,
    folder: join(folder, 'database'),
  });
  world = await createBotWorld(database);
  // Installing a webhook takes a maintainer.
  world.project.members.set(world.people.bot.id, 40);
  bot = await startBot(configOf(world));
});
afterAll(async () => {
  await bot?.close();
  await world?.close();
  await database?.close();
  await rm(folder, { recursive: true, force: true });
});

describe('the bot as a whole', () => {
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

describe('the configuration from the environment', () => {
  it('names what is missing', async () => {
    await expect(readBotConfig({})).rejects.toMatchObject({ code: 'environment-missing' });
  });

  it('has a default for everything that can have one', async () => {
    const config = await readBotConfig({
      CDL_GITLAB_URL: 'https://gitlab.example.com',
      CDL_PROJECT: 'acme/a, acme/b',
      CDL_BOT_TOKEN: 't',
      CDL_SIGNING_TOKEN: 'whsec_AAAA',
      CDL_SIGNING_KEY: key,
      CDL_WORK_STORE: 'file:///w',
      CDL_TRUSTED_STORE: 'file:///t',
      CDL_BOT_FOLDER: '/b',
    });
    expect(config).toMatchObject({
      projects: ['acme/a', 'acme/b'],
      port: 8080,
      reconcileSeconds: 60,
      driftHours: 24,
      database: null,
    });
  });

  it('refuses a key of another kind', async () => {
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const signingKey = rsa.export({ type: 'pkcs8', format: 'pem' }).toString();
    await expect(startBot({ ...configOf(world), signingKey })).rejects.toMatchObject({
      code: 'config-invalid',
    });
  });
});
