import { generateKeyPairSync } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline as pipe } from 'node:stream/promises';
import { ZipFile } from 'yazl';
import { createEffects } from '../../bot/effects.ts';
import { createBotState } from '../../bot/state.ts';
import type { BotContext, Effects, Task } from '../../bot/types.ts';
import { stepFailurePath } from '../../src/core/step-failure.ts';
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
import type { CiEngine } from '../../src/sandbox/ci-port.ts';
import { addMember, createProject, createToken, createUser } from '../../src/sandbox/seed.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/server.ts';
import {
  announce,
  type Job,
  type Pipeline,
  type Project,
  type User,
  type World,
} from '../../src/sandbox/state.ts';
import { answerQuestion, git, makeClaim } from './jobs.ts';

export { scoresOf } from './jobs.ts';

/** A project of one model, as people would write it. */
export const projectYaml = (more = ''): string => `version: 1
project: fashion
requirements:
  problem: Sort clothes by their picture
  owner: olga
  metrics: [accuracy]
datasets:
  clothes:
    shape: [2, 2]
    classes: [shirt, shoe]
    sources:
      - file: [images.idx, labels.idx]
        sha256: [${'a'.repeat(64)}, ${'b'.repeat(64)}]
        read: { format: idx, images: [images.idx], labels: [labels.idx] }
    split: { key: one, test: 0.2 }
models:
  fashion:
    data: clothes
    code: [model.ts]
    gates:
      - { metric: accuracy, min: 0.85 }
      - { metric: accuracy, max_drop: 0.01 }
roles:
  validator: [vera, walt, ada]
${more}`;

/** Everything around a bot: a forge with people, a repository, a store, a database; CI does what `quality` says. */
export interface BotWorld {
  folder: string;
  sandbox: Sandbox;
  project: Project;
  people: Record<'ada' | 'vera' | 'walt' | 'eve' | 'bot' | 'evaluator', User & { token: string }>;
  context: BotContext;
  trusted: Zone;
  work: Zone;
  /** Tasks that were queued, in order. */
  tasks: Task[];
  /** What the evaluator will find, by the text of model.ts; 90 unless told. */
  quality: Map<string, number>;
  /** Overrides what the register job of the next pipelines claims. */
  claim: ((honest: object) => object) | null;
  /** More of the manifests of the data versions that the next pipelines make. */
  data: object;
  /** What their files hold, where the manifest says something else. */
  held: object;
  /** State that change pipelines end in. */
  outcome: 'success' | 'failed' | 'running';
  /** What a failed job keeps as `.cdl/failure.json`; null for nothing. */
  failure: string | null;
  /** What a job after `register` ends in; null when there is none. */
  after: 'success' | 'failed' | null;
  /** Whether its pipelines have a job that searches. */
  searches: boolean;
  /** What each job of the next pipelines takes, and the tags of its runner. */
  cost: { seconds: number; tags: string[] };
  api<T>(
    who: 'ada' | 'vera' | 'walt' | 'eve' | 'bot',
    method: string,
    path: string,
    body?: object,
  ): Promise<T>;
  /** Commits model.ts (and more files) on a branch and pushes as a person; `writer`: another author, as `git commit --author` names them. */
  push(who: 'ada' | 'eve', branch: string, files: Record<string, string>, writer?: string): Promise<string>;
  openChange(branch: string, title?: string): Promise<number>;
  say(who: 'ada' | 'vera' | 'walt' | 'eve', change: number, body: string): Promise<string>;
  /** Bodies of the bot's comments on a change. */
  comments(change: number): string[];
  /** Statuses of the newest head of a change, by name. */
  statuses(change: number): Record<string, string>;
  /** Says that what the lock of the default branch names is live now. */
  setLive(state: Partial<LiveState>): Promise<void>;
  close(): Promise<void>;
}

