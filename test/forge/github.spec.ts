import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ZipFile } from 'yazl';
import { openMirror } from '../../src/forge/git.ts';
import { openGithub, webUrl } from '../../src/forge/github.ts';
import type { GithubAuth } from '../../src/forge/github-client.ts';
import { artifactName } from '../../src/forge/github-runs.ts';
import { readLimit } from '../../src/forge/http.ts';
import type { Forge } from '../../src/forge/types.ts';
import { type ForgeBench, forgeContract } from '../contract/forge.ts';
import { forgeFaults } from '../contract/forge-faults.ts';
import { addComment } from './github-fake/changes.ts';
import { openDescription } from './github-fake/description.ts';
import { type GithubFake, startGithubFake } from './github-fake/server.ts';
import { githubOpenapi } from './github-openapi.ts';

const found = await githubOpenapi();
const description = 'description' in found ? openDescription(found.description) : null;
if ('skipped' in found) console.warn(`skipped: GitHub’s OpenAPI description: ${found.skipped}`);

const git = (cwd: string, ...args: string[]): string =>
  execFileSync('git', ['-c', 'user.name=Ada', '-c', 'user.email=ada@example.com', ...args], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim();

const keys = generateKeyPairSync('rsa', { modulusLength: 2048 });
const privateKey = keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();

interface World {
  folder: string;
  fake: GithubFake;
  bench: ForgeBench;
  forge: Forge;
  head: string;
  base: string;
}

/** A repository with one open pull request; the driver speaks as an account or as an app. */
async function createWorld(kind: GithubAuth['kind']): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'cdl-github-'));
  const work = join(folder, 'work');
  mkdirSync(work);
  git(work, 'init', '-q', '-b', 'main');
  writeFileSync(join(work, 'model.ts'), 'good\n');
  writeFileSync(join(work, 'large.txt'), 'x'.repeat(1_500_000));
  git(work, 'add', '.');
  git(work, 'commit', '-qm', 'first');
  const base = git(work, 'rev-parse', 'HEAD');
  git(work, 'checkout', '-qb', 'exp/lr');
  writeFileSync(join(work, 'model.ts'), 'better\n');
  git(work, 'commit', '-qam', 'better');
  const head = git(work, 'rev-parse', 'HEAD');
  const fake = await startGithubFake({
    folder: join(folder, 'github'),
    from: work,
    description: description!,
  });
  const { state } = fake;
  const ada = fake.user('ada', 'write');
  fake.registerApp('cdl-bot', keys.publicKey);
  const account = fake.user('cdl-bot', 'maintain');
  const me = kind === 'app' ? state.app!.user : account;
  state.teams.set('acme/builders', [ada.id]);
  const number = state.nextNumber();
  state.pulls.push({
    number,
    title: 'Better',
    body: '',
    draft: false,
    author: ada,
    source: 'exp/lr',
    target: 'main',
    head,
    base,
    fork: false,
    state: 'open',
    mergedAt: null,
    mergeCommit: null,
    updatedAt: state.now(),
  });
  const open = (auth: GithubAuth) => openGithub({ url: fake.url, project: 'acme/fashion', auth });
  const auth: GithubAuth =
    kind === 'app' ? { kind, appId: '42', privateKey } : { kind, token: account.token };
  const forge = await open(auth);
  const say = async (author: typeof ada, body: string) =>
    String(addComment(fake_(fake), author, number, body).id);
  const bench: ForgeBench = {
    forge,
    stranger: await open({ kind: 'token', token: 'ghp_nobody-knows-this' }),
    change: number,
    branch: 'exp/lr',
    head,
    author: { id: String(ada.id), username: 'ada', name: 'ada' },
    say: (body) => say(ada, body),
    bodies: () => state.comments.map((one) => one.body),
    statuses: (name) =>
      kind === 'app'
        ? state.checks.filter((one) => one.name === name).map((one) => `${word(one.status)}: ${one.title}`)
        : state.statuses
            .filter((one) => one.context === name)
            .map((one) => `${one.state}: ${one.description}`),
    renewed: kind === 'app' ? ['pending: two'] : ['pending: one', 'pending: two'],
    threads: false,
    longest: 65_536,
    picture:
      /^!\[chart\]\(http:\/\/127\.0\.0\.1:\d+\/acme\/fashion\/raw\/cdl-assets\/03\/[0-9a-f]{64}\.png\)$/,
    group: 'acme/builders',
    issues: () =>
      state.issues.map((one) => ({ title: one.title, text: one.body, open: one.state === 'open' })),
    lineThreads: null,
    press: async () => {
      state.reviews.push({
        id: state.nextId(),
        pull: number,
        user: ada,
        state: 'APPROVED',
        at: state.now(),
        commit: head,
      });
      state.reviews.push({
        id: state.nextId(),
        pull: number,
        user: ada,
        state: 'COMMENTED',
        at: state.now(),
        commit: head,
      });
    },
    url: fake.url,
    at: (url) => openGithub({ url, project: 'acme/fashion', auth }),
    double: async (body) => void (await say(me, body)),
  };
  return { folder, fake, bench, forge, head, base };
}

