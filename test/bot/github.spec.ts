import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { ZipFile } from 'yazl';
import { type RunningBot, startBot } from '../../bot/main.ts';
import { readDecisions } from '../../bot/read.ts';
import { createBotState } from '../../bot/state.ts';
import {
  claimPath,
  createZone,
  type Database,
  keyId,
  openDatabase,
  openForge,
  openStore,
  parseLock,
  type Zone,
} from '../../src/index.ts';
import { openDescription } from '../forge/github-fake/description.ts';
import { type GithubFake, startGithubFake } from '../forge/github-fake/server.ts';
import type { FakeRun, FakeUser } from '../forge/github-fake/state.ts';
import { githubOpenapi } from '../forge/github-openapi.ts';
import { answerQuestion, git, makeClaim } from './jobs.ts';
import { projectYaml } from './world.ts';

const found = await githubOpenapi();
const description = 'description' in found ? openDescription(found.description) : null;
if ('skipped' in found) console.warn(`skipped: GitHub’s OpenAPI description: ${found.skipped}`);

const pem = (kind: 'ed25519' | 'rsa') =>
  (kind === 'rsa'
    ? generateKeyPairSync('rsa', { modulusLength: 2048 })
    : generateKeyPairSync('ed25519')
  ).privateKey
    .export({ type: 'pkcs8', format: 'pem' })
    .toString();

