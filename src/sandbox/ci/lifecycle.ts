import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  announce,
  type Job,
  type JobSpec,
  type JobStatus,
  type Pipeline,
  type Project,
  type World,
} from '../state.ts';
import type { CompiledPipeline, Compiler } from './compile.ts';
import { ensureEnvironment, finishDeployment, startDeployment } from './deployments.ts';
import {
  dependenciesOf,
  type PayloadVariable,
  type PipelineFacts,
  payloadValues,
  payloadVariables,
} from './payload.ts';
import type { JobQueue } from './queue.ts';
import { compositeStatus, isComplete, nextStatuses } from './status.ts';

/** What is kept of a pipeline besides its public state. */
export interface PipelineRecord extends PipelineFacts {
  onNewCommit: CompiledPipeline['onNewCommit'];
  cancelOnFailure: boolean;
}

/** A job in a runner's hands. */
interface Running {
  silence: NodeJS.Timeout;
  deadline: NodeJS.Timeout;
}

/** How a runner says a job ended. */
export interface JobResult {
  status: 'success' | 'failed';
  failureReason: string | null;
  exitCode: number | null;
}

/** How long a runner may be silent before its job counts as lost, and how much longer than the job's own timeout it may take. */
const silenceMs = 120_000;
const graceMs = 30_000;

/** Moves jobs and pipelines from state to state; everything that changes one goes through here, so that listeners hear of it. */
export class Lifecycle {
  readonly #world: World;
  readonly #compiler: Compiler;
  readonly #queue: JobQueue;
  readonly #records = new Map<number, PipelineRecord>();
  readonly #running = new Map<number, Running>();
  readonly #given = new Map<number, { key: string; value: string }[]>();
  readonly #refs = new Map<number, Promise<void>>();
  readonly #background = new Set<Promise<void>>();

  constructor(world: World, compiler: Compiler, queue: JobQueue) {
    this.#world = world;
    this.#compiler = compiler;
    this.#queue = queue;
  }

  /** Remembers what a new pipeline needs. */
  register(pipeline: Pipeline, record: PipelineRecord): void {
    this.#records.set(pipeline.id, record);
  }

  record(pipeline: Pipeline): PipelineRecord {
    const record = this.#records.get(pipeline.id);
    if (record === undefined) throw new Error(`pipeline ${pipeline.id} was never compiled`);
    return record;
  }

  /** Each job of a pipeline once: the newest of its name. */
  latest(project: Project, pipeline: Pipeline): Job[] {
    return pipeline.jobIds.flatMap((id) => project.jobs.get(id) ?? []);
  }

  addJob(project: Project, pipeline: Pipeline, spec: JobSpec): Job {
    const id = this.#world.nextId('job');
    const folder = join(this.#world.folder, 'jobs', String(id));
    mkdirSync(folder, { recursive: true });
    const job: Job = {
      id,
      pipelineId: pipeline.id,
      projectId: project.id,
      spec,
      status: 'created',
      createdAt: new Date().toISOString(),
      startedAt: null,
      finishedAt: null,
      failureReason: null,
      token: `glcbt-${randomBytes(16).toString('hex')}`,
      folder,
      hasArtifacts: false,
      dotenv: {},
      cancelRequested: false,
    };
    project.jobs.set(id, job);
    if (spec.environment !== null) ensureEnvironment(this.#world, project, spec.environment.name);
    const old = pipeline.jobIds.findIndex((other) => project.jobs.get(other)?.spec.name === spec.name);
    if (old === -1) pipeline.jobIds.push(id);
    else pipeline.jobIds[old] = id;
    return job;
  }

  /** Starts what can start and brings the pipeline's own status up to date. */
  progress(project: Project, pipeline: Pipeline): void {
    for (;;) {
      const moves = nextStatuses(this.latest(project, pipeline), pipeline.stages);
      if (moves.length === 0) break;
      for (const { job, status } of moves) {
        if (status === 'pending') this.enqueue(project, pipeline, job);
        else this.#setStatus(project, job, status);
      }
    }
    this.refresh(project, pipeline);
  }

  enqueue(project: Project, pipeline: Pipeline, job: Job): void {
    this.#setStatus(project, job, 'pending');
    const { resourceGroup } = job.spec;
    this.#queue.add({
      job,
      protectedRef: this.record(pipeline).protectedRef,
      group: resourceGroup === null ? null : `${project.id}:${resourceGroup}`,
    });
  }

