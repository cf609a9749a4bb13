import { appendFileSync, createReadStream, statSync } from 'node:fs';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { ApiError, type Call, type Reply, type Route } from '../route.ts';
import { announce, type Job, type Pipeline, type Project, type World } from '../state.ts';
import type { Lifecycle } from './lifecycle.ts';
import { jobPayload } from './payload.ts';
import type { JobQueue, RunnerRegistration, Waiting } from './queue.ts';

/** What the runner's side of the API works on. */
export interface Coordinator {
  runners: readonly RunnerRegistration[];
  queue: JobQueue;
  life: Lifecycle;
  holdMs: number;
}

interface Found {
  project: Project;
  pipeline: Pipeline;
  job: Job;
}

const caller = 'the job runner';
const maxTrace = 64 * 1024 * 1024;
/** GitLab's default plan limits for dotenv reports (doc: administration/instance_limits). */
const maxDotenv = { bytes: 5 * 1024, variables: 20 };

/** Variables of a dotenv report: one `KEY=value` a line, nothing else (doc: ci/yaml/artifacts_reports#artifactsreportsdotenv). Throws ApiError 400. */
export function parseDotenv(bytes: Buffer): Record<string, string> {
  if (bytes.length > maxDotenv.bytes) {
    throw new ApiError(400, `Dotenv Artifact Too Big. Maximum Allowable Size: ${maxDotenv.bytes}`);
  }
  const variables: Record<string, string> = {};
  for (const line of bytes.toString('utf8').split('\n')) {
    if (line === '') continue;
    const match = /^\s*([A-Za-z0-9_]+)\s*=(.*)$/.exec(line);
    if (match === null) throw new ApiError(400, 'Invalid Format');
    variables[match[1] ?? ''] = (match[2] ?? '').trim();
  }
  if (Object.keys(variables).length > maxDotenv.variables) {
    throw new ApiError(400, `Dotenv files cannot have more than ${maxDotenv.variables} variables`);
  }
  return variables;
}

