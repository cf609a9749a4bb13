import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import type { HookDelivery } from './hook-types.ts';
import type { PipelineOutcome, PipelineRequest } from './pipeline-request.ts';
import type { Job, Pipeline, Project, Token, User, World } from './state.ts';

/** A file of a multipart body, already written to a temporary place that is removed after the call. */
export interface UploadedFile {
  path: string;
  filename: string;
  contentType: string;
  /** Bytes. */
  size: number;
}

/** What handlers and the git side share. */
export interface Forge {
  world: World;
  engine: CiEngine;
  hooks: HookDelivery;
  /** Work that follows an answer (pipelines after a push), one at a time per project; `close` waits for it. */
  later(project: Project, work: () => Promise<unknown>): void;
}

/** One API request, parsed. Parameters of the path are decoded; `params.id` of a project may be a number or a full path. */
export interface Call extends Forge {
  method: string;
  headers: IncomingHttpHeaders;
  /** Names as in the route's path, `*` for the rest. */
  params: Record<string, string>;
  /** `a[]=1&a[]=2` arrives as `{a: ['1', '2']}`, `f[x]=1` as `{f: {x: '1'}}`. */
  query: Record<string, unknown>;
  /** JSON, form or multipart fields; empty for other content types and for routes with `raw`. */
  body: Record<string, unknown>;
  files: Record<string, UploadedFile>;
  /** The unread body of a route with `raw: true` (otherwise already consumed). */
  request: IncomingMessage;
  /** The caller; null on routes with `auth: 'none'` called without a token. */
  user: User | null;
  token: Token | null;
  /** The job whose token was used (JOB-TOKEN), on routes with `jobToken`. */
  job: Job | null;
  /** Aborts when the caller goes away. */
  signal: AbortSignal;
}

/** What a handler answers. `body` undefined sends none; streams, buffers and strings go out as they are, the rest as JSON. */
export interface Reply {
  status: number;
  body?: Readable | Buffer | string | object | null;
  headers?: Record<string, string>;
}

/**
 * One line of the route table.
 *
 * `spec` is the operationId of the OpenAPI file, or the documented exception: the page on docs.gitlab.com and the
 * parameters (query and body together) it lists.
 */
export interface Route {
  method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Below `/api/v4`, in Fastify's notation: `/projects/:id/jobs/:job_id/artifacts/*`. */
  path: string;
  spec: { operationId: string; extra?: string[]; extraDoc?: string } | { doc: string; parameters: string[] };
  /** Who of ours sends it. */
  caller: string;
  /** `user` (the default) refuses calls without a valid token with 401; `none` leaves it to the handler. */
  auth?: 'user' | 'none';
  /** A job's own token (JOB-TOKEN) opens it too (doc: ci/jobs/ci_job_token). */
  jobToken?: true;
  /** Leave the body unread for the handler (`call.request`). */
  raw?: true;
  handler(call: Call): Promise<Reply> | Reply;
}

/**
 * The CI half of the sandbox as the forge half sees it. It puts pipelines and jobs into the project's maps, runs them, writes
 * `trace.log` and `artifacts.zip` into each job's folder, keeps environments and deployments of jobs, and announces `pipeline`,
 * `job`, `trace` and `deployment` events on the world.
 *
 * Mutators check what is allowed in the job's state and throw an ApiError (403, as GitLab) otherwise; who may call is checked before.
 */
export interface CiEngine {
  createPipeline(project: Project, request: PipelineRequest): Promise<PipelineOutcome>;
  /** A status was set on a pipeline from outside. */
  statusSet(project: Project, pipeline: Pipeline): void;
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

export { ApiError } from './api-error.ts';
