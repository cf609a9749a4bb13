import { setTimeout as delay } from 'node:timers/promises';
import { UpstreamError, UserError } from '../core/error.ts';
import type { Forge, Job, Pipeline, PipelineState } from '../forge/types.ts';
import type { CommandConsole } from './console.ts';
import { type LogLines, openLogLines } from './log-lines.ts';

/** A pipeline that has ended. */
export interface Followed {
  pipeline: Pipeline;
  jobs: Job[];
  /** Exit code of the pipeline: that of the first job that failed it. */
  exit: number;
}

/** How long is waited between two looks, in milliseconds: longer and longer while nothing happens. */
const look = { least: 500, most: 4000 };
/** How often a forge that does not answer is asked again before it is given up. */
const mostFailures = 20;

const hasEnded = (state: PipelineState) => !['waiting', 'running'].includes(state);

/** What the log of a job is known to say. */
interface Known {
  state: PipelineState;
  lines: LogLines;
  isRead: boolean;
  exit: number | null;
}

/**
 * The exit code of a pipeline: 0, 130 for one that was canceled, or what its first failed job ended with, as far as the log
 * tells; 75 for one that failed otherwise (a runner that went away, a timeout).
 */
export function exitOf(state: PipelineState, failed: readonly { exit: number | null }[]): number {
  if (state === 'success' || state === 'skipped') return 0;
  if (state === 'canceled') return 130;
  return failed[0]?.exit ?? 75;
}

/**
 * Shows the logs of a pipeline's jobs as they grow, each line with the job it is of, until the pipeline has ended. When the
 * signal stops it, the pipeline goes on. Throws UserError input-missing for no such pipeline, interrupted, and UpstreamError.
 */
export async function followPipeline(
  forge: Pick<Forge, 'getPipeline' | 'jobs' | 'jobLog'>,
  id: string,
  console: Pick<CommandConsole, 'log' | 'progress' | 'signal'>,
): Promise<Followed> {
  const { signal } = console;
  const known = new Map<string, Known>();
  let wait = look.least;
  for (let failures = 0; ; ) {
    wait = Math.min(look.most, wait * 1.5);
    const told: typeof console = {
      signal,
      progress: console.progress,
      log(line) {
        wait = look.least;
        console.log(line);
      },
    };
    try {
      const now = await lookOnce(forge, id, told, known);
      if (now) return now;
      failures = 0;
    } catch (error) {
      if (!signal.aborted) {
        const isPassing = error instanceof UpstreamError && error.retryable;
        if (!isPassing || ++failures > mostFailures) throw error;
        if (failures === 1) console.log(`${error.service}: ${error.message}; asking again`);
      }
    }
    if (!signal.aborted) await delay(wait, undefined, { signal }).catch(() => {});
    if (signal.aborted) {
      throw new UserError(
        'interrupted',
        `pipeline ${id} goes on; it is only not followed any more`,
        `cdl runs follow ${id} shows it again`,
      );
    }
  }
}

async function lookOnce(
  forge: Pick<Forge, 'getPipeline' | 'jobs' | 'jobLog'>,
  id: string,
  console: Pick<CommandConsole, 'log' | 'progress' | 'signal'>,
  known: Map<string, Known>,
): Promise<Followed | null> {
  // Before its jobs: when it has ended, they have.
  const pipeline = await forge.getPipeline(id);
  if (!pipeline) throw new UserError('input-missing', `${id} is no pipeline of this project`);
  const jobs = (await forge.jobs(id)).sort((a, b) => Number(a.id) - Number(b.id));
  for (const job of jobs) {
    let one = known.get(job.id);
    if (!one) {
      one = { state: 'waiting', lines: openLogLines(), isRead: false, exit: null };
      known.set(job.id, one);
    }
    if (one.state !== job.state) {
      const reason = job.state === 'failed' && job.reason ? ` (${job.reason})` : '';
      console.log(`${job.name}: ${job.state}${reason}`);
      one.state = job.state;
    }
    if (one.isRead || job.state === 'waiting' || job.state === 'skipped') continue;
    const bytes = await forge.jobLog(job.id, one.lines.size);
    const lines = bytes ? one.lines.push(bytes) : [];
    if (hasEnded(job.state)) {
      lines.push(...one.lines.end());
      one.isRead = true;
    }
    for (const line of lines) tell(console, job.name, line, one);
  }
  if (!hasEnded(pipeline.state)) return null;
  const failed = jobs.filter((job) => job.state === 'failed' && !job.optional);
  const exits = failed.map((job) => known.get(job.id)!);
  return { pipeline, jobs, exit: exitOf(pipeline.state, exits) };
}

function tell(
  console: Pick<CommandConsole, 'log' | 'progress'>,
  job: string,
  line: string,
  known: Known,
): void {
  // The runner's last words (gitlab-runner, common/build.go).
  const code = Number(/^ERROR: Job failed: exit (?:code|status) (\d{1,3})$/.exec(line)?.[1]);
  if (code >= 1 && code <= 255) known.exit = code;
  const [, label, share] = /^(.{1,200}): (\d{1,3}) %$/.exec(line) ?? [];
  if (label !== undefined) console.progress(`${job}: ${label}`, Math.min(1, Number(share) / 100));
  else console.log(`${job} │ ${line}`);
}
