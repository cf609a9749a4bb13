import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readBotConfig } from '../../bot/config.ts';
import { createEffects } from '../../bot/effects.ts';
import { botRedactor, discreet } from '../../bot/mask.ts';
import { createMetrics } from '../../bot/metrics.ts';
import { doTask } from '../../bot/work.ts';
import { type Database, openDatabase, openForge, UpstreamError, UserError } from '../../src/index.ts';
import { startCdl } from '../cli/run-cdl.ts';
import { startFaultProxy } from './soak/chaos.ts';
import { type BotWorld, createBotWorld } from './world.ts';

const pem = (kind: 'ed25519' | 'rsa') =>
  (kind === 'rsa'
    ? generateKeyPairSync('rsa', { modulusLength: 2048 })
    : generateKeyPairSync('ed25519')
  ).privateKey
    .export({ type: 'pkcs8', format: 'pem' })
    .toString();

const signingKey = pem('ed25519');
const appKey = pem('rsa');
/** A line of the middle of a key: what a log would show of it. */
const lineOf = (key: string) => key.split('\n')[1]!;

/** Each with something in it that URLs, JSON and base64 write in another way. */
const planted = {
  botToken: 'glpat-b0t/"Tok"+en&1',
  evaluationToken: 'glpat-ev4l/"Tok"+en&2',
  webhookSecret: 'wh00k <secret> /of+ours"',
  firstSigning: `whsec_${Buffer.alloc(32, 0xfb).toString('base64')}`,
  secondSigning: `whsec_${Buffer.alloc(32, 0xfe).toString('base64')}`,
  signingKey: lineOf(signingKey),
  appKey: lineOf(appKey),
  workAccess: 'AKIA/W0RK+ACCESS',
  workSecret: 'w0rk/Secret+Key="1"',
  trustedSecret: 'tru5ted/Secret+Key="2"',
  session: 's3ssion/Token+"3"',
  databasePassword: 'd4tabase/pass word"&',
  proxyPassword: 'pr0xy/p@ss:word+"%',
  httpProxyPassword: 'plain-pr0xy-pass',
};
const secrets = Object.values(planted);

/** How a secret may come back from somewhere, each with what must not be seen of it. */
function echoes(secret: string): { text: string; core: string }[] {
  const whole = [
    secret,
    encodeURIComponent(secret),
    encodeURIComponent(secret).replace(/%../g, (code) => code.toLowerCase()),
    new URLSearchParams({ s: secret }).toString().slice(2),
    JSON.stringify(secret).slice(1, -1),
    JSON.stringify(JSON.stringify(secret).slice(1, -1)).slice(1, -1),
    encodeURIComponent(encodeURIComponent(secret)),
    secret.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;'),
    Buffer.from(secret).toString('hex'),
  ].map((text) => ({ text, core: text }));
  const encoded = ['x:', 'ab:', 'git:', ''].flatMap((user) =>
    (['base64', 'base64url'] as const).map((encoding) => {
      const text = Buffer.from(user + secret).toString(encoding);
      // The ends hold bits of what stands around it.
      return { text: `Basic ${text}`, core: text.slice(Math.ceil((user.length * 4) / 3) + 1, -4) };
    }),
  );
  return [...whole, ...encoded];
}

function expectNoSecret(text: string): void {
  for (const secret of secrets) {
    for (const { core } of echoes(secret)) expect(text).not.toContain(core);
  }
}

/** What a proxy or a forge answers that repeats, in every form, what it was asked with. */
const parrot = (index: number): string => {
  const forms = echoes(secrets[index % secrets.length]!).map((one) => one.text);
  // As many as an error's text has room for.
  const some = [0, 1, 2, 3].map((more) => forms[(index * 4 + more) % forms.length]);
  return JSON.stringify({ message: some.join(' ') });
};

/** An environment with every secret a bot can have; `url` is where its forge is. */
const environment = (url: string, folder: string, database: string): Record<string, string> => ({
  PATH: process.env.PATH ?? '',
  CDL_GITLAB_URL: url,
  CDL_PROJECT: 'acme/fashion',
  CDL_BOT_TOKEN: planted.botToken,
  CDL_EVALUATION_TOKEN: planted.evaluationToken,
  CDL_WEBHOOK_SECRET: planted.webhookSecret,
  CDL_SIGNING_TOKEN: `${planted.firstSigning} ${planted.secondSigning}`,
  CDL_SIGNING_KEY: signingKey,
  CDL_WORK_STORE: `file://${join(folder, 'work')}`,
  CDL_WORK_ACCESS_KEY: planted.workAccess,
  CDL_WORK_SECRET_KEY: planted.workSecret,
  CDL_TRUSTED_STORE: `file://${join(folder, 'trusted')}`,
  CDL_TRUSTED_ACCESS_KEY: 'trusted-access-key',
  CDL_TRUSTED_SECRET_KEY: planted.trustedSecret,
  CDL_WORK_SESSION_TOKEN: planted.session,
  CDL_DATABASE: database,
  CDL_BOT_FOLDER: join(folder, 'bot'),
  CDL_BOT_PORT: '0',
  CDL_LOG: 'debug',
  HTTPS_PROXY: `http://user:${encodeURIComponent(planted.proxyPassword)}@127.0.0.1:9`,
  HTTP_PROXY: `http://user:${planted.httpProxyPassword}@127.0.0.1:9`,
  NO_PROXY: '127.0.0.1',
});

