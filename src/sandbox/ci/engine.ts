import type { CiEngine, PipelineOutcome, PipelineRequest } from '../ci-port.ts';
import { ApiError } from '../route.ts';
import { announce, type Job, type Pipeline, type Project, type World } from '../state.ts';
import { type CompiledPipeline, openCompiler } from './compile.ts';
import { coordinatorRoutes } from './coordinator.ts';
import { Lifecycle } from './lifecycle.ts';
import { isProtectedRef, pipelineVariables } from './predefined.ts';
import { JobQueue, type RunnerRegistration } from './queue.ts';
import { isComplete } from './status.ts';

/** How the CI half is set up. */
export interface CiOptions {
  runners: readonly RunnerRegistration[];
  /** Where programs are looked for (git). */
  path: string;
  /** How long `POST /jobs/request` waits for a job, in milliseconds. */
  holdMs?: number;
}

const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * The CI half of the sandbox: compiles, schedules and keeps pipelines, and speaks the runners' protocol.
 * `options.path` empty means the system's usual folders.
 */
export function createCiEngine(world: World, options: CiOptions): CiEngine {
  const compiler = openCompiler(world, options.path || defaultPath);
  const queue = new JobQueue();
  const life = new Lifecycle(world, compiler, queue);

  const addPipeline = async (
    project: Project,
    request: PipelineRequest,
    compiled: CompiledPipeline | null,
    yamlErrors: string[],
  ): Promise<Pipeline> => {
    const repository = compiler.repositoryOf(project);
    const predefined = await pipelineVariables(world, project, request, repository);
    const now = new Date().toISOString();
    const pipeline: Pipeline = {
      id: world.nextId('pipeline'),
      iid: world.nextId(`pipeline:${project.id}`),
      projectId: project.id,
      ref: request.ref,
      sha: request.sha,
      tag: request.tag,
      source: request.source,
      status: compiled === null ? 'failed' : 'created',
      name: compiled?.name ?? null,
      userId: request.userId,
      mergeRequestIid: request.mergeRequestIid,
      inputs: request.inputs,
      variables: request.variables,
      yamlErrors,
      createdAt: now,
      startedAt: null,
      finishedAt: compiled === null ? now : null,
      jobIds: [],
      stages: compiled?.stages ?? [],
    };
    if (compiled !== null) await life.keepCommit(project, pipeline, true);
    life.register(pipeline, {
      predefined,
      before: request.before,
      protectedRef: isProtectedRef(project, request),
      onNewCommit: compiled?.onNewCommit ?? null,
      cancelOnFailure: compiled?.cancelOnFailure ?? false,
    });
    project.pipelines.set(pipeline.id, pipeline);
    for (const spec of compiled?.jobs ?? []) life.addJob(project, pipeline, spec);
    announce(world, { kind: 'pipeline', project, pipeline });
    for (const job of life.latest(project, pipeline)) announce(world, { kind: 'job', project, job });
    return pipeline;
  };

  const cancelSuperseded = (project: Project, pipeline: Pipeline): void => {
    for (const older of project.pipelines.values()) {
      if (older.id >= pipeline.id || isComplete(older.status) || older.ref !== pipeline.ref) continue;
      if (older.mergeRequestIid !== pipeline.mergeRequestIid || older.tag) continue;
      const mode = life.record(older).onNewCommit;
      const jobs = life.latest(project, older);
      if (mode === 'interruptible') {
        for (const job of jobs) if (job.spec.interruptible) life.cancel(project, job);
        life.progress(project, older);
      } else if (mode === 'conservative') {
        if (!jobs.some((job) => job.startedAt !== null && !job.spec.interruptible))
          life.cancelAll(project, older);
      }
    }
  };

  const ownJob = (project: Project, job: Job): Pipeline => {
    const pipeline = project.pipelines.get(job.pipelineId);
    if (pipeline === undefined) throw new ApiError(404, '404 Not found');
    return pipeline;
  };

  return {
    async createPipeline(project, request): Promise<PipelineOutcome> {
      const outcome = await compiler.compile(project, request);
      if (outcome.kind === 'empty') return { kind: 'refused', messages: [outcome.message] };
      if (outcome.kind === 'invalid') {
        const silent = request.source === 'push' || request.source === 'merge_request_event';
        if (!silent) return { kind: 'refused', messages: outcome.messages };
        return { kind: 'created', pipeline: await addPipeline(project, request, null, outcome.messages) };
      }
      const pipeline = await addPipeline(project, request, outcome.pipeline, []);
      cancelSuperseded(project, pipeline);
      life.progress(project, pipeline);
      return { kind: 'created', pipeline };
    },

    statusSet: (project, pipeline) => life.refresh(project, pipeline),
    async cancelPipeline(project, pipeline) {
      life.cancelAll(project, pipeline);
      return pipeline;
    },

    async retryPipeline(project, pipeline) {
      for (const job of life.latest(project, pipeline)) {
        if (job.status === 'failed' || job.status === 'canceled') await life.retry(project, job);
      }
      life.progress(project, pipeline);
      return pipeline;
    },

    async cancelJob(project, job) {
      if (isComplete(job.status)) throw new ApiError(403, '403 Forbidden - Job is not cancelable');
      life.cancel(project, job);
      life.progress(project, ownJob(project, job));
      return job;
    },

    async retryJob(project, job) {
      const pipeline = ownJob(project, job);
      const finished = job.status === 'success' || job.status === 'failed' || job.status === 'canceled';
      if (!finished || !pipeline.jobIds.includes(job.id)) {
        throw new ApiError(403, '403 Forbidden - Job is not retryable');
      }
      const again = await life.retry(project, job);
      life.progress(project, pipeline);
      return again;
    },

    async playJob(project, job, _userId, variables) {
      if (job.status !== 'manual') throw new ApiError(400, '400 Bad request - Unplayable Job');
      const pipeline = ownJob(project, job);
      life.give(job, variables);
      // Jobs that were passed over because nobody had started this one wait for it now.
      for (const other of life.latest(project, pipeline)) {
        if (other.status === 'skipped' && other.spec.needs?.some((need) => need.job === job.spec.name)) {
          other.status = 'created';
        }
      }
      life.enqueue(project, pipeline, job);
      life.progress(project, pipeline);
      return job;
    },

    routes: coordinatorRoutes(world, {
      runners: options.runners,
      queue,
      life,
      holdMs: options.holdMs ?? 20_000,
    }),

    async close() {
      queue.close();
      await life.close();
    },
  };
}
