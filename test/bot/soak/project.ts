import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline as pipe } from 'node:stream/promises';
import { ZipFile } from 'yazl';
import {
  type Claim,
  candidateDigest,
  claimPath,
  createZone,
  type Digest,
  type LiveState,
  liveKey,
  openStore,
  type Zone,
} from '../../../src/index.ts';
import type { CiEngine } from '../../../src/sandbox/ci-port.ts';
import { addMember, createProject, createToken, createUser } from '../../../src/sandbox/seed.ts';
import { type Sandbox, startSandbox } from '../../../src/sandbox/server.ts';
import {
  announce,
  type Job,
  type Pipeline,
  type Project,
  type User,
  type World,
} from '../../../src/sandbox/state.ts';
import { answerQuestion, git, makeClaim, treesOf } from '../jobs.ts';

/** Who is around; `cdl-bot` and `cdl-evaluator` are the bot's two identities. */
export const names = ['ada', 'eve', 'vera', 'walt', 'olga', 'cdl-bot', 'cdl-evaluator'] as const;
export type Name = (typeof names)[number];

const yaml = (required: number): string => `version: 1
project: fashion
requirements: { problem: Sort clothes, owner: olga, metrics: [accuracy] }
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
    code: [model.ts, 'parts/*.ts']
    gates:
      - { metric: accuracy, min: 0.85 }
      - { metric: accuracy, max_drop: 0.01 }
roles:
  validator: [vera, walt, ada]
approvals: { required: ${required} }
`;

/** A project in a sandbox whose pipelines end when the test says so. */
export interface SoakProject {
  folder: string;
  sandbox: Sandbox;
  project: Project;
  path: string;
  people: Record<Name, User & { token: string }>;
  trusted: Zone;
  work: Zone;
  /** Pipelines that have not ended. */
  running: Pipeline[];
  /** Ends a pipeline: a good one of a change registers what the commit makes, one of the default branch answers. */
  finish(pipeline: Pipeline, outcome: 'success' | 'failed'): Promise<void>;
  /** What the registering job of a commit claimed. */
  claims: Map<string, Claim>;
  /** Evaluations that were made, by `<candidate> <baseline>`. */
  answers: Map<string, Digest>;
  /** Percent that a candidate gets right. */
  quality: Map<Digest, number>;
  api<T>(who: Name, method: string, route: string, body?: object): Promise<T>;
  live(): Promise<LiveState['current']>;
  setLive(current: NonNullable<LiveState['current']>): Promise<void>;
  close(): Promise<void>;
}

/** What a text of a part says about how good the model is: `// 90 …`. */
const percentOf = (text: string): number => Number(/^\/\/ (\d+)/.exec(text)?.[1] ?? 90);

function addJob(
  world: World,
  project: Project,
  pipeline: Pipeline,
  name: string,
  status: Job['status'],
): Job {
  const at = new Date().toISOString();
  const id = world.nextId('job');
  const spec = { name, stage: 'test', allowFailure: false, tags: [], when: 'on_success' };
  const job: Job = {
    id,
    pipelineId: pipeline.id,
    projectId: project.id,
    spec: spec as unknown as Job['spec'],
    status,
    createdAt: at,
    startedAt: at,
    finishedAt: null,
    failureReason: null,
    token: '',
    folder: join(world.folder, 'jobs', String(id)),
    hasArtifacts: false,
    dotenv: {},
    cancelRequested: false,
  };
  project.jobs.set(id, job);
  pipeline.jobIds.push(id);
  return job;
}

