import type { Change, Pipeline, PipelineState } from '../src/index.ts';
import { readFailures } from './failures.ts';
import type { HeadPipeline, Sources } from './types.ts';

/**
 * The state of a commit's jobs. Derived from the jobs and not from the pipeline: a status that the bot sets counts into
 * the pipeline, which then waits for the bot that waits for the pipeline.
 */
export async function readHeadPipeline(
  sources: Sources,
  change: Change,
): Promise<{ head: HeadPipeline | null; pipelines: Pipeline[] }> {
  const pipelines = await sources.forge.changePipelines(change.id);
  const pipeline = pipelines.find((one) => one.sha === change.head);
  if (!pipeline) return { head: null, pipelines };
  const jobs = await sources.forge.jobs(pipeline.id);
  const counting = jobs.filter((job) => !job.optional);
  const failed = counting.filter((job) => job.state === 'failed' || job.state === 'canceled');
  const busy = jobs.some((job) => job.state === 'running' || job.state === 'waiting');
  const state: PipelineState =
    jobs.length === 0 ? pipeline.state : failed.length > 0 ? 'failed' : busy ? 'running' : 'success';
  const said = await readFailures(sources.forge, failed);
  return { head: { pipeline, state, jobs, failed, said }, pipelines };
}

/** Evaluations that were started for a change and whose jobs are not all noted yet. */
export async function askedPipelines(sources: Sources, change: number): Promise<Pipeline[]> {
  const { forge, state } = sources;
  const [noted, started] = await Promise.all([state.jobsOf(change), state.pipelinesFor(change)]);
  const open = started.filter((id) => {
    const jobs = noted.filter((job) => job.pipeline === id);
    return jobs.length === 0 || jobs.some((job) => job.endedAt === null);
  });
  const found = await Promise.all(open.map((id) => forge.getPipeline(id)));
  return found.filter((one) => one !== null);
}