/** The calls gitlab-runner makes (gitlab-runner: network/gitlab.go), so that it can take the place of the sandbox's own runner. */
export function coordinatorRoutes(world: World, coordinator: Coordinator): Route[] {
  const { life } = coordinator;

  const requireRunner = (call: Call): RunnerRegistration => {
    const token = String(call.body.token ?? '');
    const runner = coordinator.runners.find((one) => one.token === token);
    if (runner === undefined) throw new ApiError(403, '403 Forbidden');
    return runner;
  };

  const requireJob = (call: Call): Found => {
    const given = call.headers['job-token'] ?? call.body.token ?? call.query.token;
    for (const project of world.projects.values()) {
      const job = project.jobs.get(Number(call.params.id));
      const pipeline = job && project.pipelines.get(job.pipelineId);
      if (job !== undefined && pipeline !== undefined && job.token === given)
        return { project, pipeline, job };
    }
    throw new ApiError(403, '403 Forbidden');
  };

  const jobStatus = (job: Job): string => (job.cancelRequested ? 'canceled' : job.status);

  const request = async (call: Call): Promise<Reply> => {
    const runner = requireRunner(call);
    const waiting = await takeWhileConnected(call, runner);
    if (waiting === null) return { status: 204, headers: { 'x-gitlab-last-update': String(Date.now()) } };
    const { job } = waiting;
    const project = world.projects.get(job.projectId);
    const pipeline = project?.pipelines.get(job.pipelineId);
    if (project === undefined || pipeline === undefined) throw new ApiError(409, '409 Conflict');
    life.start(project, pipeline, job);
    const { upstream, variables } = life.inputsOf(project, pipeline, job);
    const facts = life.record(pipeline);
    return { status: 201, body: jobPayload(world, project, pipeline, job, facts, variables, upstream) };
  };

  // A request whose body was read says nothing when its caller goes away; the connection does.
  const takeWhileConnected = async (call: Call, runner: RunnerRegistration): Promise<Waiting | null> => {
    const gone = new AbortController();
    const leave = (): void => gone.abort();
    const { socket } = call.request;
    socket.once('close', leave);
    try {
      if (socket.destroyed) return null;
      return await coordinator.queue.take(
        runner,
        coordinator.holdMs,
        AbortSignal.any([call.signal, gone.signal]),
      );
    } finally {
      socket.off('close', leave);
    }
  };

  const update = (call: Call): Reply => {
    const { project, job } = requireJob(call);
    if (!life.isHeld(job)) {
      throw new ApiError(403, '403 Forbidden - Job is not running');
    }
    life.touch(job);
    const { state, failure_reason: reason, exit_code: code } = call.body;
    const headers = { 'job-status': jobStatus(job) };
    if (state === 'success' || state === 'failed') {
      life.finish(project, job, {
        status: state,
        failureReason: typeof reason === 'string' ? reason : null,
        exitCode: typeof code === 'number' ? code : null,
      });
    } else if (state !== undefined && state !== 'running' && state !== 'pending') {
      throw new ApiError(400, '400 Bad request - Unknown parameters');
    }
    return { status: 200, body: '200', headers };
  };

  const trace = async (call: Call): Promise<Reply> => {
    const { project, job } = requireJob(call);
    const range = /^(\d+)-(\d*)$/.exec(String(call.headers['content-range'] ?? ''));
    if (range === null) throw new ApiError(400, '400 Missing header Content-Range');
    const chunks: Buffer[] = [];
    for await (const chunk of call.request) chunks.push(chunk as Buffer);
    if (!life.isHeld(job)) throw new ApiError(403, '403 Forbidden - Job is not running');
    life.touch(job);
    const file = join(job.folder, 'trace.log');
    const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
    const headers = {
      'job-status': jobStatus(job),
      range: `0-${size}`,
      'x-gitlab-trace-update-interval': '3',
    };
    if (Number(range[1]) !== size) {
      return { status: 416, body: { message: '416 Range Not Satisfiable' }, headers };
    }
    const bytes = Buffer.concat(chunks);
    if (size + bytes.length > maxTrace) {
      life.finish(project, job, { status: 'failed', failureReason: 'trace_size_exceeded', exitCode: null });
      throw new ApiError(403, '403 Forbidden - Job log is too large');
    }
    // Synchronous, so that two requests cannot both find the same size.
    appendFileSync(file, bytes);
    announce(world, { kind: 'trace', project, job });
    return { status: 202, body: '202', headers: { ...headers, range: `0-${size + bytes.length}` } };
  };

  const upload = async (call: Call): Promise<Reply> => {
    const { job } = requireJob(call);
    if (!life.isHeld(job)) throw new ApiError(403, '403 Forbidden - Job is not running');
    life.touch(job);
    const file = call.files.file;
    if (file === undefined) throw new ApiError(400, '400 Bad request - Missing artifacts file!');
    const type = String(call.body.artifact_type ?? call.query.artifact_type ?? 'archive');
    const format = String(call.body.artifact_format ?? call.query.artifact_format ?? 'zip');
    if (type === 'archive') {
      await copyFile(file.path, join(job.folder, 'artifacts.zip'));
      job.hasArtifacts = true;
    } else if (type === 'dotenv' || type === 'junit' || type === 'metrics') {
      const bytes = await readFile(file.path);
      const plain = format === 'gzip' ? gunzipSync(bytes, { maxOutputLength: maxTrace }) : bytes;
      if (type === 'dotenv') job.dotenv = { ...job.dotenv, ...parseDotenv(plain) };
      await writeFile(
        join(job.folder, { dotenv: 'dotenv.env', junit: 'junit.xml', metrics: 'metrics.txt' }[type]),
        plain,
      );
    } else if (type !== 'metadata') {
      throw new ApiError(400, `400 Bad request - artifact_type ${type} is not supported by the sandbox`);
    }
    return { status: 201, body: '201' };
  };

  const download = (call: Call): Reply => {
    const { job } = requireJob(call);
    const file = join(job.folder, 'artifacts.zip');
    const size = statSync(file, { throwIfNoEntry: false })?.size;
    if (!job.hasArtifacts || size === undefined) throw new ApiError(404, '404 Not found');
    const headers = { 'content-type': 'application/octet-stream', 'content-length': String(size) };
    return { status: 200, body: createReadStream(file), headers };
  };

  const verify = (call: Call): Reply => {
    const runner = requireRunner(call);
    const id = coordinator.runners.indexOf(runner) + 1;
    return { status: 200, body: { id, token: runner.token, token_expires_at: null } };
  };

  const route = (
    method: Route['method'],
    path: string,
    operationId: string,
    handler: Route['handler'],
    rest: Partial<Pick<Route, 'raw'>> = {},
  ): Route => ({ method, path, spec: { operationId }, caller, auth: 'none', handler, ...rest });

  return [
    route('POST', '/runners/verify', 'postApiV4RunnersVerify', verify),
    route('POST', '/jobs/request', 'postApiV4JobsRequest', request),
    route('PUT', '/jobs/:id', 'putApiV4JobsId', update),
    route('PATCH', '/jobs/:id/trace', 'patchApiV4JobsIdTrace', trace, { raw: true }),
    route('POST', '/jobs/:id/artifacts', 'postApiV4JobsIdArtifacts', upload),
    route('GET', '/jobs/:id/artifacts', 'getApiV4JobsIdArtifacts', download),
  ];
}
