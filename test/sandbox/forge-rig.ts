import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../../src/exec/run.ts';
import type { CiEngine, PipelineRequest } from '../../src/sandbox/ci-port.ts';
import { gitEnv } from '../../src/sandbox/git.ts';
import { addMember, createProject, createToken, createUser } from '../../src/sandbox/seed.ts';
import { type Sandbox, type SandboxOptions, startSandbox } from '../../src/sandbox/server.ts';
import {
  announce,
  type Pipeline,
  type Project,
  type Token,
  type User,
  type World,
} from '../../src/sandbox/state.ts';

/** An engine that makes pipelines without jobs and remembers what it was asked for. */
export function recordingEngine(asked: PipelineRequest[]): (world: World) => CiEngine {
  return (world) => ({
    async createPipeline(project, request) {
      asked.push(request);
      if (request.variables.some((entry) => entry.key === 'REFUSE'))
        return { kind: 'refused', messages: ['Pipeline will not run for the selected trigger.'] };
      const pipeline: Pipeline = {
        id: world.nextId('pipeline'),
        iid: world.nextId(`pipeline:${project.id}`),
        projectId: project.id,
        status: 'success',
        name: null,
        yamlErrors: [],
        createdAt: new Date().toISOString(),
        startedAt: null,
        finishedAt: null,
        jobIds: [],
        stages: [],
        ...request,
      };
      project.pipelines.set(pipeline.id, pipeline);
      announce(world, { kind: 'pipeline', project, pipeline });
      return { kind: 'created', pipeline };
    },
    statusSet: () => {},
    cancelPipeline: async (_project, pipeline) => Object.assign(pipeline, { status: 'canceled' }),
    retryPipeline: async (_project, pipeline) => pipeline,
    cancelJob: async (_project, job) => job,
    retryJob: async (_project, job) => job,
    playJob: async (_project, job) => job,
    routes: [],
    close: async () => {},
  });
}

export interface Rig {
  sandbox: Sandbox;
  folder: string;
  project: Project;
  asked: PipelineRequest[];
  /** Users by role, with a token each. */
  people: Record<
    'owner' | 'maintainer' | 'developer' | 'reporter' | 'stranger',
    { user: User; token: Token }
  >;
  call(who: keyof Rig['people'] | null, method: string, path: string, body?: object): Promise<Answer>;
  git(cwd: string, ...args: string[]): Promise<string>;
  /** A clone of the project as somebody. */
  clone(who: keyof Rig['people']): Promise<string>;
  close(): Promise<void>;
}

export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked at field by field
  json: any;
}

/** A sandbox with one project (a README on main) and people of every role. */
export async function openRig(options: Partial<SandboxOptions> = {}): Promise<Rig> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-forge-'));
  const asked: PipelineRequest[] = [];
  const sandbox = await startSandbox({
    folder: join(folder, 'sandbox'),
    engine: recordingEngine(asked),
    ...options,
  });
  const { world } = sandbox;
  const person = (username: string) => {
    const user = createUser(world, { username });
    return { user, token: createToken(world, user) };
  };
  const people = {
    owner: person('owner'),
    maintainer: person('maintainer'),
    developer: person('developer'),
    reporter: person('reporter'),
    stranger: person('stranger'),
  };
  const from = join(folder, 'from');
  const { mkdir, writeFile } = await import('node:fs/promises');
  await mkdir(from);
  await writeFile(join(from, 'README.md'), 'hello\n');
  const project = await createProject(world, {
    namespace: 'team',
    path: 'demo',
    owner: people.owner.user,
    from,
  });
  addMember(project, people.maintainer.user, 40);
  addMember(project, people.developer.user, 30);
  addMember(project, people.reporter.user, 20);
  const env = gitEnv({
    GIT_AUTHOR_NAME: 'T',
    GIT_AUTHOR_EMAIL: 't@example.com',
    GIT_COMMITTER_NAME: 'T',
    GIT_COMMITTER_EMAIL: 't@example.com',
  });
  const git = async (cwd: string, ...args: string[]) => {
    const result = await run('git', args, { cwd, env });
    if (result.code !== 0) throw new Error(result.stderr.toString());
    return `${result.stdout}${result.stderr}`.trim();
  };
  let clones = 0;
  return {
    sandbox,
    folder,
    project,
    asked,
    people,
    git,
    async call(who, method, path, body) {
      const response = await fetch(`${sandbox.url}/api/v4${path}`, {
        method,
        headers: {
          ...(who === null ? {} : { 'private-token': people[who].token.token }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      const isJson = response.headers.get('content-type')?.includes('json');
      return {
        status: response.status,
        headers: response.headers,
        text,
        json: isJson ? JSON.parse(text) : null,
      };
    },
    async clone(who) {
      clones += 1;
      const target = join(folder, `clone-${clones}`);
      const url = new URL(`${sandbox.url}/team/demo.git`);
      url.username = who;
      url.password = people[who].token.token;
      await git(folder, 'clone', '--quiet', url.href, target);
      return target;
    },
    async close() {
      await sandbox.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export interface Delivery {
  headers: Record<string, string | string[] | undefined>;
  raw: string;
  // biome-ignore lint/suspicious/noExplicitAny: payloads are looked at field by field
  body: any;
}

/** A server that keeps what webhooks bring and answers `status()`. */
export async function openReceiver(status: () => number = () => 200) {
  const deliveries: Delivery[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const raw = Buffer.concat(chunks).toString('utf8');
      deliveries.push({ headers: request.headers, raw, body: JSON.parse(raw) });
      response.writeHead(status());
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    deliveries,
    url: `http://127.0.0.1:${port}/hook`,
    close: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}
