import type { Pipeline } from './state.ts';

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
