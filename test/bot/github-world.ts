import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { ZipFile } from 'yazl';
import { convergeChange } from '../../bot/converge.ts';
import { createEffects } from '../../bot/effects.ts';
import { createBotState } from '../../bot/state.ts';
import type { BotContext, Task } from '../../bot/types.ts';
import {
  claimPath,
  createZone,
  type Database,
  keyId,
  type LiveState,
  liveKey,
  openForge,
  openMirror,
  openStore,
  type Zone,
} from '../../src/index.ts';
import { type Description, openDescription } from '../forge/github-fake/description.ts';
import { type GithubFake, startGithubFake } from '../forge/github-fake/server.ts';
import type { FakeRun, FakeUser } from '../forge/github-fake/state.ts';
import { githubOpenapi } from '../forge/github-openapi.ts';
import { answerQuestion, git, makeClaim, textAt } from './jobs.ts';
import { projectYaml } from './world.ts';

const found = await githubOpenapi();
/** What the fake is held to; null, said aloud, where it cannot be had. */
export const githubDescription = 'description' in found ? openDescription(found.description) : null;
if ('skipped' in found) console.warn(`skipped: GitHub’s OpenAPI description: ${found.skipped}`);

/** As {@link BotWorld}, on GitHub: the bot is an app, and its tasks are done when a test says so. */
export interface GithubWorld {
  /** Goes with the world. */
  folder: string;
  fake: GithubFake;
  people: Record<'ada' | 'vera' | 'walt' | 'eve', FakeUser>;
  context: BotContext;
  work: Zone;
  trusted: Zone;
  tasks: Task[];
  quality: Map<string, number>;
  /** How the runs of pull requests end. */
  outcome: 'success' | 'failure' | 'running';
  /** What each job of the next runs takes, and the labels of its runner. */
  cost: { seconds: number; labels: string[] };
  api<T>(who: FakeUser, method: string, path: string, body?: object): Promise<T>;
  /** `writer`: another author than who commits. */
  push(who: 'ada' | 'eve', branch: string, files: Record<string, string>, writer?: string): Promise<string>;
  openChange(branch: string, more?: { title?: string; draft?: boolean }): Promise<number>;
  say(who: 'ada' | 'vera' | 'walt' | 'eve', change: number, body: string): Promise<string>;
  /** Bodies of the bot's comments. */
  comments(change: number): string[];
  /** The newest check of a name at the head of a change: how it stands, and its title. */
  check(change: number, name?: string): string | null;
  /** As the merge button does. Gives the commit on the default branch. */
  merge(change: number): Promise<string>;
  setLive(state: Partial<LiveState>): Promise<void>;
  close(): Promise<void>;
}

async function zipOf(files: Record<string, string>): Promise<Buffer> {
  const zip = new ZipFile();
  for (const [name, text] of Object.entries(files)) zip.addBuffer(Buffer.from(text), name);
  zip.end();
  return buffer(zip.outputStream as unknown as AsyncIterable<Uint8Array>);
}

