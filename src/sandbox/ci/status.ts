import type { Job, JobStatus, PipelineStatus } from '../state.ts';

const complete = new Set<JobStatus>(['success', 'failed', 'canceled', 'skipped']);

/** Whether a status is final. */
export function isComplete(status: JobStatus): boolean {
  return complete.has(status);
}

type Part = Pick<Job, 'status'> & { spec: Pick<Job['spec'], 'allowFailure'> };

/**
 * The status of several jobs together (lib/gitlab/ci/status/composite.rb). A job that may fail counts as success when it failed
 * and as ignored while nobody started it. With `dag`, one that did not run at all makes the whole `skipped`.
 */
export function compositeStatus(jobs: readonly Part[], dag: boolean): PipelineStatus {
  const found = new Set(
    jobs.map(({ status, spec }) => {
      if (spec.allowFailure && (status === 'failed' || status === 'canceled')) return 'success';
      if (spec.allowFailure && status === 'manual') return 'ignored';
      return status;
    }),
  );
  const only = (...allowed: string[]): boolean => [...found].every((status) => allowed.includes(status));
  if (dag && (found.has('skipped') || found.has('ignored'))) return 'skipped';
  if (dag && !only('success', 'failed', 'canceled', 'skipped')) return 'pending';
  if (found.size === 0) return 'success';
  if (only('skipped', 'ignored')) return 'skipped';
  if (only('success', 'skipped', 'ignored')) return 'success';
  if (only('success', 'skipped', 'ignored', 'canceled')) return 'canceled';
  if (only('created', 'skipped')) return 'created';
  if (only('created', 'skipped', 'ignored', 'pending')) return 'pending';
  if (found.has('running') || found.has('pending')) return 'running';
  if (found.has('manual')) return 'manual';
  if (found.has('created')) return 'running';
  return 'failed';
}

/**
 * What becomes of the jobs that still wait, in one round: those whose predecessors are complete start, are offered (manual) or
 * are skipped. `latest` holds each job once, without the ones that were retried (app/services/ci/process_build_service.rb).
 */
export function nextStatuses(
  latest: readonly Job[],
  stages: readonly string[],
): { job: Job; status: 'pending' | 'manual' | 'skipped' }[] {
  const byName = new Map(latest.map((job) => [job.spec.name, job]));
  const moves: { job: Job; status: 'pending' | 'manual' | 'skipped' }[] = [];
  for (const job of latest) {
    if (job.status !== 'created') continue;
    const { needs, when, stage } = job.spec;
    const before =
      needs === null
        ? latest.filter((other) => stages.indexOf(other.spec.stage) < stages.indexOf(stage))
        : needs.flatMap((need) => byName.get(need.job) ?? []);
    const status = before.length === 0 ? 'success' : compositeStatus(before, needs !== null);
    if (!isComplete(status)) continue;
    const allowed = {
      on_success: needs === null ? ['success', 'skipped'] : ['success'],
      manual: needs === null ? ['success', 'skipped'] : ['success'],
      on_failure: ['failed'],
      always: ['success', 'failed', 'skipped'],
    }[when];
    if (!allowed.includes(status)) moves.push({ job, status: 'skipped' });
    else moves.push({ job, status: when === 'manual' ? 'manual' : 'pending' });
  }
  return moves;
}
