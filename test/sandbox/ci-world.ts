import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { run } from '../../src/exec/run.ts';
import type { PipelineRequest } from '../../src/sandbox/ci-port.ts';
import { createWorld, type Project, type World } from '../../src/sandbox/state.ts';

/** A project with a work tree beside it, so that tests commit as people do. */
export interface TestProject {
  project: Project;
  /** Writes files, commits them on a branch (made from the current one when new) and gives the sha. */
  commit(files: Record<string, string>, options?: { branch?: string; message?: string }): Promise<string>;
  git(...args: string[]): Promise<string>;
}

/** A world in a temporary folder. */
export async function openWorld(): Promise<{ world: World; remove(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-ci-'));
  const world = createWorld(folder);
  world.url = 'http://127.0.0.1:9';
  world.users.set(1, { id: 1, username: 'ada', name: 'Ada', bot: false });
  return { world, remove: () => rm(folder, { recursive: true, force: true }) };
}

const env = {
  ...process.env,
  GIT_AUTHOR_NAME: 'Ada',
  GIT_AUTHOR_EMAIL: 'ada@example.com',
  GIT_COMMITTER_NAME: 'Ada',
  GIT_COMMITTER_EMAIL: 'ada@example.com',
};

/** Adds a project with an empty repository. */
export async function addProject(world: World, namespace: string, name: string): Promise<TestProject> {
  const repository = join(world.folder, `${namespace}-${name}.git`);
  const tree = join(world.folder, `${namespace}-${name}`);
  const git = async (...args: string[]): Promise<string> => {
    const result = await run('git', args, { cwd: tree, env });
    if (result.code !== 0) throw new Error(`git ${args.join(' ')}: ${result.stderr.toString()}`);
    return result.stdout.toString().trim();
  };
  await mkdir(tree, { recursive: true });
  await run('git', ['init', '-q', '--bare', '-b', 'main', repository]);
  await run('git', ['-C', repository, 'config', 'http.receivepack', 'true']);
  await git('init', '-q', '-b', 'main');
  await git('remote', 'add', 'origin', repository);
  const id = world.nextId('project');
  const project: Project = {
    id,
    path: name,
    namespace,
    name,
    defaultBranch: 'main',
    repository,
    settings: {
      description: '',
      mergeMethod: 'ff',
      onlyAllowMergeIfPipelineSucceeds: false,
      ciConfigPath: null,
    },
    members: new Map([[1, 40]]),
    protectedBranches: [{ name: 'main', pushLevel: 40, mergeLevel: 40 }],
    variables: [],
    mergeRequests: new Map(),
    pipelines: new Map(),
    jobs: new Map(),
    statuses: [],
    environments: [],
    deployments: [],
    hooks: [],
    issues: new Map(),
    uploads: new Map(),
    triggerTokens: [],
    releases: new Map(),
  };
  world.projects.set(id, project);
  return {
    project,
    git,
    async commit(files, { branch = 'main', message = 'change' } = {}) {
      const current = await git('branch', '--show-current');
      if (current !== branch) await git('checkout', '-q', '-B', branch);
      for (const [path, content] of Object.entries(files)) {
        await mkdir(dirname(join(tree, path)), { recursive: true });
        await writeFile(join(tree, path), content);
      }
      await git('add', '-A');
      await git('commit', '-q', '--allow-empty', '-m', message);
      await git('push', '-q', '-f', '--tags', 'origin', branch);
      return git('rev-parse', 'HEAD');
    },
  };
}

/** A push of a branch, unless told otherwise. */
export function request(sha: string, over: Partial<PipelineRequest> = {}): PipelineRequest {
  return {
    ref: 'main',
    sha,
    tag: false,
    source: 'push',
    userId: 1,
    inputs: {},
    variables: [],
    mergeRequestIid: null,
    before: null,
    ...over,
  };
}
