import { join } from 'node:path';
import type { PipelineRequest } from '../ci-port.ts';
import type { JobSpec, Project, World } from '../state.ts';
import { expandText, resolveVariables } from './expand-variables.ts';
import { type Expand, ExpandError, openExpander } from './gitlab-ci-local.ts';
import { flattenIncludes } from './include.ts';
import { buildJobs, evaluateWorkflow, type RepositoryFacts, type VariableLayers } from './jobs.ts';
import { isProtectedRef, pipelineVariables } from './predefined.ts';
import { openRepository, type Repository } from './repository.ts';
import { checkConfig } from './strict.ts';
import { CiConfigError, locate } from './yaml-source.ts';

/** A pipeline ready to be made: at least one job. */
export interface CompiledPipeline {
  jobs: JobSpec[];
  stages: string[];
  name: string | null;
  onNewCommit: 'conservative' | 'interruptible' | 'none' | null;
  /** `workflow:auto_cancel:on_job_failure: all`. */
  cancelOnFailure: boolean;
}

/** What a commit's configuration gives for a request: `empty` is no error (no file, or rules leave nothing), `invalid` is. */
export type CompileOutcome =
  | { kind: 'compiled'; pipeline: CompiledPipeline }
  | { kind: 'invalid'; messages: string[] }
  | { kind: 'empty'; message: string };

/** Turns a project's configuration at a commit into jobs. Opened once per sandbox; equal configurations are expanded once. */
export interface Compiler {
  compile(project: Project, request: PipelineRequest): Promise<CompileOutcome>;
  repositoryOf(project: Project): Repository;
  /** The project's variables that may reach jobs of a ref and environment. */
  variablesFor(project: Project, request: ScopedRef, environment: string | null): Project['variables'];
}

/** What decides whether protected variables are given out. */
export type ScopedRef = Pick<PipelineRequest, 'ref' | 'tag' | 'mergeRequestIid'>;

/** Opens the compiler; `path` is where it looks for git. */
export function openCompiler(world: World, path: string): Compiler {
  const expand: Expand = openExpander(join(world.folder, 'ci-expand'), path);
  const repositories = new Map<string, Repository>();
  const repositoryOf = (project: Project): Repository => {
    const kept = repositories.get(project.repository) ?? openRepository(project.repository);
    repositories.set(project.repository, kept);
    return kept;
  };
  return {
    repositoryOf,
    variablesFor,
    async compile(project, request) {
      try {
        return await compile(world, expand, repositoryOf, project, request);
      } catch (error) {
        if (error instanceof CiConfigError) return { kind: 'invalid', messages: error.messages };
        throw error;
      }
    },
  };
}

async function compile(
  world: World,
  expand: Expand,
  repositoryOf: (project: Project) => Repository,
  project: Project,
  request: PipelineRequest,
): Promise<CompileOutcome> {
  const repository = repositoryOf(project);
  const layers: VariableLayers = {
    predefined: await pipelineVariables(world, project, request, repository),
    project: variablesFor(project, request, null),
    pipeline: request.variables,
  };
  const values = resolveVariables([
    ...Object.entries(layers.predefined).map(([key, value]) => ({ key, value, expand: false })),
    ...[...layers.project, ...layers.pipeline].map(({ key, value }) => ({ key, value, expand: true })),
  ]);
  const facts = repositoryFacts(project, request, repository);
  const context = { world, open: repositoryOf, rules: { ...facts, values } };
  const flat = await flattenIncludes(context, project, request.sha, request.inputs);
  if (flat === null) return { kind: 'empty', message: 'Missing CI config file' };
  if (!Object.keys(flat.config).some((key) => !key.startsWith('.') && key !== 'stages')) {
    return { kind: 'invalid', messages: ['jobs config should contain at least one visible job'] };
  }
  const expanded = await expand(flat.config).catch((error: unknown) => {
    if (!(error instanceof ExpandError)) throw error;
    const line = locate(flat.sources, error.path) ?? locate(flat.sources, error.path.slice(0, 1));
    throw new CiConfigError(
      error.messages.map((message) => (line === null ? message : `${line}: ${message}`)),
    );
  });
  const config = checkConfig(expanded, flat.sources);
  if (config.jobs.size === 0) {
    return { kind: 'invalid', messages: ['jobs config should contain at least one visible job'] };
  }
  const workflow = await evaluateWorkflow(config, layers, facts);
  if (workflow === null) return { kind: 'empty', message: 'Pipeline filtered out by workflow rules.' };
  const jobs = await buildJobs(config, workflow, layers, facts);
  if (jobs.length === 0) {
    return {
      kind: 'empty',
      message:
        'Pipeline will not run for the selected trigger. The rules configuration prevented any jobs from being added to the pipeline.',
    };
  }
  const used = new Set(jobs.map((job) => job.stage));
  return {
    kind: 'compiled',
    pipeline: {
      jobs,
      stages: config.stages.filter((stage) => used.has(stage)),
      name: config.workflow.name === undefined ? null : expandText(config.workflow.name, values),
      onNewCommit: config.workflow.auto_cancel?.on_new_commit ?? null,
      cancelOnFailure: config.workflow.auto_cancel?.on_job_failure === 'all',
    },
  };
}

/** What `changes` and `exists` look at: the push or the merge request; without a comparison `changes` holds (doc: ci/yaml#ruleschanges). */
function repositoryFacts(
  project: Project,
  request: PipelineRequest,
  repository: Repository,
): RepositoryFacts {
  const kept = new Map<string | null, Promise<string[] | null>>();
  const compare = async (to: string | null): Promise<string[] | null> => {
    if (to !== null) {
      for (const prefix of ['refs/heads/', 'refs/tags/', '']) {
        const sha = await repository.resolve(`${prefix}${to.replace(/^refs\/heads\//, '')}`);
        if (sha !== null) return repository.changedFiles(sha, request.sha, true);
      }
      throw new CiConfigError(`rules:changes:compare_to ${to} is not a valid ref`);
    }
    const mr =
      request.mergeRequestIid === null ? undefined : project.mergeRequests.get(request.mergeRequestIid);
    if (mr !== undefined) return repository.changedFiles(`refs/heads/${mr.targetBranch}`, request.sha, true);
    if (request.source !== 'push' || request.tag || request.before === null || /^0+$/.test(request.before))
      return null;
    return repository.changedFiles(request.before, request.sha, false);
  };
  return {
    files: () => repository.listFiles(request.sha),
    changed(compareTo) {
      const found = kept.get(compareTo) ?? compare(compareTo);
      kept.set(compareTo, found);
      return found;
    },
  };
}

function variablesFor(
  project: Project,
  request: ScopedRef,
  environment: string | null,
): Project['variables'] {
  const isProtected = isProtectedRef(project, request);
  const matches = (scope: string): boolean => {
    if (scope === '*' || scope === '') return true;
    const parts = scope.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
    return environment !== null && new RegExp(`^${parts.join('.*')}$`).test(environment);
  };
  return project.variables
    .filter((variable) => (!variable.protected || isProtected) && matches(variable.environmentScope))
    .sort((one, other) => scopeWeight(one.environmentScope) - scopeWeight(other.environmentScope));
}

// The most specific scope comes last and wins.
function scopeWeight(scope: string): number {
  return scope === '*' || scope === '' ? 0 : scope.includes('*') ? 1 + scope.length : 10_000;
}
