import type { Route } from './route.ts';
import type { Job, Pipeline, Project } from './state.ts';

/** What a pipeline is asked for. The engine evaluates `workflow:rules` and the jobs' rules against it. */
export interface PipelineRequest {
  /** Branch or tag name without `refs/heads/`; for merge-request pipelines the source branch. */
  ref: string;
  sha: string;
  tag: boolean;
  source: Pipeline['source'];
  userId: number;
  /** Values for `spec:inputs` of the pipeline's YAML header; unknown ones are an error. */
  inputs: Record<string, unknown>;
  variables: { key: string; value: string }[];
  /** Set exactly for `merge_request_event`. */
  mergeRequestIid: number | null;
  /** The commit the ref pointed at before a push (CI_COMMIT_BEFORE_SHA); null otherwise. */
  before: string | null;
}

/**
 * What became of a pipeline request.
 *
 * `refused` is for callers of the API (answered 400): the YAML is invalid, missing, inputs are wrong, or rules leave no job.
 * For `push` and `merge_request_event` an invalid YAML makes a failed pipeline with `yamlErrors` instead, and missing YAML or
 * rules that leave nothing give `refused`, which nobody sees.
 */
export type PipelineOutcome =
  | { kind: 'created'; pipeline: Pipeline }
  | { kind: 'refused'; messages: string[] };

/**
 * The CI half of the sandbox as the forge half sees it. It puts pipelines and jobs into the project's maps, runs them, writes
 * `trace.log` and `artifacts.zip` into each job's folder, keeps environments and deployments of jobs, and announces `pipeline`,
 * `job`, `trace` and `deployment` events on the world.
 *
 * Mutators check what is allowed in the job's state and throw an ApiError (403, as GitLab) otherwise; who may call is checked before.
 */
export interface CiEngine {
  createPipeline(project: Project, request: PipelineRequest): Promise<PipelineOutcome>;
  cancelPipeline(project: Project, pipeline: Pipeline): Promise<Pipeline>;
  /** Runs the failed and canceled jobs again, in place of the old ones. */
  retryPipeline(project: Project, pipeline: Pipeline, userId: number): Promise<Pipeline>;
  cancelJob(project: Project, job: Job): Promise<Job>;
  /** A new job with the same spec. */
  retryJob(project: Project, job: Job, userId: number): Promise<Job>;
  /** Starts a manual job. */
  playJob(
    project: Project,
    job: Job,
    userId: number,
    variables: { key: string; value: string }[],
  ): Promise<Job>;
  /** The runner's side: `/runners/*`, `/jobs/request`, `/jobs/:id`, `/jobs/:id/trace`, `/jobs/:id/artifacts`, … */
  readonly routes: readonly Route[];
  /** Stops running jobs and timers. */
  close(): Promise<void>;
}
