import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeExample } from '../../src/cli/init.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { type CompileOutcome, type Compiler, openCompiler } from '../../src/sandbox/ci/compile.ts';
import { flattenIncludes } from '../../src/sandbox/ci/include.ts';
import { pipelineVariables } from '../../src/sandbox/ci/predefined.ts';
import type { PipelineRequest } from '../../src/sandbox/ci-port.ts';
import type { JobSpec, MergeRequest, World } from '../../src/sandbox/state.ts';
import { addProject, openWorld, request, type TestProject } from '../sandbox/ci-world.ts';

/** A project as `cdl init fashion` makes it, beside the component project it includes. */
export interface Starter {
  world: World;
  app: TestProject;
  kit: TestProject;
  compiler: Compiler;
  /** Head of the project's main branch. */
  sha: string;
  compile(over: Partial<PipelineRequest>, at?: string): Promise<CompileOutcome>;
  /** The jobs of a pipeline. Throws what is wrong with it. */
  jobs(over: Partial<PipelineRequest>, at?: string): Promise<JobSpec[]>;
  /** The configuration with every include resolved and every input put in, before GitLab's keywords are expanded. */
  expanded(over: Partial<PipelineRequest>, at?: string): Promise<Record<string, unknown>>;
  remove(): Promise<void>;
}

/** The files below a folder, text by path. */
export async function filesOf(folder: string): Promise<Record<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const read = async (path: string) =>
    [path.slice(folder.length + 1), await readFile(path, 'utf8')] as [string, string];
  return Object.fromEntries(await Promise.all(paths.map(read)));
}

/** What asks for a pipeline of a merge request. */
export const asChange: Partial<PipelineRequest> = {
  source: 'merge_request_event',
  ref: 'experiment',
  mergeRequestIid: 7,
};

/** Sets up {@link Starter} in a world without a server. */
export async function openStarter(version: string): Promise<Starter> {
  const { world, remove } = await openWorld();
  const compiler = openCompiler(world, process.env.PATH ?? '');
  const kit = await addProject(world, 'cdl', 'ci-components');
  await kit.commit(await filesOf(join(packageRoot(), 'ci-components')));
  await kit.git('tag', version);
  await kit.git('push', '--quiet', 'origin', version);
  const app = await addProject(world, 'acme', 'fashion');
  const folder = await mkdtemp(join(tmpdir(), 'cdl-starter-'));
  await writeExample('fashion', join(folder, 'fashion'), {
    version,
    components: '$CI_SERVER_FQDN/cdl/ci-components',
    validators: [],
  });
  const sha = await app.commit(await filesOf(join(folder, 'fashion')));
  await rm(folder, { recursive: true });
  app.project.mergeRequests.set(7, {
    id: 7,
    iid: 7,
    projectId: app.project.id,
    sourceProjectId: app.project.id,
    sourceBranch: 'experiment',
    targetBranch: 'main',
    title: 'An experiment',
    description: '',
    authorId: 1,
    state: 'opened',
    draft: false,
    sha,
    mergeCommitSha: null,
    squashCommitSha: null,
    squash: false,
    removeSourceBranch: false,
    mergedBy: null,
    approvedBy: [],
    labels: [],
    reviewerIds: [],
    notes: [],
    createdAt: '2026-01-01T00:00:00Z',
    updatedAt: '2026-01-01T00:00:00Z',
    mergedAt: null,
  } satisfies MergeRequest);
  const compile = (over: Partial<PipelineRequest>, at = sha) =>
    compiler.compile(app.project, request(at, over));
  return {
    world,
    app,
    kit,
    compiler,
    sha,
    compile,
    async jobs(over, at) {
      const outcome = await compile(over, at);
      if (outcome.kind !== 'compiled') throw new Error(JSON.stringify(outcome));
      return outcome.pipeline.jobs;
    },
    async expanded(over, at = sha) {
      const open = compiler.repositoryOf;
      const asked = request(at, over);
      const values = new Map(
        Object.entries(await pipelineVariables(world, app.project, asked, open(app.project))),
      );
      const rules = { values, changed: async () => null, files: async () => [] };
      const flat = await flattenIncludes({ world, open, rules }, app.project, at, asked.inputs);
      if (flat === null) throw new Error('there is no .gitlab-ci.yml');
      return flat.config;
    },
    remove,
  };
}