async function zipOf(files: Record<string, string>): Promise<Buffer> {
  const zip = new ZipFile();
  for (const [name, text] of Object.entries(files)) zip.addBuffer(Buffer.from(text), name);
  zip.end();
  const chunks: Buffer[] = [];
  for await (const chunk of zip.outputStream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

describe.skipIf(!description)('the bot on GitHub, as an app', () => {
  const appKey = pem('rsa');
  const signingKey = pem('ed25519');
  const quality = new Map<string, number>();
  const soon = { timeout: 40_000, interval: 50 };
  let folder: string;
  let source: string;
  let database: Database;
  let fake: GithubFake;
  let bot: RunningBot;
  let people: Record<'ada' | 'vera' | 'eve', FakeUser>;
  let work: Zone;
  let trusted: Zone;

  const addJob = (run: FakeRun, name: string) =>
    fake.state.jobs.push({
      id: fake.state.nextId(),
      run: run.id,
      name,
      status: 'completed',
      conclusion: 'success',
    });

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cdl-bot-github-'));
    source = join(folder, 'source');
    await mkdir(source);
    await git(source, 'init', '-q', '-b', 'main');
    await git(source, 'config', 'user.name', 'Olga');
    await git(source, 'config', 'user.email', 'olga@example.com');
    await writeFile(join(source, 'cdl.yaml'), projectYaml());
    await writeFile(join(source, 'model.ts'), 'first\n');
    await git(source, 'add', '.');
    await git(source, 'commit', '-qm', 'start');
    const zone = async (name: 'work' | 'trusted') =>
      createZone(name, await openStore(`file://${join(folder, name)}`, null));
    [work, trusted] = await Promise.all([zone('work'), zone('trusted')]);
    const versions = new Map<string, number>();
    fake = await startGithubFake({
      folder: join(folder, 'github'),
      from: source,
      description: description!,
      engine: {
        async pull(run) {
          const { repository } = fake.state;
          const job = { work, repository, sha: run.sha, versions };
          const claim = await makeClaim(job).catch(() => null);
          if (claim === null) return fake.finish(run, 'failure');
          for (const name of ['ingest', 'train', 'register']) addJob(run, name);
          const zip = await zipOf({ 'cdl.yaml': '', [claimPath('fashion')]: JSON.stringify(claim) });
          fake.state.artifacts.push({ id: fake.state.nextId(), run: run.id, name: 'register', zip });
          fake.finish(run, 'success');
        },
        async dispatched(run) {
          const { repository } = fake.state;
          await answerQuestion({ trusted, quality, repository, sha: run.sha, inputs: run.inputs });
          addJob(run, 'evaluate');
          fake.finish(run, 'success');
        },
      },
    });
    people = {
      ada: fake.user('ada', 'write'),
      vera: fake.user('vera', 'write'),
      eve: fake.user('eve', 'write'),
    };
    fake.registerApp('cdl-bot', createPublicKey(appKey));
    database = await openDatabase({
      url: null,
      folder: join(folder, 'database'),
    });
    bot = await startBot({
      forge: {
        kind: 'github',
        url: fake.url,
        auth: { kind: 'app', appId: '42', privateKey: appKey },
        evaluationToken: fake.user('cdl-evaluator', 'write').token,
        webhookSecret: 'a secret of many letters',
        workflow: 'cdl.yml',
      },
      projects: ['acme/fashion'],
      signingKey,
      trustedKeys: new Map(),
      stores: {
        work: { url: `file://${join(folder, 'work')}`, credentials: null },
        trusted: { url: `file://${join(folder, 'trusted')}`, credentials: null },
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
    });
  });
  afterAll(async () => {
    await fake?.settled();
    await bot?.close();
    await fake?.close();
    await database?.close();
    await rm(folder, { recursive: true, force: true, maxRetries: 10 });
  });

  const api = async <T>(who: FakeUser, method: string, path: string, body: object): Promise<T> => {
    const answer = await fetch(`${fake.url}/repos/acme/fashion/${path}`, {
      method,
      headers: { authorization: `Bearer ${who.token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    expect(answer.status, path).toBe(201);
    return (await answer.json()) as T;
  };

  async function propose(branch: string, text: string, yaml = projectYaml(), owner = ''): Promise<number> {
    await git(source, 'checkout', '-q', '-b', branch, 'main');
    await writeFile(join(source, 'model.ts'), text);
    if (yaml !== projectYaml()) await writeFile(join(source, 'cdl.yaml'), yaml);
    await git(source, '-c', 'user.name=Ada', '-c', 'user.email=ada@example.com', 'commit', '-qam', 'better');
    const basic = Buffer.from(`x:${people.ada.token}`).toString('base64');
    const url = `${fake.state.web}/acme/fashion.git`;
    await git(source, '-c', `http.extraHeader=Authorization: Basic ${basic}`, 'push', '-q', url, branch);
    const wanted = { title: 'Better', head: `${owner}${branch}`, base: 'main' };
    return (await api<{ number: number }>(people.ada, 'POST', 'pulls', wanted)).number;
  }

  const say = (who: FakeUser, change: number, body: string) =>
    api<{ id: number }>(who, 'POST', `issues/${change}/comments`, { body });
  const head = (change: number) => fake.state.pulls.find((one) => one.number === change)!.head;
  const check = (change: number) => {
    const one = fake.state.checks
      .filter((run) => run.sha === head(change) && run.name === 'cdl/fashion')
      .at(-1);
    return one ? `${one.conclusion ?? one.status}: ${one.title}` : null;
  };
  const comments = (change: number) =>
    fake.state.comments.filter((one) => one.issue === change && one.author.bot).map((one) => one.body);

  it('goes from pull request to signed approval, told by webhooks alone', async () => {
    const change = await propose('exp/a', 'good\n');
    const forge = await openForge({
      kind: 'github',
      url: fake.url,
      project: 'acme/fashion',
      auth: { kind: 'token', token: people.ada.token },
    });
    await vi.waitFor(async () => {
      expect(await forge.readFile('cdl.lock', head(change))).not.toBeNull();
      expect(check(change)).toBe('queued: waiting for approval (0 of 1 approval)');
    }, soon);
    const run = fake.state.runs.find((one) => one.event === 'workflow_dispatch')!;
    expect(run).toMatchObject({
      branch: 'main',
      inputs: { cdl_task: 'evaluate', cdl_change: String(change) },
    });
    expect(run.actor.login).toBe('cdl-evaluator');
    const [report, ...others] = comments(change);
    expect(others).toEqual([]);
    expect(report).toMatch(
      /<img width="\d+" alt="[^"]+" src="http:\/\/127\.0\.0\.1:\d+\/acme\/fashion\/raw\/cdl-assets\/[0-9a-f/]+\.png">/,
    );
    const lock = parseLock((await forge.readFile('cdl.lock', head(change)))!);
    expect(lock.models.fashion!.production).toMatchObject({ info: { version: 1 } });

    const line = /\/(?:cdl )?approve [0-9a-f]{12}/.exec(report!)![0];
    const refused = await say(people.eve, change, line);
    const asked = await say(people.vera, change, line);
    await vi.waitFor(() => expect(check(change)).toBe('success: approved'), soon);
    await vi.waitFor(() => expect(comments(change)).toHaveLength(3), soon);
    const answers = comments(change).slice(1);
    for (const { id } of [refused, asked]) {
      expect(answers.filter((one) => one.includes(`#issuecomment-${id})`))).toHaveLength(1);
    }
    expect(answers.join()).toContain('does not have the role');
    expect(answers.join()).toContain('Approved fashion for production');
    const reactions = fake.state.comments.find((one) => one.id === asked.id)!.reactions;
    expect(reactions.map((one) => [one.author.login, one.content])).toEqual([['cdl-bot[bot]', '+1']]);

    const publicKey = createPublicKey(signingKey);
    const keys = new Map([[keyId(publicKey), publicKey]]);
    const { decisions } = await readDecisions({ trusted, keys }, 'fashion', 'fashion', 'production');
    expect(decisions).toMatchObject([
      {
        decision: 'approved',
        candidate: lock.models.fashion!.production!.candidate,
        approvers: [{ id: String(people.vera.id), name: 'vera', role: 'validator' }],
      },
    ]);
  });

  const one = (id: number) => fake.state.comments.find((comment) => comment.id === id)!;
  const reactionsTo = (id: number) => one(id).reactions.map((reaction) => reaction.content);
  const approveLine = async (change: number): Promise<string> => {
    await vi.waitFor(() => expect(check(change)).toMatch(/^queued: waiting for approval/), soon);
    return /\/(?:cdl )?approve [0-9a-f]{12}/.exec(comments(change)[0]!)![0];
  };
  /** Somebody who may write edits a comment, as GitHub lets them. */
  const edit = (id: number, body: string, change: number) => {
    const comment = one(id);
    const now = Date.now();
    Object.assign(comment, { body, createdAt: new Date(now - 2000).toISOString() });
    comment.updatedAt = new Date(now).toISOString();
    fake.emit('issue_comment', {
      action: 'edited',
      issue: { number: change, pull_request: {} },
      comment: { id, user: { id: comment.author.id } },
    });
  };

  it('answers what is unknown or forbidden once, with reactions of their own, and edited comments not at all', async () => {
    const change = await propose('exp/talk', 'talk\n');
    const line = await approveLine(change);
    let answers = 1;
    for (const [body, reaction] of [
      ['/cdl unknown', 'confused'],
      [line, '-1'],
    ] as const) {
      const first = await say(people.eve, change, body);
      await vi.waitFor(() => expect(reactionsTo(first.id)).toEqual([reaction]), soon);
      await vi.waitFor(() => expect(comments(change)).toHaveLength(answers + 1), soon);
      answers++;
      edit(first.id, `${body} `, change);
      const again = await say(people.eve, change, body);
      await vi.waitFor(() => expect(reactionsTo(again.id)).toEqual([reaction]), soon);
    }
    const talk = await say(people.vera, change, 'nice');
    const state = createBotState(database, 'acme/fashion');
    await vi.waitFor(async () => expect(await state.isHandled(String(talk.id))).toBe(true), soon);
    const asked = await say(people.eve, change, '/status');
    await vi.waitFor(() => expect(reactionsTo(asked.id)).toEqual(['eyes']), soon);
    answers++;
    await vi.waitFor(() => expect(comments(change)).toHaveLength(answers), soon);
    edit(talk.id, line, change);
    // Of one that nobody told the bot of, it cannot know who wrote what stands there now.
    const unheard = { ...one(talk.id), id: fake.state.nextId(), body: 'nice', reactions: [] };
    fake.state.comments.push(unheard);
    edit(unheard.id, line, change);
    for (let round = 0; round < 2; round++) await bot.reconcile();
    await vi.waitFor(() => expect(reactionsTo(unheard.id)).toEqual(['confused']), soon);
    await vi.waitFor(() => expect(comments(change).at(-1)).toContain('write it again as a new one'), soon);
    await fake.settled();
    expect(comments(change)).toHaveLength(answers + 1);
    expect(reactionsTo(talk.id)).toEqual([]);
    expect(check(change)).toMatch(/^queued: waiting for approval \(0 of 1/);
  });

  it('takes an approval back from who is no collaborator any more, and gives none to who takes their name', async () => {
    const change = await propose('exp/names', 'names\n');
    const line = await approveLine(change);
    await say(people.vera, change, line);
    await vi.waitFor(() => expect(check(change)).toBe('success: approved'), soon);
    fake.state.roles.delete(people.vera.id);
    await bot.reconcile();
    await vi.waitFor(() => expect(check(change)).toMatch(/^queued: waiting for approval \(0 of 1/), soon);
    people.vera.login = 'veronica';
    people.eve.login = 'vera';
    const refused = await say(people.eve, change, line);
    await vi.waitFor(() => expect(reactionsTo(refused.id)).toEqual(['-1']), soon);
    expect(check(change)).toMatch(/^queued: waiting for approval \(0 of 1/);
    fake.state.roles.set(people.vera.id, 'write');
    await bot.reconcile();
    await vi.waitFor(() => expect(check(change)).toBe('success: approved'), soon);
    people.eve.login = 'eve';
    people.vera.login = 'vera';
  });

  it('judges a change that brings its own rules by those of main, and nothing at all of a fork', async () => {
    const lax = projectYaml().replace('validator: [vera, walt, ada]', 'validator: [ada]');
    const change = await propose('exp/lax', 'lax\n', lax);
    const line = await approveLine(change);
    expect(comments(change)[0]).toContain('alters roles or approval rules. It is judged by those of main');
    const refused = await say(people.ada, change, line);
    await vi.waitFor(() => expect(reactionsTo(refused.id)).toEqual(['-1']), soon);

    const runs = () => fake.state.runs.filter((run) => run.event === 'workflow_dispatch').length;
    const before = runs();
    const fork = await propose('exp/fork', 'fork\n', lax, 'mallory:');
    await vi.waitFor(() => expect(comments(fork)[0]).toContain('The branch is in a fork'), soon);
    const tried = await say(people.ada, fork, '/approve 3f9a2c41b7d6');
    await vi.waitFor(() => expect(reactionsTo(tried.id)).toEqual(['confused']), soon);
    await fake.settled();
    expect(runs()).toBe(before);
    expect(check(fork)).toBeNull();
  });

  it('says at the lines of cdl.yaml what is wrong with it', async () => {
    await git(source, 'checkout', '-q', 'main');
    await writeFile(
      join(source, 'cdl.yaml'),
      projectYaml().replace('metric: accuracy, min', 'metric: acc, min'),
    );
    const change = await propose('exp/broken', 'broken\n');
    await vi.waitFor(() => {
      const run = fake.state.checks.find((one) => one.sha === head(change) && one.name === 'cdl');
      expect(run).toMatchObject({ conclusion: 'failure' });
      expect(run!.annotations.map((one) => one.path)).toEqual(['cdl.yaml']);
    }, soon);
  });

  it('puts the webhook of its app right when somebody pointed it elsewhere', async () => {
    const [hook] = fake.state.hooks;
    Object.assign(hook!, { url: 'http://127.0.0.1:9/elsewhere', secret: 'another' });
    fake.state.app!.events = fake.state.app!.events.filter((name) => name !== 'workflow_run');
    await bot.reconcile();
    expect(fake.state.hooks).toMatchObject([
      { url: `${bot.url}/webhooks/github`, secret: 'a secret of many letters' },
    ]);
    const metrics = await (await fetch(`${bot.url}/metrics`)).text();
    // What is chosen where the app is registered can only be told.
    expect(metrics).toContain('{what="install",outcome="still broken"} 1');
    await fake.settled();
  });

  it('sends only what GitHub’s published description knows', async () => {
    await fake.settled();
    expect(fake.violations).toEqual([]);
    expect(await (await fetch(`${bot.url}/metrics`)).text()).not.toMatch(
      /outcome="(failed|refused)"\} [1-9]/,
    );
  });
});
