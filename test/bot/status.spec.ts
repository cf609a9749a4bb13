import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { XMLValidator } from 'fast-xml-parser';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createHealth } from '../../bot/health.ts';
import { type RunningBot, startBot } from '../../bot/main.ts';
import { readStandings } from '../../bot/standing.ts';
import { type BotStatus, createStatusReader } from '../../bot/status.ts';
import { createStatusAccess } from '../../bot/status-access.ts';
import { renderStatus } from '../../bot/status-page.ts';
import { type Database, openDatabase, renderHtml } from '../../src/index.ts';
import { type BotWorld, createBotWorld } from './world.ts';

const token = 'a-token-of-some-length';
const hostile = '<script>alert(1)</script>"\' onload=x \u202e gnp.exe';
let folder: string;
let database: Database;
let world: BotWorld;
let bot: RunningBot;
let change: number;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-status-'));
  database = await openDatabase({
    url: null,
    folder: join(folder, 'database'),
  });
  world = await createBotWorld(database);
  world.project.members.set(world.people.bot.id, 40);
  await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
  change = await world.openChange('exp/a', hostile);
  bot = await startBot({
    forge: {
      kind: 'gitlab',
      url: world.sandbox.url,
      token: world.people.bot.token,
      evaluationToken: world.people.evaluator.token,
      webhookSecret: null,
      signingToken: `whsec_${Buffer.alloc(32, 7).toString('base64')}`,
    },
    projects: [world.context.forge.project],
    signingKey: generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    trustedKeys: new Map(),
    stores: {
      work: { url: `file://${join(world.folder, 'work')}`, credentials: null },
      trusted: { url: `file://${join(world.folder, 'trusted')}`, credentials: null },
    },
    database: database.url,
    folder: join(folder, 'bot'),
    host: '127.0.0.1',
    port: 0,
    publicUrl: 'auto',
    reconcileSeconds: 3600,
    driftHours: 24,
    statusToken: token,
    path: process.env.PATH ?? '',
    ca: null,
    log: 'silent',
  });
});
afterAll(async () => {
  await bot?.close();
  await world?.close();
  await database?.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
});

const get = (path: string, headers: Record<string, string> = {}) =>
  fetch(`${bot.url}${path}`, { headers, redirect: 'manual' });
const bearer = { authorization: `Bearer ${token}` };
const readJson = async () => (await (await get('/status.json', bearer)).json()) as BotStatus;

describe('who may see the status', () => {
  it('is nobody without the token, and the answer tells nothing', async () => {
    for (const headers of [{}, { authorization: 'Bearer wrong' }, { cookie: 'cdl_status=9999999999.AAAA' }]) {
      const page = await get('/status', headers);
      expect(page.status).toBe(401);
      expect(await page.text()).not.toContain(world.context.forge.project);
      const data = await get('/status.json', headers);
      expect([data.status, await data.json()]).toEqual([401, { error: 'refused' }]);
    }
    expect((await get('/status?token=wrong')).status).toBe(401);
  });

  it('is who signs in: the token leaves the URL, a cookie that does not hold it stays', async () => {
    const asked = await get(`/status?token=${token}`);
    const form = await fetch(`${bot.url}/status`, {
      method: 'POST',
      body: new URLSearchParams({ token }),
      redirect: 'manual',
    });
    for (const answer of [asked, form]) {
      expect([answer.status, answer.headers.get('location')]).toEqual([303, 'status']);
      const cookie = answer.headers.get('set-cookie')!;
      expect(cookie).toMatch(/^cdl_status=[^;]+; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Strict$/);
      expect(cookie).not.toContain(token);
      const page = await get('/status', { cookie: `other=1; ${cookie.split(';')[0]}` });
      expect(page.status).toBe(200);
    }
  });

  it('is nobody with a cookie that is old, altered, or of another token', () => {
    let now = 1_000_000_000_000;
    const access = createStatusAccess(token, { secure: true, now: () => now });
    const header = access.cookie();
    const cookie = header.split(';')[0]!;
    expect(header).toMatch(/; Secure$/);
    expect(access.admits({ cookie })).toBe(true);
    expect(access.admits({ cookie: cookie.replace('=1', '=2') })).toBe(false);
    const other = createStatusAccess(`${token}!`, { secure: true, now: () => now });
    expect(other.admits({ cookie })).toBe(false);
    now += 13 * 3600 * 1000;
    expect(access.admits({ cookie })).toBe(false);
  });
});

