import { type ChildProcess, spawn } from 'node:child_process';
import { createHmac, generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { readQueue } from '../../bot/queue.ts';
import { type Database, openDatabase, packageRoot } from '../../src/index.ts';
import { type BotWorld, createBotWorld } from './world.ts';

const key = Buffer.alloc(32, 7);
let folder: string;
let database: Database;
let world: BotWorld;
let gate: Gate;
let bot: ChildProcess;

/** A way to the forge on which statuses are held up until they are let through. */
interface Gate {
  url: string;
  server: Server;
  /** Resolves when a status stands before it. */
  reached: Promise<void>;
  open(): void;
}

async function openGate(target: string): Promise<Gate> {
  let open = () => {};
  let arrive = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const reached = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  const server = createServer(async (incoming, outgoing) => {
    if (incoming.method === 'POST' && incoming.url?.includes('/statuses/')) {
      arrive();
      await opened;
    }
    const { method, headers, url } = incoming;
    const passed = request(new URL(url ?? '/', target), { method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    passed.on('error', () => outgoing.destroy());
    incoming.pipe(passed);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server, reached, open };
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-stop-'));
  database = await openDatabase({
    url: null,
    folder: join(folder, 'database'),
  });
  world = await createBotWorld(database);
  gate = await openGate(world.sandbox.url);
});
afterAll(async () => {
  gate?.open();
  if (bot && bot.exitCode === null) bot.kill('SIGKILL');
  gate?.server.closeAllConnections();
  gate?.server.close();
  await world?.close();
  await database?.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
});

/** A signed delivery that says that a change was touched. */
function deliver(url: string, change: number): Promise<Response> {
  const body = JSON.stringify({
    object_kind: 'merge_request',
    project: { path_with_namespace: world.context.forge.project },
    object_attributes: { iid: change, action: 'update' },
  });
  const id = 'while-it-stops';
  const at = String(Math.floor(Date.now() / 1000));
  const signature = createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64');
  return fetch(`${url}/webhooks/gitlab`, {
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': at,
      'webhook-signature': `v1,${signature}`,
    },
  });
}

/** Starts `cdl bot`; its address once it listens. `preload` is a module that each of its threads loads first. */
async function startBot(preload: string | null = null): Promise<string> {
  const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const first = preload === null ? [] : ['--import', `data:text/javascript,${encodeURIComponent(preload)}`];
  bot = spawn(process.execPath, [...first, join(packageRoot(), 'bin', 'cdl.js'), 'bot'], {
    env: {
      PATH: process.env.PATH,
      CDL_GITLAB_URL: gate.url,
      CDL_PROJECT: world.context.forge.project,
      CDL_BOT_TOKEN: world.people.bot.token,
      CDL_EVALUATION_TOKEN: world.people.evaluator.token,
      CDL_SIGNING_TOKEN: `whsec_${key.toString('base64')}`,
      CDL_SIGNING_KEY: pem,
      CDL_WORK_STORE: `file://${join(world.folder, 'work')}`,
      CDL_TRUSTED_STORE: `file://${join(world.folder, 'trusted')}`,
      CDL_DATABASE: database.url,
      CDL_BOT_FOLDER: join(folder, 'bot'),
      CDL_BOT_PORT: '0',
    },
    stdio: ['ignore', 'pipe', preload === null ? 'inherit' : 'pipe'],
  });
  return new Promise<string>((resolve, reject) => {
    bot.once('exit', (code) => reject(new Error(`the bot ended with ${code}`)));
    createInterface({ input: bot.stdout! }).on('line', (line) => {
      const said = JSON.parse(line) as { msg: string; url?: string };
      if (said.msg === 'the bot listens' && said.url) resolve(said.url);
    });
  });
}

it('a bot that is told to stop is not ready, ends its task, queues what comes meanwhile, and exits with 0', {
  timeout: 90_000,
}, async () => {
  await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
  const change = await world.openChange('exp/a');
  const url = await startBot();
  const ended = once(bot, 'exit');
  await gate.reached;
  await vi.waitFor(async () => expect((await fetch(`${url}/readyz`)).status).toBe(200), { timeout: 20_000 });

  bot.kill('SIGTERM');
  await vi.waitFor(
    async () => {
      const answer = await fetch(`${url}/readyz`);
      expect([answer.status, await answer.json()]).toMatchObject([503, { stopping: true }]);
    },
    { timeout: 20_000 },
  );
  // It lives, and what the forge sends now is not lost.
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  expect((await deliver(url, change)).status).toBe(202);
  expect(world.statuses(change)).toEqual({});

  gate.open();
  expect(await ended).toEqual([0, null]);
  expect(Object.keys(world.statuses(change))).toEqual(['cdl/fashion']);
  const left = await readQueue(database);
  expect(left).toContainEqual(
    expect.objectContaining({ state: 'waiting', key: `${world.context.forge.project} change:${change}` }),
  );
  expect(left.filter((row) => row.state !== 'waiting')).toEqual([]);
});

/** Ends every thread but the main one with an error when the process is told to by SIGUSR2. */
const fragile = `
import { BroadcastChannel, isMainThread } from 'node:worker_threads';
const channel = new BroadcastChannel('end');
channel.unref();
if (isMainThread) process.on('SIGUSR2', () => channel.postMessage('now'));
else channel.onmessage = () => { throw new Error('a thread fell over'); };
`;

it('a bot whose thread that takes deliveries died says so and ends, so that whoever runs it starts it again', {
  timeout: 90_000,
}, async () => {
  gate.open();
  const url = await startBot(fragile);
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  const said = text(bot.stderr!);
  const ended = once(bot, 'exit');
  bot.kill('SIGUSR2');
  expect(await ended).toEqual([70, null]);
  expect(await said).toContain('a thread fell over');
  await expect(fetch(`${url}/healthz`)).rejects.toThrow();
});