/** Opens a sandbox with one project. `required`: approvals that it takes. */
export async function openSoakProject(required: number): Promise<SoakProject> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-soak-'));
  const source = join(folder, 'source');
  await mkdir(join(source, 'parts'), { recursive: true });
  await writeFile(join(source, 'cdl.yaml'), yaml(required));
  await writeFile(join(source, 'model.ts'), 'first\n');
  await writeFile(join(source, 'parts', 'first.ts'), '// 90\n');
  await git(source, 'init', '-q', '-b', 'main');
  await git(source, 'add', '.');
  const author = ['-c', 'user.name=Olga', '-c', 'user.email=olga@example.com'];
  await git(source, ...author, 'commit', '-qm', 'start');
  const zone = async (name: 'work' | 'trusted') =>
    createZone(name, await openStore(`file://${join(folder, name)}`, null));
  const [work, trusted] = await Promise.all([zone('work'), zone('trusted')]);
  const running: Pipeline[] = [];
  const claims = new Map<string, Claim>();
  const answers = new Map<string, Digest>();
  const quality = new Map<Digest, number>();
  const versions = new Map<string, number>();

  const refuse = (): never => {
    throw new Error('not in this test');
  };
  const engine = (world: World): CiEngine => ({
    async createPipeline(project, request) {
      const isEvaluation = request.inputs.cdl_task === 'evaluate';
      if (!isEvaluation && request.mergeRequestIid === null)
        return { kind: 'refused', messages: ['no jobs'] };
      const at = new Date().toISOString();
      const pipeline: Pipeline = {
        id: world.nextId('pipeline'),
        iid: world.nextId(`pipeline-${project.id}`),
        projectId: project.id,
        ref: request.ref,
        sha: request.sha,
        tag: false,
        source: request.source,
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
      addJob(world, project, pipeline, isEvaluation ? 'evaluate' : 'train: [fashion]', 'running');
      running.push(pipeline);
      announce(world, { kind: 'pipeline', project, pipeline });
      return { kind: 'created', pipeline };
    },
    statusSet: () => {},
    async cancelPipeline(project, pipeline) {
      pipeline.status = 'canceled';
      for (const id of pipeline.jobIds) project.jobs.get(id)!.status = 'canceled';
      if (running.includes(pipeline)) running.splice(running.indexOf(pipeline), 1);
      return pipeline;
    },
    retryPipeline: async () => refuse(),
    cancelJob: async () => refuse(),
    retryJob: async () => refuse(),
    playJob: async () => refuse(),
    routes: [],
    close: async () => {},
  });
  const sandbox = await startSandbox({ folder: join(folder, 'sandbox'), engine });
  const { world } = sandbox;
  const people = Object.fromEntries(
    names.map((username) => {
      const user = createUser(world, { username, name: username, bot: username.startsWith('cdl-') });
      return [username, Object.assign(user, { token: createToken(world, user).token })];
    }),
  ) as SoakProject['people'];
  const path = `acme/${folder
    .slice(-6)
    .toLowerCase()
    .replace(/[^a-z0-9]/g, 'x')}`;
  const project = await createProject(world, {
    namespace: 'acme',
    path: path.slice(5),
    owner: people.olga,
    from: source,
  });
  for (const name of ['ada', 'eve', 'vera', 'walt', 'cdl-bot'] as const) addMember(project, people[name], 30);
  addMember(project, people['cdl-evaluator'], 40);
  const { repository } = project;

  async function register(pipeline: Pipeline): Promise<void> {
    const job = addJob(world, project, pipeline, 'register: [fashion]', 'success');
    const claim = (await makeClaim({ work, repository, sha: pipeline.sha, versions })) as Claim;
    claims.set(pipeline.sha, claim);
    const digest = candidateDigest(claim.candidate);
    if (!quality.has(digest)) {
      const trees = treesOf(repository);
      const parts = (await trees.files(pipeline.sha))!.filter(({ path }) => path.startsWith('parts/'));
      const texts = await Promise.all(parts.map(async ({ oid }) => (await trees.blob(oid)).toString()));
      quality.set(digest, Math.min(...texts.map(percentOf)));
    }
    const zip = new ZipFile();
    zip.addBuffer(Buffer.from(JSON.stringify(claim)), claimPath('fashion'));
    zip.end();
    await mkdir(job.folder, { recursive: true });
    await pipe(zip.outputStream, createWriteStream(join(job.folder, 'artifacts.zip')));
    job.hasArtifacts = true;
  }

  const key = liveKey('fashion', 'fashion', 'production');
  const self: SoakProject = {
    folder,
    sandbox,
    project,
    path,
    people,
    trusted,
    work,
    running,
    claims,
    answers,
    quality,
    async finish(pipeline, outcome) {
      if (!running.includes(pipeline)) return;
      running.splice(running.indexOf(pipeline), 1);
      if (outcome === 'success' && pipeline.inputs.cdl_task === 'evaluate') {
        const { sha, inputs } = pipeline;
        const right = (candidate: Digest) => quality.get(candidate) ?? 90;
        const answer = await answerQuestion({ trusted, quality: right, repository, sha, inputs });
        answers.set(`${inputs.cdl_candidate} ${answer.baseline}`, answer.digest);
      } else if (outcome === 'success') await register(pipeline);
      for (const id of pipeline.jobIds) {
        const job = project.jobs.get(id)!;
        job.finishedAt ??= new Date().toISOString();
        if (job.status === 'running') job.status = outcome;
      }
      pipeline.status = outcome;
      pipeline.finishedAt = new Date().toISOString();
      announce(world, { kind: 'pipeline', project, pipeline });
    },
    async api(who, method, route, body) {
      const answer = await fetch(`${sandbox.url}/api/v4/projects/${project.id}/${route}`, {
        method,
        headers: { 'private-token': people[who].token, 'content-type': 'application/json' },
        ...(body ? { body: JSON.stringify(body) } : {}),
      });
      if (!answer.ok) throw new Error(`${method} ${route}: ${answer.status} ${await answer.text()}`);
      return (await answer.json()) as never;
    },
    async live() {
      return ((await trusted.readRecord(key))?.value as LiveState | undefined)?.current ?? null;
    },
    async setLive(current) {
      const record = await trusted.readRecord(key);
      const state: LiveState = { v: 1, current, transition: null, failed: null, endpoint: null };
      const condition = record ? { ifMatch: record.etag } : { ifAbsent: true as const };
      if ((await trusted.writeRecord(key, state, condition)) !== 'stored') throw new Error('two deployments');
    },
    async close() {
      await sandbox.close();
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
  return self;
}