  /**
   * Recomputes the pipeline's status from its jobs and from the statuses set on it from outside: GitLab counts those as
   * jobs of a stage "external", so a pending one keeps a pipeline running and a failed one fails it.
   */
  refresh(project: Project, pipeline: Pipeline): void {
    const external = new Map(
      project.statuses
        .filter((entry) => entry.pipelineId === pipeline.id)
        .map((entry) => [entry.name, { status: entry.status, spec: { allowFailure: false } }] as const),
    );
    const status = compositeStatus([...this.latest(project, pipeline), ...external.values()], false);
    if (status === pipeline.status) return;
    pipeline.status = status;
    const now = new Date().toISOString();
    if (status === 'running') pipeline.startedAt ??= now;
    pipeline.finishedAt = isComplete(status) ? now : null;
    if (isComplete(status)) {
      this.background(this.keepCommit(project, pipeline, false));
    }
    announce(this.#world, { kind: 'pipeline', project, pipeline });
  }

  /** A runner took the job. */
  start(project: Project, pipeline: Pipeline, job: Job): void {
    job.startedAt = new Date().toISOString();
    const lost = (): void => this.finish(project, job, failure('stuck_or_timeout_failure'));
    const late = (): void => {
      job.cancelRequested = true;
      this.finish(project, job, failure('job_execution_timeout'));
    };
    this.#running.set(job.id, {
      silence: setTimeout(lost, silenceMs).unref(),
      deadline: setTimeout(late, job.spec.timeout * 1000 + graceMs).unref(),
    });
    this.#setStatus(project, job, 'running');
    startDeployment(this.#world, project, pipeline, job);
    this.refresh(project, pipeline);
  }

  /** The runner showed that it still works on the job. */
  touch(job: Job): void {
    this.#running.get(job.id)?.silence.refresh();
  }

  /** Whether a runner still holds the job, be it only to wind it down after a cancel. */
  isHeld(job: Job): boolean {
    return this.#running.has(job.id);
  }

  /** The runner is done. For a job canceled meanwhile this only frees what it held. */
  finish(project: Project, job: Job, result: JobResult): void {
    this.#letGo(job);
    const pipeline = project.pipelines.get(job.pipelineId);
    if (job.status !== 'running' || pipeline === undefined) return;
    const { spec } = job;
    if (result.status === 'failed' && spec.allowFailureExitCodes.includes(result.exitCode ?? -1)) {
      job.spec = { ...spec, allowFailure: true };
    }
    job.failureReason = result.status === 'failed' ? (result.failureReason ?? 'script_failure') : null;
    this.#end(project, pipeline, job, result.status);
    if (result.status === 'success' && spec.release !== null) this.#release(project, pipeline, spec.release);
    if (result.status === 'failed' && this.#mayRetry(project, job, result)) {
      this.addJob(project, pipeline, spec);
    } else if (
      result.status === 'failed' &&
      !job.spec.allowFailure &&
      this.record(pipeline).cancelOnFailure
    ) {
      this.cancelAll(project, pipeline);
    }
    this.progress(project, pipeline);
  }

  /** Cancels one job; a running one is told through its Job-Status and keeps its resource group until the runner let go. */
  cancel(project: Project, job: Job): void {
    const pipeline = project.pipelines.get(job.pipelineId);
    if (pipeline === undefined || isComplete(job.status)) return;
    job.cancelRequested = job.status === 'running';
    this.#queue.remove(job);
    this.#end(project, pipeline, job, 'canceled');
  }

  cancelAll(project: Project, pipeline: Pipeline): void {
    for (const job of this.latest(project, pipeline)) this.cancel(project, job);
    this.refresh(project, pipeline);
  }

  /** Puts a new job in the place of a finished one, and lets jobs that were skipped because of it wait again. */
  async retry(project: Project, job: Job): Promise<Job> {
    const pipeline = project.pipelines.get(job.pipelineId);
    if (pipeline === undefined) throw new Error(`job ${job.id} has no pipeline`);
    await this.keepCommit(project, pipeline, true);
    const again = this.addJob(project, pipeline, job.spec);
    for (const other of this.latest(project, pipeline)) {
      if (other.status === 'skipped') {
        other.finishedAt = null;
        this.#setStatus(project, other, 'created');
      }
    }
    return again;
  }

