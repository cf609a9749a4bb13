import type { Job } from '../state.ts';

/** A runner the sandbox knows. `access` says which refs it serves: like GitLab's protected runners, but apart in both directions. */
export interface RunnerRegistration {
  token: string;
  description: string;
  access: 'any' | 'untrusted' | 'protected';
  tags: readonly string[];
  runUntagged: boolean;
}

/** A pending job and what decides who may take it. */
export interface Waiting {
  job: Job;
  protectedRef: boolean;
  /** Resource groups are per project; null = none. */
  group: string | null;
}

/** Whether a runner may take a job: all tags present, and the ref of the runner's kind (doc: ci/runners, "protected runners"). */
export function mayTake(runner: RunnerRegistration, waiting: Waiting): boolean {
  if (runner.access === 'untrusted' && waiting.protectedRef) return false;
  if (runner.access === 'protected' && !waiting.protectedRef) return false;
  const { tags } = waiting.job.spec;
  return tags.length === 0 ? runner.runUntagged : tags.every((tag) => runner.tags.includes(tag));
}

interface Asking {
  runner: RunnerRegistration;
  answer(waiting: Waiting | null): void;
}

/** Pending jobs on one side, asking runners on the other. A resource group lets one job through at a time, the oldest first. */
export class JobQueue {
  readonly #waiting = new Map<number, Waiting>();
  readonly #asking = new Set<Asking>();
  readonly #busy = new Map<string, number>();

  add(waiting: Waiting): void {
    this.#waiting.set(waiting.job.id, waiting);
    this.#match();
  }

  remove(job: Job): void {
    this.#waiting.delete(job.id);
    this.#match();
  }

  /** Frees the resource group a job held. */
  release(job: Job): void {
    for (const [group, holder] of this.#busy) if (holder === job.id) this.#busy.delete(group);
    this.#match();
  }

  /** The next job for a runner; null when none came within `holdMs` or the runner went away. */
  take(runner: RunnerRegistration, holdMs: number, signal: AbortSignal): Promise<Waiting | null> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => asking.answer(null), holdMs);
      const leave = (): void => asking.answer(null);
      const asking: Asking = {
        runner,
        answer: (waiting) => {
          clearTimeout(timer);
          signal.removeEventListener('abort', leave);
          this.#asking.delete(asking);
          resolve(waiting);
        },
      };
      if (signal.aborted) return asking.answer(null);
      signal.addEventListener('abort', leave, { once: true });
      this.#asking.add(asking);
      this.#match();
    });
  }

  /** Sends all asking runners away. */
  close(): void {
    for (const asking of [...this.#asking]) asking.answer(null);
  }

  #match(): void {
    const ordered = [...this.#waiting.values()].sort((one, other) => one.job.id - other.job.id);
    const passed = new Set<string>();
    for (const waiting of ordered) {
      const { group, job } = waiting;
      if (group !== null && (this.#busy.has(group) || passed.has(group))) continue;
      const asking = [...this.#asking].find((one) => mayTake(one.runner, waiting));
      if (asking === undefined) {
        // Younger jobs of the group must not overtake it.
        if (group !== null) passed.add(group);
        continue;
      }
      this.#waiting.delete(job.id);
      if (group !== null) this.#busy.set(group, job.id);
      asking.answer(waiting);
    }
  }
}