let folder: string;
let database: Database;
let world: BotWorld;
let server: Server;
let url: string;
let asked = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-secrets-'));
  database = await openDatabase({
    url: null,
    folder: join(folder, 'database'),
  });
  world = await createBotWorld(database);
  server = createServer((_request, response) => {
    response.writeHead(403, { 'content-type': 'application/json' }).end(parrot(asked++));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await world.close();
  await database.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
});

/** The URL of the test's database, with a password that it does not ask for. */
function databaseWithPassword(): string {
  const found = new URL(database.url);
  if (found.password === '')
    return database.url.replace('@', `:${encodeURIComponent(planted.databasePassword)}@`);
  return database.url;
}

/** What bots mask on a GitLab and, as an app, on a GitHub, with credentials that are lent for a time. */
async function everyMask(): Promise<(text: string) => string> {
  const read = await readBotConfig(environment(url, folder, databaseWithPassword()));
  const credentials = { ...read.stores.work.credentials!, sessionToken: planted.session };
  const config = { ...read, stores: { ...read.stores, work: { ...read.stores.work, credentials } } };
  const app = {
    kind: 'github' as const,
    url,
    auth: { kind: 'app' as const, appId: '42', privateKey: appKey },
    evaluationToken: null,
    webhookSecret: planted.webhookSecret,
    workflow: 'cdl.yml',
  };
  const masks = [botRedactor(config), botRedactor({ ...config, forge: app })];
  return (text) => masks.reduce((out, mask) => mask(out), text);
}

