import { fullPath } from '../access.ts';
import type { Job, Pipeline, Project, World } from '../state.ts';
import { resolveVariables } from './expand-variables.ts';
import { jobVariables, repositoryUrl } from './predefined.ts';

/** A variable as runners get it: `raw` is not expanded, `masked` is hidden in logs. */
export interface PayloadVariable {
  key: string;
  value: string;
  public: boolean;
  masked: boolean;
  raw: boolean;
}

/** What the engine knows about a pipeline beyond its public state. */
export interface PipelineFacts {
  predefined: Record<string, string>;
  before: string | null;
  protectedRef: boolean;
}

/** The jobs whose artifacts and dotenv variables a job gets: its needs, or everything in earlier stages. */
export function dependenciesOf(job: Job, latest: readonly Job[], stages: readonly string[]): Job[] {
  const { needs, dependencies, stage } = job.spec;
  const from =
    needs === null
      ? latest.filter((other) => stages.indexOf(other.spec.stage) < stages.indexOf(stage))
      : needs.flatMap(({ job: name, artifacts }) =>
          artifacts ? latest.filter((other) => other.spec.name === name) : [],
        );
  const wanted = (name: string): boolean =>
    dependencies === null ||
    dependencies.includes(name) ||
    dependencies.includes(name.replace(/: \[.*\]$/, ''));
  return from.filter((other) => wanted(other.spec.name));
}

/** All variables of a job, weakest first (doc: ci/variables, "CI/CD variable precedence"). */
export function payloadVariables(
  world: World,
  project: Project,
  pipeline: Pipeline,
  job: Job,
  facts: PipelineFacts,
  secret: Project['variables'],
  given: readonly { key: string; value: string }[],
  upstream: readonly Job[],
): PayloadVariable[] {
  const open = { public: true, masked: false };
  const predefined = { ...facts.predefined, ...jobVariables(world, project, pipeline, job) };
  const list: PayloadVariable[] = [
    ...Object.entries(predefined).map(([key, value]) => ({
      ...open,
      key,
      value,
      // The token must not show; the address of an environment may use other variables.
      masked: key === 'CI_JOB_TOKEN',
      public: key !== 'CI_JOB_TOKEN' && key !== 'CI_REPOSITORY_URL',
      raw: key !== 'CI_ENVIRONMENT_URL',
    })),
    ...job.spec.variables.map(({ key, value, expand }) => ({ ...open, key, value, raw: !expand })),
    ...upstream.flatMap((other) =>
      Object.entries(other.dotenv).map(([key, value]) => ({ ...open, key, value, raw: true })),
    ),
    ...secret.map(({ key, value, masked }) => ({ key, value, public: false, masked, raw: false })),
    ...given.map(({ key, value }) => ({ key, value, public: false, masked: false, raw: false })),
  ];
  return list;
}

/** The values a list of payload variables ends up with. */
export function payloadValues(variables: readonly PayloadVariable[]): Map<string, string> {
  return resolveVariables(variables.map(({ key, value, raw }) => ({ key, value, expand: !raw })));
}

/** A job as `POST /jobs/request` answers it (gitlab-runner: common/network.go, type JobResponse). */
export function jobPayload(
  world: World,
  project: Project,
  pipeline: Pipeline,
  job: Job,
  facts: PipelineFacts,
  variables: PayloadVariable[],
  upstream: readonly Job[],
): object {
  const { spec } = job;
  const pipelineRef = `refs/pipelines/${pipeline.id}`;
  const step = { timeout: spec.timeout, when: 'on_success', allow_failure: false };
  return {
    id: job.id,
    token: job.token,
    allow_git_fetch: true,
    job_info: {
      id: job.id,
      name: spec.name,
      stage: spec.stage,
      project_id: project.id,
      project_name: project.name,
      project_full_path: fullPath(project),
      time_in_queue_seconds: 0,
    },
    git_info: {
      repo_url: repositoryUrl(world, project, job.token),
      ref: pipeline.ref,
      ref_type: pipeline.tag ? 'tag' : 'branch',
      sha: pipeline.sha,
      before_sha: facts.before ?? '0'.repeat(40),
      refspecs: [`+${pipelineRef}:${pipelineRef}`],
      depth: 20,
      protected: facts.protectedRef,
      repo_object_format: 'sha1',
    },
    runner_info: { timeout: spec.timeout, runner_session_url: null },
    inputs: [],
    variables,
    steps: [
      { ...step, name: 'script', script: [...spec.beforeScript, ...spec.script] },
      ...(spec.afterScript.length === 0
        ? []
        : [
            {
              name: 'after_script',
              script: spec.afterScript,
              timeout: 300,
              when: 'always',
              allow_failure: true,
            },
          ]),
    ],
    hooks: [],
    image: spec.image === null ? {} : { name: spec.image },
    services: [],
    artifacts: artifactRequests(job),
    cache: [],
    credentials: [],
    dependencies: upstream
      .filter((other) => other.hasArtifacts)
      .map((other) => ({
        id: other.id,
        name: other.spec.name,
        token: other.token,
        artifacts_file: { filename: 'artifacts.zip', size: 0 },
      })),
    features: { trace_sections: true, token_mask_prefixes: [], failure_reasons: [], trace_checksum: true },
  };
}

function artifactRequests({ spec: { artifacts } }: Job): object[] {
  if (artifacts === null) return [];
  const common = { untracked: false, exclude: artifacts.exclude, expire_in: null };
  const reports = { junit: 'junit.xml', dotenv: '.env', metrics: 'metrics.txt' } as const;
  return [
    ...(artifacts.paths.length === 0
      ? []
      : [
          {
            ...common,
            name: artifacts.name,
            paths: artifacts.paths,
            when: artifacts.when,
            artifact_type: 'archive',
            artifact_format: 'zip',
          },
        ]),
    ...(['junit', 'dotenv', 'metrics'] as const)
      .filter((type) => artifacts.reports[type].length > 0)
      .map((type) => ({
        ...common,
        name: reports[type],
        paths: artifacts.reports[type],
        when: 'always',
        artifact_type: type,
        artifact_format: 'gzip',
      })),
  ];
}