/** Builds a world; `database` may be shared, each world has its own project there. */
export async function createGithubWorld(
  database: Database,
  description: Description,
  yaml = projectYaml(),
): Promise<GithubWorld> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-github-'));
  const source = join(folder, 'source');
  await mkdir(source);
  await git(source, 'init', '-q', '-b', 'main');
  await git(source, 'config', 'user.name', 'Olga');
  await git(source, 'config', 'user.email', 'olga@example.com');
  await writeFile(join(source, 'cdl.yaml'), yaml);
  await writeFile(join(source, 'model.ts'), 'first\n');
  await git(source, 'add', '.');
  await git(source, 'commit', '-qm', 'start');
  const zone = async (name: 'work' | 'trusted') =>
    createZone(name, await openStore(`file://${join(folder, name)}`, null));
  const [work, trusted] = await Promise.all([zone('work'), zone('trusted')]);
  const versions = new Map<string, number>();
  let world: GithubWorld | null = null;

  function addJob(run: FakeRun, name: string, conclusion = 'success'): void {
    const { seconds, labels } = world!.cost;
    const end = Date.now();
    fake.state.jobs.push({
      id: fake.state.nextId(),
      run: run.id,
      name,
      status: 'completed',
      conclusion,
      startedAt: new Date(end - seconds * 1000).toISOString(),
      completedAt: new Date(end).toISOString(),
      labels,
    });
  }

  const fake = await startGithubFake({
    folder: join(folder, 'github'),
    from: source,
    description,
    engine: {
      async pull(run) {
        const { repository } = fake.state;
        const yaml = (await textAt(repository, run.sha, 'cdl.yaml')) ?? '';
        if (yaml.includes('tune:')) addJob(run, 'tune');
        if (world!.outcome === 'failure') addJob(run, 'train', 'failure');
        else addJob(run, 'train');
        if (world!.outcome === 'running') return;
        if (world!.outcome === 'failure') return fake.finish(run, 'failure');
        const job = { work, repository, sha: run.sha, versions };
        const claim = await makeClaim(job).catch(() => null);
        if (claim === null) return fake.finish(run, 'failure');
        addJob(run, 'register');
        const zip = await zipOf({ 'cdl.yaml': '', [claimPath('fashion')]: JSON.stringify(claim) });
        fake.state.artifacts.push({ id: fake.state.nextId(), run: run.id, name: 'register', zip });
        fake.finish(run, 'success');
      },
      async dispatched(run) {
        if (run.inputs.cdl_task !== 'evaluate') return;
        const { repository } = fake.state;
        await answerQuestion({
          trusted,
          quality: world!.quality,
          repository,
          sha: run.sha,
          inputs: run.inputs,
        });
        addJob(run, 'evaluate');
        fake.finish(run, 'success');
      },
    },
  });
  // Projects share a database, and this one is called as its path.
  fake.state.owner = `acme-${folder.slice(-6).toLowerCase()}`;
  const path = `${fake.state.owner}/${fake.state.name}`;
  const people = {
    ada: fake.user('ada', 'write'),
    vera: fake.user('vera', 'write'),
    walt: fake.user('walt', 'write'),
    eve: fake.user('eve', 'write'),
  };
  const appKey = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  fake.registerApp('cdl-bot', createPublicKey(appKey));
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const forge = await openForge({
    kind: 'github',
    url: fake.url,
    project: path,
    auth: {
      kind: 'app',
      appId: '42',
      privateKey: appKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    },
    evaluationToken: fake.user('cdl-evaluator', 'write').token,
    workflow: 'cdl.yml',
  });
  const mirror = await openMirror({
    folder: join(folder, 'mirror'),
    access: forge.git(),
    path: process.env.PATH ?? '',
  });
  const tasks: Task[] = [];
  const base = {
    forge,
    mirror,
    work,
    trusted,
    state: createBotState(database, path),
    keys: new Map([[keyId(publicKey), publicKey]]),
    signer: { id: keyId(privateKey), key: privateKey },
    now: () => new Date(),
  };
  const pull = (change: number) => fake.state.pulls.find((one) => one.number === change)!;
  const header = (who: FakeUser) =>
    `http.extraHeader=Authorization: Basic ${Buffer.from(`x:${who.token}`).toString('base64')}`;
  const url = `${fake.state.web}/${path}.git`;
  const api = async <T>(who: FakeUser, method: string, route: string, body?: object): Promise<T> => {
    const answer = await fetch(`${fake.url}/repos/${path}/${route}`, {
      method,
      headers: { authorization: `Bearer ${who.token}`, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    });
    if (!answer.ok) throw new Error(`${method} ${route}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  };
  world = {
    folder,
    fake,
    people,
    context: { ...base, effects: createEffects(base, async (task) => void tasks.push(task)) },
    work,
    trusted,
    tasks,
    quality: new Map(),
    outcome: 'success',
    cost: { seconds: 0, labels: ['ubuntu-latest'] },
    api,
    async push(who, branch, files, writer) {
      const known = await git(source, 'branch', '--list', branch);
      await git(source, 'checkout', '-q', ...(known ? [branch] : ['-b', branch, 'main']));
      if (known) await git(source, '-c', header(people[who]), 'pull', '-q', '--ff-only', url, branch);
      for (const [file, text] of Object.entries(files)) await writeFile(join(source, file), text);
      await git(source, 'add', '.');
      const { login } = people[who];
      const author = ['-c', `user.name=${login}`, '-c', `user.email=${login}@example.com`];
      const written = writer ? ['--author', writer] : [];
      await git(source, ...author, 'commit', '-qm', `change ${Object.keys(files).join(' ')}`, ...written);
      await git(source, '-c', header(people[who]), 'push', '-q', url, branch);
      await fake.settled();
      return git(source, 'rev-parse', 'HEAD');
    },
    async openChange(branch, { title = 'Better', draft = false } = {}) {
      const wanted = { title, head: branch, base: 'main', draft };
      const { number } = await api<{ number: number }>(people.ada, 'POST', 'pulls', wanted);
      await fake.settled();
      return number;
    },
    async say(who, change, body) {
      const { id } = await api<{ id: number }>(people[who], 'POST', `issues/${change}/comments`, { body });
      return String(id);
    },
    comments: (change) =>
      fake.state.comments.filter((one) => one.issue === change && one.author.bot).map((one) => one.body),
    check(change, name = 'cdl/fashion') {
      const { head } = pull(change);
      const one = fake.state.checks.filter((check) => check.sha === head && check.name === name).at(-1);
      return one ? `${one.conclusion ?? one.status}: ${one.title}` : null;
    },
    async merge(change) {
      const one = pull(change);
      const { repository } = fake.state;
      const tree = await git(repository, 'merge-tree', '--write-tree', 'main', one.head);
      const as = ['-c', 'user.name=Olga', '-c', 'user.email=olga@example.com'];
      const title = `Merge pull request #${change} from ${one.source}`;
      const parents = ['-p', 'main', '-p', one.head];
      const commit = await git(repository, ...as, 'commit-tree', tree, ...parents, '-m', title);
      await git(repository, 'update-ref', 'refs/heads/main', commit);
      const now = fake.state.now();
      Object.assign(one, { state: 'closed', mergedAt: now, mergeCommit: commit, updatedAt: now });
      return commit;
    },
    async setLive(state) {
      const key = liveKey('fashion', 'fashion', 'production');
      const record = await trusted.readRecord(key);
      const nothing = { v: 1, current: null, transition: null, failed: null, endpoint: null };
      const before = (record?.value ?? nothing) as LiveState;
      const options = record ? { ifMatch: record.etag } : { ifAbsent: true as const };
      await trusted.writeRecord(key, { ...before, ...state }, options);
    },
    async close() {
      await fake.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
  return world;
}

/** Converges until a pass queues nothing more for the change and leaves its head where it is; how it stands then. */
export async function settleOnGithub(world: GithubWorld, change: number): Promise<string> {
  const headOf = () => world.fake.state.pulls.find((one) => one.number === change)!.head;
  for (let pass = 0; pass < 8; pass++) {
    const before = world.tasks.length;
    const head = headOf();
    const [one] = await convergeChange(world.context, change, false);
    await world.fake.settled();
    const isMoving = one?.standing === 'evaluating' || one?.standing === 'waiting' || headOf() !== head;
    if (world.tasks.length === before && !isMoving) return one?.standing ?? 'ignored';
  }
  throw new Error('does not settle');
}