const fake_ = (fake: GithubFake) => ({ state: fake.state, emit: fake.emit });
const word = (status: string): string => ({ queued: 'pending', in_progress: 'running' })[status] ?? status;

describe.skipIf(!description)('on a bad day', () => {
  let world: World;
  beforeAll(async () => {
    // An app only speaks with another token.
    world = await createWorld('token');
  });
  afterAll(async () => {
    await world?.fake.close();
    if (world) rmSync(world.folder, { recursive: true, force: true });
  });

  forgeFaults('github', () => world.bench);
});

describe.skipIf(!description).each(['token', 'app'] as const)('as %s', (kind) => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld(kind);
  });
  afterAll(async () => {
    await world?.fake.close();
    if (world) rmSync(world.folder, { recursive: true, force: true });
  });

  forgeContract(`github (${kind})`, () => world.bench);

  it('sends only what GitHub’s published description knows, and the fake answers as it says', async () => {
    await world.fake.settled();
    expect(world.fake.violations).toEqual([]);
  });
});

describe.skipIf(!description)('runs on GitHub', () => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld('token');
  });
  afterAll(async () => {
    await world?.fake.settled();
    await world?.fake.close();
    if (world) rmSync(world.folder, { recursive: true, force: true });
    expect(world?.fake.violations).toEqual([]);
  });

  const zipOf = async (files: Record<string, Buffer>): Promise<Buffer> => {
    const zip = new ZipFile();
    for (const [name, bytes] of Object.entries(files)) zip.addBuffer(bytes, name);
    zip.end();
    const chunks: Buffer[] = [];
    for await (const chunk of zip.outputStream) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  };

  it('are pipelines of their change, and of a branch when no change started them', async () => {
    const { fake, forge, head, bench } = world;
    const ada = fake.state.users[0]!;
    const start = { branch: 'exp/lr', sha: head, inputs: {}, actor: ada };
    const mine = fake.startRun({ ...start, event: 'pull_request', pulls: [bench.change] });
    fake.startRun({ ...start, event: 'pull_request', pulls: [99] });
    const pushed = fake.startRun({ ...start, event: 'push', pulls: [] });
    expect((await forge.changePipelines(bench.change)).map((one) => one.id)).toEqual([String(mine.id)]);
    expect((await forge.branchPipelines('exp/lr')).map((one) => one.id)).toEqual([String(pushed.id)]);
    expect(await forge.getPipeline(String(mine.id))).toMatchObject({
      sha: head,
      state: 'running',
      ref: 'exp/lr',
    });
    expect(await forge.pipelineStarter(String(mine.id))).toBe(String(ada.id));
    expect(await forge.getPipeline('4711')).toBeNull();
    await forge.cancelPipeline(String(mine.id));
    expect(await forge.getPipeline(String(mine.id))).toMatchObject({ state: 'canceled' });
    await forge.cancelPipeline(String(mine.id));
  });

  it('are found again after they were started, also where the server does not name them', async () => {
    const { fake, forge } = world;
    const inputs = { cdl_task: 'evaluate', cdl_model: 'fashion' };
    const named = await forge.runPipeline('main', inputs);
    expect(fake.state.runs.at(-1)).toMatchObject({
      id: Number(named.id),
      inputs,
      event: 'workflow_dispatch',
    });
    for (const runDetails of ['refused', 'ignored'] as const) {
      fake.state.runDetails = runDetails;
      const looked = await forge.runPipeline('main', inputs);
      expect(looked.id).toBe(String(fake.state.runs.at(-1)!.id));
      expect(looked.id).not.toBe(named.id);
    }
    fake.state.runDetails = 'named';
  });

  it('tell their jobs, of which a failed one is optional when the run succeeded all the same', async () => {
    const { fake, forge, head } = world;
    const { state } = fake;
    const actor = state.users[0]!;
    const run = fake.startRun({ branch: 'exp/lr', sha: head, event: 'push', pulls: [], inputs: {}, actor });
    const add = (name: string, conclusion: string | null) =>
      state.jobs.push({
        id: state.nextId(),
        run: run.id,
        name,
        status: conclusion ? 'completed' : 'in_progress',
        conclusion,
      });
    add('train', 'failure');
    add('lint', 'skipped');
    add('report', null);
    const seen = async () =>
      (await forge.jobs(String(run.id))).map((one) => [one.name, one.state, one.optional]);
    expect(await seen()).toEqual([
      ['train', 'failed', false],
      ['lint', 'skipped', false],
      ['report', 'running', false],
    ]);
    fake.finish(run, 'success');
    expect((await seen())[0]).toEqual(['train', 'failed', true]);
  });

  it('hand over one file of a job’s artifact, no longer than asked for, and no token to the storage', async () => {
    const { fake, forge } = world;
    const { state } = fake;
    const run = state.runs.at(-1)!;
    const job = {
      id: state.nextId(),
      run: run.id,
      name: 'register',
      status: 'completed',
      conclusion: 'success',
    };
    state.jobs.push(job);
    const id = String(job.id);
    expect(await forge.artifact(id, '.cdl/a.json')).toBeNull();
    const put = async (name: string, zip: Buffer) =>
      state.artifacts.push({ id: state.nextId(), run: run.id, name, zip });
    await put('register', await zipOf({ '.cdl/a.json': Buffer.from('old') }));
    await put('train', await zipOf({ '.cdl/a.json': Buffer.from('of another job') }));
    await put(
      'register',
      await zipOf({ 'cdl.yaml': Buffer.from('x'), '.cdl/a.json': Buffer.from('{"v":1}') }),
    );
    expect(String(await forge.artifact(id, '.cdl/a.json'))).toBe('{"v":1}');
    expect(await forge.artifact(id, '.cdl/b.json')).toBeNull();
    await expect(forge.artifact(id, '.cdl/a.json', 6)).rejects.toMatchObject({ code: 'artifact-corrupt' });
    expect(await forge.artifact('4711', '.cdl/a.json')).toBeNull();
    expect(await forge.jobLog(id, 0)).toBeNull();
    await put(`log of ${id}`, Buffer.from('one\ntwo\n'));
    expect(String(await forge.jobLog(id, 4))).toBe('two\n');
    await put('register', Buffer.from('no zip'));
    await expect(forge.artifact(id, '.cdl/a.json')).rejects.toMatchObject({ code: 'artifact-corrupt' });
  });
});

