import type { Budgets, Job } from '../src/index.ts';

/** What one job took. */
export interface SpentJob {
  job: string;
  pipeline: string;
  change: number;
  name: string;
  seconds: number;
  /** The runner it asked for has a GPU, by its tags. */
  gpu: boolean;
  /** ISO 8601; null while it runs. */
  endedAt: string | null;
}

/** What jobs took together, in seconds. */
export interface Spent {
  gpuSeconds: number;
  jobSeconds: number;
}

/** A budget that is used up. `used` and `limit` in seconds; `frees` in ISO 8601, null when only a higher limit helps. */
export interface Overrun {
  scope: 'change' | 'day';
  unit: 'gpu_seconds' | 'job_seconds';
  used: number;
  limit: number;
  frees: string | null;
}

/** A change's jobs, and the budget that they or all jobs of a day have used up. */
export interface Spending {
  /** Of the jobs that have ended. */
  spent: Spent;
  over: Overrun | null;
  /** Jobs that are not in the table yet, or stand there otherwise. */
  fresh: SpentJob[];
}

const day = 24 * 3600_000;

/** Whether a runner that is asked for has a GPU: one of its tags has the word in it (`gpu`, `saas-linux-gpu-t4`, `GPU:2`). */
export function asksForGpu(tags: readonly string[]): boolean {
  return tags.some((tag) => /(^|[^a-z])gpus?([^a-z]|$)/i.test(tag));
}

/** A job as it is kept. */
export function spentJob(job: Job, pipeline: string, change: number): SpentJob {
  const { id, name, seconds, endedAt, tags } = job;
  return { job: id, pipeline, change, name, seconds, gpu: asksForGpu(tags), endedAt };
}

/** The sum over jobs. */
export function sumOf(jobs: readonly SpentJob[]): Spent {
  let [gpuSeconds, jobSeconds] = [0, 0];
  for (const { seconds, gpu } of jobs) {
    jobSeconds += seconds;
    if (gpu) gpuSeconds += seconds;
  }
  return { gpuSeconds, jobSeconds };
}

const used = (spent: Spent, unit: Overrun['unit']): number =>
  unit === 'gpu_seconds' ? spent.gpuSeconds : spent.jobSeconds;

/** When enough of the jobs will be more than a day ago, in ISO 8601; null when the ones that run already are too much. */
function freesAt(jobs: readonly SpentJob[], unit: Overrun['unit'], limit: number): string | null {
  const counting = jobs.filter((job) => unit === 'job_seconds' || job.gpu);
  const ended = counting
    .flatMap((job) => (job.endedAt === null ? [] : [{ at: Date.parse(job.endedAt), seconds: job.seconds }]))
    .sort((a, b) => a.at - b.at);
  let left = counting.reduce((sum, job) => sum + job.seconds, 0);
  for (const { at, seconds } of ended) {
    left -= seconds;
    if (left < limit) return new Date(at + day).toISOString();
  }
  return null;
}

/**
 * The first budget that is used up: of the change, then of the day. `jobs` are those of the change and those of everybody
 * that ran in the last day; what ended earlier counts for its change alone. Pure.
 */
export function overrunOf(
  budgets: Budgets | undefined,
  change: number,
  jobs: readonly SpentJob[],
  now: Date,
): Overrun | null {
  if (!budgets) return null;
  const since = now.getTime() - day;
  const groups = {
    change: jobs.filter((job) => job.change === change),
    day: jobs.filter((job) => job.endedAt === null || Date.parse(job.endedAt) > since),
  };
  for (const scope of ['change', 'day'] as const) {
    const spent = sumOf(groups[scope]);
    for (const unit of ['gpu_seconds', 'job_seconds'] as const) {
      const limit = budgets[scope][unit];
      if (limit === undefined || used(spent, unit) < limit) continue;
      const frees = scope === 'day' ? freesAt(groups.day, unit, limit) : null;
      return { scope, unit, used: used(spent, unit), limit, frees };
    }
  }
  return null;
}

/** Stored jobs with the fresh ones in their place. */
export function mergeJobs(stored: readonly SpentJob[], fresh: readonly SpentJob[]): SpentJob[] {
  return [...new Map([...stored, ...fresh].map((job) => [job.job, job])).values()];
}

/** Seconds as people say them: `95 s`, `12 min`, `3.5 h`. */
export function duration(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** An overrun in one line. */
export function describeOverrun({ scope, unit, limit }: Overrun): string {
  const what = unit === 'gpu_seconds' ? 'GPU time' : 'job time';
  return scope === 'change'
    ? `this change has used up its ${what} (${duration(limit)})`
    : `the ${what} of a day (${duration(limit)}) is used up`;
}