/** An engine whose jobs are done at once: registering claims what the commit makes, evaluating answers the question. */
function createEngine(world: World, self: () => BotWorld): CiEngine {
  const versions = new Map<string, number>();
  const refuse = (): never => {
    throw new Error('not in this test');
  };

  function addJob(project: Project, pipeline: Pipeline, name: string, status: Job['status']): Job {
    const at = new Date().toISOString();
    const { seconds, tags } = self().cost;
    const id = world.nextId('job');
    const job = {
      id,
      pipelineId: pipeline.id,
      projectId: project.id,
      spec: {
        name,
        stage: 'test',
        allowFailure: false,
        tags,
        when: 'on_success',
      } as unknown as Job['spec'],
      status,
      createdAt: at,
      startedAt: new Date(Date.parse(at) - seconds * 1000).toISOString(),
      finishedAt: status === 'running' ? null : at,
      failureReason: status === 'failed' ? 'script_failure' : null,
      token: '',
      folder: join(world.folder, 'jobs', String(id)),
      hasArtifacts: false,
      dotenv: {},
      cancelRequested: false,
    } satisfies Job;
    project.jobs.set(id, job);
    pipeline.jobIds.push(id);
    return job;
  }

  async function keep(job: Job, path: string, content: string): Promise<void> {
    const zip = new ZipFile();
    zip.addBuffer(Buffer.from(content), path);
    zip.end();
    await mkdir(job.folder, { recursive: true });
    await pipe(zip.outputStream, createWriteStream(join(job.folder, 'artifacts.zip')));
    job.hasArtifacts = true;
  }

  async function register(project: Project, pipeline: Pipeline): Promise<Pipeline['status']> {
    const { work, claim, outcome, data, held } = self();
    if (self().searches) addJob(project, pipeline, 'tune: [fashion]', outcome);
    const train = addJob(project, pipeline, 'train: [fashion]', outcome);
    const { failure } = self();
    if (outcome === 'failed' && failure) await keep(train, stepFailurePath, failure);
    if (outcome !== 'success') return outcome;
    const job = addJob(project, pipeline, 'register: [fashion]', 'running');
    const repository = project.repository;
    const honest = await makeClaim({ work, repository, sha: pipeline.sha, versions, data, held }).catch(
      () => null,
    );
    job.finishedAt = new Date().toISOString();
    if (honest === null) {
      job.status = 'failed';
      return 'failed';
    }
    await keep(job, claimPath('fashion'), JSON.stringify(claim ? claim(honest) : honest));
    job.status = 'success';
    const { after } = self();
    if (after) addJob(project, pipeline, 'check', after);
    return after ?? 'success';
  }

  async function evaluate(project: Project, pipeline: Pipeline): Promise<'success'> {
    const { trusted, quality } = self();
    const job = addJob(project, pipeline, 'evaluate', 'running');
    const { repository } = project;
    await answerQuestion({ trusted, quality, repository, sha: pipeline.sha, inputs: pipeline.inputs });
    job.status = 'success';
    job.finishedAt = new Date().toISOString();
    return 'success';
  }

  return {
    async createPipeline(project, request) {
      const isEvaluation = request.inputs.cdl_task === 'evaluate';
      const isDeployment = request.inputs.cdl_task === 'deploy';
      const isAsked = isEvaluation || isDeployment || request.inputs.cdl_task === 'train';
      if (!isAsked && request.mergeRequestIid === null) return { kind: 'refused', messages: ['no jobs'] };
      const at = new Date().toISOString();
      const pipeline: Pipeline = {
        id: world.nextId('pipeline'),
        iid: world.nextId(`pipeline-${project.id}`),
        projectId: project.id,
        ref: request.ref,
        sha: request.sha,
        tag: false,
        source: request.source,
        // Over only when its jobs are: somebody may look in between.
        status: 'running',
        userId: request.userId,
        mergeRequestIid: request.mergeRequestIid,
        inputs: request.inputs,
        variables: [],
        yamlErrors: [],
        createdAt: at,
        startedAt: at,
        finishedAt: null,
        jobIds: [],
        stages: ['test'],
        name: null,
      };
      project.pipelines.set(pipeline.id, pipeline);
      const ended = isDeployment
        ? addJob(project, pipeline, 'deploy', 'success').status
        : await (isEvaluation ? evaluate : register)(project, pipeline);
      pipeline.status = ended;
      pipeline.finishedAt = ended === 'running' ? null : new Date().toISOString();
      announce(world, { kind: 'pipeline', project, pipeline });
      return { kind: 'created', pipeline };
    },
    statusSet: () => {},
    async cancelPipeline(_project, pipeline) {
      pipeline.status = 'canceled';
      return pipeline;
    },
    retryPipeline: async () => refuse(),
    cancelJob: async () => refuse(),
    retryJob: async () => refuse(),
    playJob: async () => refuse(),
    routes: [],
    close: async () => {},
  };
}

/**
 * Builds a world; `database` is shared between worlds, each has its own project there. `more`: files of the first commit;
 * `elsewhere`: the work zone, where it is not in the world's folder.
 */