describe.skipIf(!description)('an app on GitHub', () => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld('app');
  });
  afterAll(async () => {
    await world?.fake.close();
    if (world) rmSync(world.folder, { recursive: true, force: true });
    expect(world?.fake.violations).toEqual([]);
  });

  it('shows problems at their lines, and says success after failure as a new check run', async () => {
    const { fake, forge, head } = world;
    const status = {
      name: 'cdl',
      description: 'cdl.yaml cannot be read',
      url: null,
      pipeline: null,
    } as const;
    const problems = [{ path: 'cdl.yaml', line: 3, message: 'accuracy is not known' }];
    await forge.setStatus(head, { ...status, state: 'failed', problems });
    await forge.setStatus(head, { ...status, state: 'failed', problems });
    await forge.setStatus(head, { ...status, state: 'success', description: 'fine' });
    expect(fake.state.checks.map((one) => [one.status, one.conclusion, one.title])).toEqual([
      ['completed', 'failure', 'cdl.yaml cannot be read'],
      ['completed', 'success', 'fine'],
    ]);
    expect(fake.state.checks[0]!.annotations).toMatchObject([{ path: 'cdl.yaml', start_line: 3 }]);
  });

  it('falls back to commit statuses when it may not write check runs', async () => {
    const { fake, forge, head } = world;
    fake.state.mayCheck = false;
    const status = { name: 'cdl/x', state: 'pending', description: 'so', url: null, pipeline: null } as const;
    await forge.setStatus(head, status);
    await forge.setStatus(head, status);
    expect(fake.state.statuses.map((one) => one.context)).toEqual(['cdl/x']);
  });

  it('pushes with a token that it renews', async () => {
    const { fake, forge, folder, head } = world;
    const before = fake.state.installationTokens.size;
    for (let i = 0; i < 3; i++) await forge.defaultBranch();
    expect(fake.state.installationTokens.size).toBe(before);
    // So short that it is renewed before each use.
    fake.state.tokenSeconds = 60;
    const auth = { kind: 'app', appId: '42', privateKey } as const;
    const again = await openGithub({ url: fake.url, project: 'acme/fashion', auth });
    const mirror = await openMirror({
      folder: join(folder, 'mirror'),
      access: again.git(),
      path: process.env.PATH!,
    });
    const commit = {
      branch: 'exp/lr',
      parent: head,
      files: { 'cdl.lock': 'version: 1\n' },
      message: 'lock\n',
    };
    const author = { name: 'CDL', email: 'cdl@example.com' };
    expect(await mirror.fastForward({ ...commit, author })).toBe('pushed');
    expect((await again.getChange(world.bench.change))!.head).toBe(await mirror.head('exp/lr'));
    expect(fake.state.installationTokens.size).toBeGreaterThan(before + 2);
  });

  it('is told apart from one that is not ours', async () => {
    const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const pem = other.export({ type: 'pkcs8', format: 'pem' }).toString();
    const open = (key: string) =>
      openGithub({
        url: world.fake.url,
        project: 'acme/fashion',
        auth: { kind: 'app', appId: '42', privateKey: key },
      });
    await expect(open(pem)).rejects.toMatchObject({ code: 'forge-denied' });
    await expect(open('no key')).rejects.toMatchObject({ code: 'config-invalid' });
  });
});