  /**
   * Makes or removes the ref that keeps a pipeline's commit within reach while its branch moves on, as GitLab does. One change
   * after the other, so that a retry is not overtaken by the end before it.
   */
  keepCommit(project: Project, pipeline: Pipeline, keep: boolean): Promise<void> {
    const repository = this.#compiler.repositoryOf(project);
    const ref = `refs/pipelines/${pipeline.id}`;
    const before = this.#refs.get(pipeline.id) ?? Promise.resolve();
    const change = before
      .catch(() => {})
      .then(() => {
        if (keep) return repository.updateRef(ref, pipeline.sha);
        return isComplete(pipeline.status) ? repository.deleteRef(ref) : undefined;
      });
    this.#refs.set(pipeline.id, change);
    return change;
  }

  /** Variables given when a manual job was started. */
  give(job: Job, variables: { key: string; value: string }[]): void {
    this.#given.set(job.id, variables);
  }

  /** The jobs a job builds on, and its variables, weakest first. */
  inputsOf(
    project: Project,
    pipeline: Pipeline,
    job: Job,
  ): { upstream: Job[]; variables: PayloadVariable[] } {
    const upstream = dependenciesOf(job, this.latest(project, pipeline), pipeline.stages);
    const secret = this.#compiler.variablesFor(project, pipeline, job.spec.environment?.name ?? null);
    const given = [...pipeline.variables, ...(this.#given.get(job.id) ?? [])];
    const facts = this.record(pipeline);
    return {
      upstream,
      variables: payloadVariables(this.#world, project, pipeline, job, facts, secret, given, upstream),
    };
  }

  /** Lets work go on that nobody waits for; {@link close} does. */
  background(work: Promise<void>): void {
    const settled = work
      .catch(() => {})
      .finally(() => {
        this.#background.delete(settled);
      });
    this.#background.add(settled);
  }

  async close(): Promise<void> {
    for (const { silence, deadline } of this.#running.values()) {
      clearTimeout(silence);
      clearTimeout(deadline);
    }
    this.#running.clear();
    await Promise.all(this.#background);
  }

  #setStatus(project: Project, job: Job, status: JobStatus): void {
    job.status = status;
    announce(this.#world, { kind: 'job', project, job });
  }

  #end(project: Project, pipeline: Pipeline, job: Job, status: JobStatus): void {
    job.finishedAt = new Date().toISOString();
    this.#setStatus(project, job, status);
    const values = payloadValues([
      ...this.inputsOf(project, pipeline, job).variables,
      ...Object.entries(job.dotenv).map(([key, value]) => ({
        key,
        value,
        public: true,
        masked: false,
        raw: true,
      })),
    ]);
    finishDeployment(this.#world, project, job, values);
  }

  #letGo(job: Job): void {
    const running = this.#running.get(job.id);
    if (running === undefined) return;
    clearTimeout(running.silence);
    clearTimeout(running.deadline);
    this.#running.delete(job.id);
    this.#queue.release(job);
  }

  #mayRetry(project: Project, job: Job, result: JobResult): boolean {
    const { retry, retryWhen, retryExitCodes, name } = job.spec;
    const tries = [...project.jobs.values()].filter(
      (other) => other.pipelineId === job.pipelineId && other.spec.name === name,
    ).length;
    if (tries > retry) return false;
    if (retryExitCodes.length > 0) return retryExitCodes.includes(result.exitCode ?? -1);
    return retryWhen.includes('always') || retryWhen.includes(job.failureReason ?? '');
  }

  // What the release step of a runner would ask for; releases themselves are not part of the sandbox, their tags are.
  #release(project: Project, pipeline: Pipeline, release: NonNullable<JobSpec['release']>): void {
    const repository = this.#compiler.repositoryOf(project);
    const tag = `refs/tags/${release.tagName}`;
    this.background(
      repository.resolve(tag).then(async (known) => {
        if (known === null) await repository.updateRef(tag, release.ref ?? pipeline.sha);
      }),
    );
  }
}

function failure(reason: string): JobResult {
  return { status: 'failed', failureReason: reason, exitCode: null };
}