export async function createBotWorld(
  database: Database,
  yaml = projectYaml(),
  more: Record<string, string> = {},
  elsewhere: Zone | null = null,
): Promise<BotWorld> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-bot-'));
  const source = join(folder, 'source');
  await mkdir(source);
  await git(source, 'init', '-q', '-b', 'main');
  await git(source, 'config', 'user.name', 'Olga');
  await git(source, 'config', 'user.email', 'olga@example.com');
  await writeFile(join(source, 'cdl.yaml'), yaml);
  await writeFile(join(source, 'model.ts'), 'first\n');
  for (const [name, text] of Object.entries(more)) await writeFile(join(source, name), text);
  await git(source, 'add', '.');
  await git(source, 'commit', '-qm', 'start');
  let self: BotWorld | null = null;
  const sandbox = await startSandbox({
    folder: join(folder, 'sandbox'),
    engine: (world) => createEngine(world, () => self!),
  });
  const { world } = sandbox;
  const namespace = `acme-${folder
    .slice(-6)
    .toLowerCase()
    .replace(/[^a-z0-9]/g, 'x')}`;
  const make = (username: string, name: string, bot = false) => {
    const user = createUser(world, { username, name, bot });
    return Object.assign(user, { token: createToken(world, user).token });
  };
  const people = {
    ada: make('ada', 'Ada'),
    vera: make('vera', 'Vera'),
    walt: make('walt', 'Walt'),
    eve: make('eve', 'Eve'),
    bot: make('cdl-bot', 'CDL', true),
    evaluator: make('cdl-evaluator', 'Evaluator', true),
  };
  const { evaluator } = people;
  const project = await createProject(world, {
    namespace,
    path: 'fashion',
    owner: make('olga', 'Olga'),
    from: source,
  });
  for (const person of [people.ada, people.vera, people.walt, people.eve]) addMember(project, person, 30);
  addMember(project, people.bot, 30);
  addMember(project, evaluator, 40);
  const path = `${namespace}/fashion`;
  const zone = async (name: 'work' | 'trusted') =>
    createZone(name, await openStore(`file://${join(folder, name)}`, null));
  const [work, trusted] = await Promise.all([elsewhere ?? zone('work'), zone('trusted')]);
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const forge = await openForge({
    kind: 'gitlab',
    url: sandbox.url,
    project: path,
    token: people.bot.token,
    evaluationToken: evaluator.token,
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
  const effects: Effects = createEffects(base, async (task) => void tasks.push(task));
  const api = async <T>(
    who: keyof typeof people,
    method: string,
    route: string,
    body?: object,
  ): Promise<T> => {
    const answer = await fetch(`${sandbox.url}/api/v4/projects/${encodeURIComponent(path)}/${route}`, {
      method,
      headers: { 'private-token': people[who].token, 'content-type': 'application/json' },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    if (!answer.ok) throw new Error(`${method} ${route}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  };
  const changeOf = (change: number) => project.mergeRequests.get(change)!;
  self = {
    folder,
    sandbox,
    project,
    people,
    context: { ...base, effects },
    trusted,
    work,
    tasks,
    quality: new Map(),
    claim: null,
    data: {},
    held: {},
    outcome: 'success',
    failure: null,
    after: null,
    searches: false,
    cost: { seconds: 0, tags: [] },
    api,
    async push(who, branch, files, writer) {
      const { name, username, token } = people[who];
      const known = await git(source, 'branch', '--list', branch);
      await git(source, 'checkout', '-q', ...(known ? [branch] : ['-b', branch, 'main']));
      const header = `http.extraHeader=Authorization: Basic ${Buffer.from(`oauth2:${token}`).toString('base64')}`;
      const url = `${sandbox.url}/${path}.git`;
      if (known) await git(source, '-c', header, 'pull', '-q', '--ff-only', url, branch);
      for (const [file, text] of Object.entries(files)) await writeFile(join(source, file), text);
      await git(source, 'add', '.');
      const author = ['-c', `user.name=${name}`, '-c', `user.email=${username}@example.com`];
      const written = writer ? ['--author', writer] : [];
      await git(source, ...author, 'commit', '-qm', `change ${Object.keys(files).join(' ')}`, ...written);
      await git(source, '-c', header, 'push', '-q', url, branch);
      await sandbox.settled();
      return git(source, 'rev-parse', 'HEAD');
    },
    async openChange(branch, title = 'Better') {
      const made = await api<{ iid: number }>('ada', 'POST', 'merge_requests', {
        source_branch: branch,
        target_branch: 'main',
        title,
      });
      await sandbox.settled();
      return made.iid;
    },
    async say(who, change, body) {
      return String((await api<{ id: number }>(who, 'POST', `merge_requests/${change}/notes`, { body })).id);
    },
    comments: (change) =>
      changeOf(change)
        .notes.filter((note) => note.authorId === people.bot.id && !note.system)
        .map((note) => note.body),
    statuses: (change) =>
      Object.fromEntries(
        project.statuses
          .filter((status) => status.sha === changeOf(change).sha)
          .map((status) => [status.name, `${status.status}: ${status.description}`]),
      ),
    async setLive(state) {
      const key = liveKey('fashion', 'fashion', 'production');
      const record = await trusted.readRecord(key);
      const before = (record?.value ?? {
        v: 1,
        current: null,
        transition: null,
        failed: null,
        endpoint: null,
      }) as LiveState;
      const options = record ? { ifMatch: record.etag } : { ifAbsent: true as const };
      await trusted.writeRecord(key, { ...before, ...state }, options);
    },
    async close() {
      await sandbox.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
  return self;
}