describe('the status', () => {
  it('says how everything is', async () => {
    await vi.waitFor(
      async () => {
        const [project] = (await readJson()).projects;
        expect(project!.changes[0]?.standing?.models[0]?.says).toMatch(/waiting for approval/);
        expect(project!.look).toMatchObject({ problem: null });
      },
      { timeout: 40_000, interval: 1_000 },
    );
    const status = await readJson();
    expect(status).toMatchObject({
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      isStopping: false,
      database: { problem: null },
      dead: [],
      queue: { dead: { tasks: 0, oldest: 0 } },
      stores: [
        { zone: 'work', reached: { problem: null } },
        { zone: 'trusted', reached: { problem: null } },
      ],
      projects: [
        {
          name: world.context.forge.project,
          forge: { problem: null },
          hook: { isSound: true },
          look: { problem: null },
          changes: [
            {
              id: change,
              draft: false,
              standing: { models: [{ model: 'fashion', environment: 'production', state: 'pending' }] },
            },
          ],
        },
      ],
    });
    const ready = await get('/readyz');
    expect([ready.status, await ready.json()]).toEqual([
      200,
      { status: 'ready', stopping: false, queue: true, database: true },
    ]);
  });

  it('is a page without scripts, in which names that people chose are text', async () => {
    const page = await get('/status', bearer);
    expect(page.headers.get('content-security-policy')).toMatch(/^default-src 'none'; style-src 'sha256-/);
    expect(page.headers.get('cache-control')).toBe('no-store');
    const text = await page.text();
    expect(text).toContain('&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39; onload=x');
    expect(text).not.toMatch(/<script|\u202e|<[^>]*\sonload=/);
    // Attributes are quoted and elements are closed; void ones are not XML's way.
    const body = text.slice(text.indexOf('<body>'), text.indexOf('</html>'));
    expect(XMLValidator.validate(body, { allowBooleanAttributes: true })).toBe(true);
  });

  it('says what is out of reach, with secrets masked, and never fails', async () => {
    const away = {
      listChanges: () => Promise.reject(new Error('refused: token glpat-hush')),
    };
    const gone = await openDatabase({ url: database.url, folder: '' });
    await gone.close();
    const read = createStatusReader({
      version: '1',
      health: createHealth(new Date(0)),
      database: gone,
      contexts: new Map([[hostile, { ...world.context, forge: { ...world.context.forge, ...away } }]]),
      forge: { kind: 'gitlab', url: 'https://x' },
      mask: (text) => text.replaceAll('glpat-hush', '[MASKED]'),
      now: () => new Date(60_000),
    });
    const status = await read();
    expect(status.queue).toBeNull();
    expect(status.database.problem).not.toBeNull();
    expect(status.projects[0]!.forge.problem).toBe('refused: token [MASKED]');
    const text = renderHtml(renderStatus(status));
    expect(text).toContain('needs a look');
    expect(text).toContain('The database does not answer.');
    expect(text).not.toMatch(/<script|\u202e/);
  });

  it('leaves out what another version noted in its own way', () => {
    const good = { at: '2026-01-01T00:00:00Z', models: [] };
    const found = readStandings([
      { name: 'standing/1', value: 'not JSON' },
      { name: 'standing/2', value: '{"at":1}' },
      { name: 'standing/3', value: JSON.stringify(good) },
      { name: 'looked', value: 'x' },
    ]);
    expect([...found]).toEqual([[3, good]]);
  });
});