describe.skipIf(!description)('pictures and files on GitHub', () => {
  it('are kept once per content, beside a history they share nothing with, also when asked for at once', async () => {
    const world = await createWorld('token');
    const { fake, forge, folder } = world;
    const bytes = [1, 2, 3].map((one) => new Uint8Array([one]));
    const links = await Promise.all([...bytes, ...bytes].map((one) => forge.upload('curve.png', one)));
    expect(new Set(links).size).toBe(3);
    const repository = join(folder, 'github', 'repository.git');
    expect(git(repository, 'ls-tree', '-r', '--name-only', 'cdl-assets').split('\n')).toHaveLength(3);
    expect(git(repository, 'rev-list', '--count', 'cdl-assets')).toBe('3');
    expect((await forge.readFile('large.txt', 'main'))!.length).toBe(1_500_000);
    expect(await forge.member(String(fake.user('mallory').id))).toBeNull();
    await fake.close();
    rmSync(folder, { recursive: true, force: true });
    expect(fake.violations).toEqual([]);
  });
});

describe('GitHub’s ways', () => {
  it('of saying that a rate limit is used up are all 429 to us', () => {
    const now = 1_000_000;
    const reset = { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '1030' };
    expect(readLimit(403, reset, now)).toEqual({ status: 429, retryAfter: '30' });
    expect(readLimit(403, { 'retry-after': '7' }, now)).toEqual({ status: 429, retryAfter: '7' });
    expect(readLimit(403, { 'x-ratelimit-remaining': '12' }, now)).toEqual({
      status: 403,
      retryAfter: undefined,
    });
    expect(readLimit(404, reset, now)).toEqual({ status: 404, retryAfter: undefined });
  });

  it('of naming servers and artifacts are known', () => {
    expect(webUrl('https://api.github.com')).toBe('https://github.com');
    expect(webUrl('https://api.acme.ghe.com/')).toBe('https://acme.ghe.com');
    expect(webUrl('https://git.example.com/api/v3/')).toBe('https://git.example.com');
    expect(artifactName('cdl / train: [a]')).toBe('cdl - train- [a]');
  });

  it('of naming repositories are checked', async () => {
    const auth = { kind: 'token', token: 't' } as const;
    for (const project of ['acme', 'acme/fashion/more', '/fashion']) {
      await expect(openGithub({ url: 'https://api.github.com', project, auth })).rejects.toMatchObject({
        code: 'config-invalid',
      });
    }
  });
});
