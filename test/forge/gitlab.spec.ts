import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UpstreamError } from '../../src/core/error.ts';
import { openGitlab } from '../../src/forge/gitlab.ts';
import { backoff, mayRepeat, readBody, send } from '../../src/forge/http.ts';
import { createLimits } from '../../src/forge/limits.ts';
import { addMember, createProject, createToken, createUser, setGroup } from '../../src/sandbox/seed.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/server.ts';
import { type ForgeBench, forgeContract } from '../contract/forge.ts';
import { forgeFaults } from '../contract/forge-faults.ts';

let folder: string;
let sandbox: Sandbox;
let bench: ForgeBench;

const git = (cwd: string, ...args: string[]): string =>
  execFileSync('git', ['-c', 'user.name=Ada', '-c', 'user.email=ada@example.com', ...args], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim();

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cdl-forge-'));
  const work = join(folder, 'work');
  mkdirSync(work);
  git(work, 'init', '-q', '-b', 'main');
  writeFileSync(join(work, 'model.ts'), 'good\n');
  git(work, 'add', '.');
  git(work, 'commit', '-qm', 'first');
  sandbox = await startSandbox({ folder: join(folder, 'sandbox'), path: '/gitlab' });
  const { world } = sandbox;
  const owner = createUser(world, { username: 'olga', name: 'Olga' });
  const ada = createUser(world, { username: 'ada', name: 'Ada' });
  const bot = createUser(world, { username: 'cdl-bot', name: 'CDL', bot: true });
  const project = await createProject(world, { namespace: 'acme', path: 'fashion', owner, from: work });
  addMember(project, ada, 30);
  addMember(project, bot, 40);
  setGroup(world, 'acme/validators', [ada]);
  const [adasToken, botsToken] = [createToken(world, ada).token, createToken(world, bot).token];
  git(work, 'checkout', '-qb', 'exp/lr');
  writeFileSync(join(work, 'model.ts'), 'better\n');
  git(work, 'commit', '-qam', 'better');
  const basic = Buffer.from(`oauth2:${adasToken}`).toString('base64');
  await new Promise<void>((resolve, reject) => {
    import('node:child_process').then(({ execFile }) =>
      execFile(
        'git',
        [
          '-c',
          `http.extraHeader=Authorization: Basic ${basic}`,
          'push',
          '-q',
          `${sandbox.url}/acme/fashion.git`,
          'exp/lr',
        ],
        { cwd: work },
        (error) => (error ? reject(error) : resolve()),
      ),
    );
  });
  const api = async (token: string, path: string, body: object): Promise<{ iid: number; id: number }> => {
    const answer = await fetch(`${sandbox.url}/api/v4/projects/acme%2Ffashion/${path}`, {
      method: 'POST',
      headers: { 'private-token': token, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    expect(answer.status).toBe(201);
    return (await answer.json()) as { iid: number; id: number };
  };
  const mr = await api(adasToken, 'merge_requests', {
    source_branch: 'exp/lr',
    target_branch: 'main',
    title: 'Better',
  });
  const open = (token: string) => openGitlab({ url: sandbox.url, project: 'acme/fashion', token });
  const notes = `merge_requests/${mr.iid}/notes`;
  bench = {
    forge: await open(botsToken),
    stranger: await open('glpat-nobody-knows-this'),
    change: mr.iid,
    branch: 'exp/lr',
    head: git(work, 'rev-parse', 'HEAD'),
    author: { id: String(ada.id), username: 'ada', name: 'Ada' },
    say: async (body) => String((await api(adasToken, notes, { body })).id),
    bodies: () =>
      project.mergeRequests
        .get(mr.iid)!
        .notes.filter((n) => !n.system)
        .map((n) => n.body),
    statuses: (name) =>
      project.statuses
        .filter((one) => one.name === name)
        .map((one) => (one.status === 'canceled' ? 'canceled' : `${one.status}: ${one.description}`)),
    issues: () =>
      [...project.issues.values()].map((one) => ({
        title: one.title,
        text: one.description,
        open: one.state === 'opened',
      })),
    lineThreads: () =>
      project.mergeRequests.get(mr.iid)!.notes.flatMap((note) =>
        note.position
          ? [
              {
                path: note.position.new_path,
                line: note.position.new_line ?? 0,
                resolved: note.resolved === true,
              },
            ]
          : [],
      ),
    group: 'acme/validators',
    press: async () => {
      await api(adasToken, `merge_requests/${mr.iid}/approve`, {});
    },
    renewed: ['canceled', 'pending: two'],
    threads: true,
    longest: 1_000_000,
    picture: /^!\[chart\]\(\/uploads\/.+\)/,
    url: sandbox.url,
    at: (url) => openGitlab({ url, project: 'acme/fashion', token: botsToken }),
    double: async (body) => {
      await api(botsToken, notes, { body });
    },
  };
});
afterAll(async () => {
  await sandbox?.close();
  rmSync(folder, { recursive: true, force: true });
});

forgeContract('gitlab', () => bench);
forgeFaults('gitlab', () => bench);

describe('what the driver sends', () => {
  it('is in GitLab’s API description, or a listed exception', () => {
    expect(sandbox.violations).toEqual([]);
    expect(sandbox.problems).toEqual([]);
  });
});

describe('the HTTP below it', () => {
  let server: Server;
  let url: URL;
  let answers: { status: number; headers?: Record<string, string> }[];
  let got: string[];
  beforeAll(async () => {
    server = createServer((request, response) => {
      got.push(request.method ?? '');
      const { status, headers } = answers.shift() ?? { status: 200 };
      response.writeHead(status, headers).end('{"message":"so"}');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/x`);
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  const call = async (method: string, given: typeof answers) => {
    answers = given;
    got = [];
    const waits: number[] = [];
    const result = await send({ method, url, headers: {}, body: null }, async (ms) => waits.push(ms)).catch(
      (error: unknown) => error,
    );
    return { result, waits, calls: got.length };
  };

  it('repeats what can be repeated, waiting as long as it is told', async () => {
    const limited = { status: 429, headers: { 'retry-after': '7' } };
    expect(await call('POST', [limited])).toMatchObject({ calls: 2, waits: [7000], result: { status: 200 } });
    expect(await call('GET', [{ status: 502 }, { status: 503 }])).toMatchObject({ calls: 3 });
  });

  it('never repeats a POST that may have been carried out', async () => {
    const { result, calls } = await call('POST', [{ status: 502 }]);
    expect(calls).toBe(1);
    expect(result).toBeInstanceOf(UpstreamError);
    expect(result).toMatchObject({ retryable: true, status: 502 });
  });

  it('gives up after some attempts, and at once when it should wait for minutes', async () => {
    const down = Array.from({ length: 9 }, () => ({ status: 503 }));
    expect(await call('GET', down)).toMatchObject({ calls: 5 });
    expect(await call('GET', [{ status: 429, headers: { 'retry-after': '600' } }])).toMatchObject({
      calls: 1,
    });
  });

  it('is not asked before the time it named: by that token at all, or for that route alone', async () => {
    const network = { limits: createLimits() };
    const waits: number[] = [];
    const ask = (method: string, path: string, token: string) =>
      send(
        { method, url: new URL(path, url), headers: { 'private-token': token }, body: null, network },
        async (ms) => waits.push(ms),
      ).catch((error: unknown) => error);
    const notes = '/api/v4/projects/1/merge_requests/2/notes';
    got = [];
    answers = [{ status: 429, headers: { 'retry-after': '600' } }];
    expect(await ask('POST', notes, 'one')).toMatchObject({ status: 429, retryable: true });
    const refused = await ask('POST', notes.replace('2', '3'), 'one');
    expect(refused).toBeInstanceOf(UpstreamError);
    expect(refused).toMatchObject({
      status: 429,
      retryable: true,
      message: expect.stringMatching(/not asked.* until 2/),
    });
    expect(await ask('GET', notes, 'one')).toMatchObject({ status: 200 });
    expect(await ask('POST', notes, 'two')).toMatchObject({ status: 200 });
    expect(got).toEqual(['POST', 'GET', 'POST']);
    const reset = String(Math.ceil(Date.now() / 1000) + 30);
    answers = [{ status: 429, headers: { 'ratelimit-remaining': '0', 'ratelimit-reset': reset } }];
    await ask('GET', notes, 'one');
    await ask('GET', '/api/v4/user', 'one');
    await ask('GET', '/api/v4/user', 'two');
    // Once for the pause itself, and for what is left of it at the next two requests (the time here did not pass).
    expect(waits).toHaveLength(3);
    for (const wait of waits) expect(wait).toBeGreaterThan(20_000);
  });

  it('is asked again when that time is over, and never told to stay away for ever', () => {
    const limits = createLimits();
    const request = { method: 'GET', url, headers: { authorization: 'Bearer x' } };
    limits.refused(request, 5_000, true, 1_000);
    expect([limits.rest(request, 2_000), limits.rest(request, 6_000), limits.rest(request, 9_000)]).toEqual([
      4_000, 0, 0,
    ]);
    limits.refused(request, 1e12, false, 10_000);
    expect(limits.rest(request, 10_000)).toBe(3_600_000);
  });

  it('does not wait for ever for an answer that does not come, or stops coming', async () => {
    const silent = createServer((request, response) => {
      if (request.url === '/half') response.writeHead(200, { 'content-length': '100' }).write('{"message":');
    });
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const at = (path: string) => ({
      method: 'GET',
      url: new URL(`http://127.0.0.1:${(silent.address() as AddressInfo).port}${path}`),
      headers: {},
      body: null,
      idle: 50,
    });
    try {
      const never = await send(at('/never'), async () => {}).catch((error: unknown) => error);
      expect(never).toBeInstanceOf(UpstreamError);
      expect(never).toMatchObject({ retryable: true, message: 'GET /never: ETIMEDOUT' });
      const { body } = await send(at('/half'), async () => {});
      const half = await readBody(body, 1000).catch((error: unknown) => error);
      expect(half).toBeInstanceOf(UpstreamError);
      expect(half).toMatchObject({ retryable: true });
    } finally {
      silent.closeAllConnections();
      await new Promise((resolve) => silent.close(resolve));
    }
  });

  it('knows which failures are safe to repeat', () => {
    expect(mayRepeat('POST', { status: 429 })).toBe(true);
    expect(mayRepeat('POST', { code: 'ECONNREFUSED' })).toBe(true);
    expect(mayRepeat('POST', { code: 'ECONNRESET' })).toBe(false);
    expect(mayRepeat('PUT', { code: 'ECONNRESET' })).toBe(true);
    expect(mayRepeat('GET', { status: 400 })).toBe(false);
    expect(backoff(1, new Date(5000).toUTCString(), 1000, 0)).toBe(4000);
    expect(backoff(3, undefined, 0, 1)).toBe(1000);
  });
});