describe('what the bot knows and nobody else may', () => {
  it('stands in no line of its log, whatever the forge repeats to it', async () => {
    const github: Record<string, string> = {
      CDL_FORGE: 'github',
      CDL_GITHUB_URL: url,
      CDL_GITHUB_APP_ID: '42',
      CDL_GITHUB_PRIVATE_KEY: appKey,
    };
    for (const more of [{}, github]) {
      const env = { ...environment(url, folder, databaseWithPassword()), ...more };
      const { child, said, ended } = startCdl(['bot'], { cwd: folder, env });
      await new Promise<void>((resolve) => {
        const look = () => {
          if (/reconcile:|refused/.test(said.stdout)) resolve();
        };
        child.stdout.on('data', look);
        child.on('close', () => resolve());
      });
      child.kill('SIGTERM');
      const { stdout, stderr } = await ended;
      expect(stdout + stderr).toContain('[MASKED]');
      expectNoSecret(stdout + stderr);
    }
  });

  it('stands in no error and no --json of the command line', async () => {
    const nowhere = `postgres://cdl:${encodeURIComponent(planted.databasePassword)}@127.0.0.1:9/cdl`;
    const env = { ...environment(url, folder, nowhere), CDL_BOT_URL: 'https://bot.example' };
    let masked = 0;
    for (const args of [
      ['doctor', '--forge', '--json'],
      ['bot', 'install', '--json'],
      ['bot', 'queue', '--json'],
      ['bot'],
    ]) {
      const { stdout, stderr } = await startCdl(args, { cwd: folder, env }).ended;
      expect(stdout + stderr, args.join(' ')).not.toBe('');
      expectNoSecret(stdout + stderr);
      masked += (stdout + stderr).split('[MASKED]').length - 1;
    }
    expect(masked).toBeGreaterThan(0);
  });

  it('stands in no comment, status, issue, change or release, and in no dead letter', async () => {
    const mask = await everyMask();
    const change = await (async () => {
      await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
      return world.openChange('exp/a');
    })();
    const forge = discreet(world.context.forge, mask);
    const all = secrets.flatMap((secret) => echoes(secret).map((one) => one.text));
    const text = all.join(' \n');
    await forge.ensureComment(change, 'a', text);
    const id = await world.say('vera', change, 'hello');
    await forge.ensureReply(change, (await forge.getComment(change, id))!, 'b', text);
    const { head } = (await forge.getChange(change))!;
    for (const [index, one] of all.entries()) {
      if (index % 9 !== 0) continue;
      const status = {
        name: `s${index}`,
        description: one,
        state: 'failed',
        url: null,
        pipeline: null,
      } as const;
      await forge.setStatus(head, status);
    }
    await forge.ensureIssue('c', { title: all[0]!, description: text, labels: [] });
    await forge.ensureRelease({ tag: 'v1', commit: head, title: all[0]!, description: text });
    const problem = { path: 'model.ts', line: 1, message: text };
    await forge.ensureLineThreads(change, [problem]);
    await world.api('ada', 'POST', 'repository/branches?branch=other&ref=main');
    await forge.ensureChange({ source: 'other', target: 'main', title: all[0]!, description: text });
    const said = JSON.stringify([
      world.project.mergeRequests.get(change)!.notes,
      world.project.statuses,
      [...world.project.issues.values()],
      [...world.project.mergeRequests.values()].map((one) => [one.title, one.description]),
      [...world.project.releases.values()],
    ]);
    expect(said.split('[MASKED]').length).toBeGreaterThan(secrets.length * 4);
    expectNoSecret(said);
  });

  it('stands not in what a change is told of a forge that repeats it', async () => {
    const mask = await everyMask();
    const proxy = await startFaultProxy(world.sandbox.url);
    const { project } = world.context.forge;
    const opened = await openForge({
      kind: 'gitlab',
      url: proxy.url,
      project,
      token: world.people.bot.token,
      evaluationToken: world.people.evaluator.token,
    });
    const forge = discreet(opened, mask);
    const base = { ...world.context, forge };
    const context = { ...base, effects: createEffects(base, async () => {}) };
    await world.push('ada', 'exp/b', { 'model.ts': 'other\n' });
    const change = await world.openChange('exp/b');
    const lines: string[] = [];
    const keep = (...args: unknown[]) => void lines.push(JSON.stringify(args));
    const options = {
      database,
      isolated: false,
      metrics: createMetrics({ process: false }),
      log: { info: keep, warn: keep, error: keep } as never,
    };
    let told = 0;
    proxy.fault = ({ path }) =>
      /\/pipelines/.test(path) ? { kind: 'status', status: 403, body: parrot(told++) } : null;
    for (let round = 0; round < secrets.length; round++) {
      await doTask(project, context, { kind: 'change', change }, options);
    }
    await proxy.close();
    const comments = world.comments(change);
    expect(comments).toHaveLength(1);
    expect(comments[0]).toContain('cannot go on with this change');
    const letter = await context.state.cursor(`failed/${project} change:${change}`);
    expect(letter).toContain('[MASKED]');
    expectNoSecret(JSON.stringify([lines, comments, letter]));
  });

  it('stands not in what is kept of a store that repeats it', async () => {
    const mask = await everyMask();
    await world.push('ada', 'exp/c', { 'model.ts': 'third\n' });
    const change = await world.openChange('exp/c');
    const { project } = world.context.forge;
    const silent = () => undefined;
    const options = {
      database,
      isolated: false,
      metrics: createMetrics({ process: false }),
      log: { info: silent, warn: silent, error: silent } as never,
      mask,
    };
    const run = (error: Error) => {
      const work = {
        ...world.work,
        readRecord: () => Promise.reject(error),
        hasArtifact: () => Promise.reject(error),
      };
      return doTask(project, { ...world.context, work }, { kind: 'change', change }, options);
    };
    for (let index = 0; index < secrets.length; index++) {
      const denied = new UserError('store-denied', `s3://cdl-work GET x: 403 ${parrot(index)}`);
      await run(denied);
      const letter = await world.context.state.cursor(`failed/${project} change:${change}`);
      expect(letter).toContain('[MASKED]');
      expectNoSecret(letter!);
      // What is thrown is kept by the queue.
      const away = new UpstreamError('store', `s3://cdl-work: ${parrot(index)}`, { retryable: true });
      const thrown = await run(away).catch((error: unknown) => String(error));
      expect(thrown).toContain('[MASKED]');
      expectNoSecret(String(thrown));
    }
  });

  it('is masked when it was lent and stands in no configuration: tokens of an app, and headers that carry one', async () => {
    const mask = await everyMask();
    const token = `ghs_${'16C7e42F292c6912E7710c838347Ae178B4a'}`;
    const jwt = `${Buffer.from('{"alg":"RS256"}').toString('base64url')}.${Buffer.from('{"iss":"42"}').toString('base64url')}.c2lnbmF0dXJl`;
    const basic = Buffer.from(`x-access-token:${token}`).toString('base64');
    for (const [text, core] of [
      [`401 for ${token}, try again`, token],
      [`a JSON web token could not be decoded: ${jwt}`, jwt],
      [`fatal: header AUTHORIZATION: basic ${basic} was refused`, basic],
      [`authorization=Bearer%20${token}`, token],
      [`Authorization: Bearer ${'k'.repeat(40)}`, 'k'.repeat(40)],
    ] as const) {
      const masked = mask(text);
      expect(masked).toContain('[MASKED]');
      expect(masked).not.toContain(core);
    }
    const plain = 'Basic authentication is off; bearer tokens of ghost_users are fine; https://x.y/eyJ';
    expect(mask(plain)).toBe(plain);
    // Whoever writes them must not stop the bot.
    for (const long of [' ', '%20', '-eyJaaaaaaaa', 'bearer ']) {
      const text = long.repeat(100_000);
      expect(mask(`${text} ${token}`)).toBe(`${text} [MASKED]`);
    }
  }, 20_000);
});
