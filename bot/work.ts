import type { Logger } from 'pino';
import { type Database, describeError, type Project, UpstreamError } from '../src/index.ts';
import { convergeChange } from './converge.ts';
import { proposeNews } from './data-news.ts';
import { keepDrift } from './drift.ts';
import { queueSeekers } from './elsewhere.ts';
import { handleComment } from './handle.ts';
import { importIndex } from './import.ts';
import { maskError } from './mask.ts';
import { convergeQueue } from './merge-queue.ts';
import type { BotMetrics } from './metrics.ts';
import { deliverEvent, type NotifySettings, noChannels } from './notify.ts';
import { convergeBranch } from './promote.ts';
import { projectAt } from './read.ts';
import { releasePrefix } from './release.ts';
import { noteStanding } from './standing.ts';
import { convergePush } from './trigger.ts';
import { reportRecovery, reportTrouble } from './trouble.ts';
import type { BotContext, Task } from './types.ts';
import { queueWaiting } from './waiting.ts';

/** What the queue holds: a task, the trace it is part of (`traceparent`) and the webhook's delivery that led to it. */
export interface QueuedTask {
  task: Task;
  trace?: string;
  delivery?: string;
}

/** What doing a task needs besides the project. */
export interface WorkOptions {
  database: Database;
  /** The store keeps writers of the work zone out of the trusted one. */
  isolated: boolean;
  metrics: Pick<BotMetrics, 'tasks' | 'taskSeconds'>;
  /** How receivers of `notify:` are reached; absent: not at all. */
  notify?: NotifySettings | null;
  log: Pick<Logger, 'info' | 'warn' | 'error'>;
  /** Masks what errors say before it is kept or told; absent: nothing. */
  mask?: (text: string) => string;
}

/** Name of a project's tasks in the queue: a bot takes only those of its own projects, whoever else uses the database. */
export function taskName(project: string): string {
  return `converge ${project}`;
}

const letters = 'failed/';

/** Jobs of one change wait for each other; a waiting job that says the same is replaced. */
export function jobOf(project: string, task: Task): { queue: string; key: string } {
  switch (task.kind) {
    case 'change':
      return { queue: `${project} change:${task.change}`, key: `${project} change:${task.change}` };
    case 'comment':
      return {
        queue: `${project} change:${task.change}`,
        key: `${project} change:${task.change} comment:${task.comment}`,
      };
    case 'branch':
      return { queue: `${project} branch`, key: `${project} branch` };
    case 'push':
      return { queue: `${project} push:${task.branch}`, key: `${project} push:${task.branch}` };
    case 'queue':
      return { queue: `${project} queue:${task.branch}`, key: `${project} queue:${task.branch}` };
    case 'registry':
      return { queue: `${project} registry`, key: `${project} registry` };
    case 'drift':
      return { queue: `${project} drift`, key: `${project} drift` };
    case 'notify':
      // One at a time: receivers that do not answer keep one worker waiting, and no change.
      return {
        queue: `${project} notify`,
        key: `${project} notify:${task.change}:${task.event}:${task.sink}`,
      };
  }
}

/**
 * The task that {@link jobOf} gave this key for the project, or that looks after what failed by this name: a release is made
 * by the branch task. Null when there is none.
 */
export function taskOfKey(project: string, key: string): Task | null {
  if (key.startsWith(releasePrefix)) return { kind: 'branch' };
  if (!key.startsWith(`${project} `)) return null;
  const rest = key.slice(project.length + 1);
  if (rest === 'branch' || rest === 'drift' || rest === 'registry') return { kind: rest };
  if (rest.startsWith('push:')) return { kind: 'push', branch: rest.slice('push:'.length) };
  if (rest.startsWith('queue:')) return { kind: 'queue', branch: rest.slice('queue:'.length) };
  const told = /^notify:(\d+):(\w+):(\w+)$/.exec(rest);
  if (told) return { kind: 'notify', change: Number(told[1]), event: told[2]!, sink: told[3]! };
  const found = /^change:(\d+)(?: comment:(.+))?$/.exec(rest);
  if (!found) return null;
  const change = Number(found[1]);
  return found[2] === undefined ? { kind: 'change', change } : { kind: 'comment', change, comment: found[2] };
}

/** Name of the note about a task that failed for good: its dead letter. `project` is the one the task is of. */
export function letterOf(project: string, task: Task): string {
  return `${letters}${jobOf(project, task).key}`;
}

/** What failed for good and was not done since, as tasks. */
export async function deadTasks(context: Pick<BotContext, 'forge' | 'state'>): Promise<Task[]> {
  const { forge, state } = context;
  const tasks = (await state.cursors(letters)).map((name) =>
    taskOfKey(forge.project, name.slice(letters.length)),
  );
  return tasks.filter((task) => task !== null);
}

/** Data sets whose sources are polled and whose news are to be proposed. */
async function lookForNews(context: BotContext, { datasets }: Project): Promise<void> {
  const polled = Object.entries(datasets).flatMap(([name, { poll }]) => (poll?.propose ? [name] : []));
  if (polled.length > 0) await proposeNews(context, polled);
}

async function runTask(context: BotContext, task: Task, options: WorkOptions): Promise<void> {
  const { database, isolated, log } = options;
  switch (task.kind) {
    case 'change': {
      const done = await convergeChange(context, task.change, isolated);
      await noteStanding(context.state, task.change, done, context.now());
      const models = done.map(({ model, standing }) => ({ model, standing }));
      log.info({ task, models }, 'converged');
      return;
    }
    case 'comment':
      return handleComment(context, task.change, task.comment, isolated);
    case 'push':
      return convergePush(context, task.branch);
    case 'queue':
      return convergeQueue(context, task.branch);
    case 'registry':
      return queueSeekers(context);
    case 'drift':
      return keepDrift(context);
    case 'notify':
      return deliverEvent(context, task, options.notify ?? noChannels);
    case 'branch': {
      await convergeBranch(context);
      const tip = await context.mirror.head(await context.forge.defaultBranch());
      const read = tip ? await projectAt(context, tip) : null;
      if (read && 'project' in read) {
        await importIndex({ ...context, database }, read.project.project);
        await lookForNews(context, read.project);
      }
      await queueWaiting(context, tip ?? '');
    }
  }
}

/**
 * Does a task. Throws what is worth another try (UpstreamError, retryable), so that the queue repeats it; anything else is
 * kept as a dead letter, told once, and done again with the next event or reconcile.
 */
export async function doTask(
  project: string,
  context: BotContext,
  task: Task,
  options: WorkOptions,
): Promise<void> {
  const { metrics, log } = options;
  const began = performance.now();
  const count = (outcome: string) => {
    metrics.tasks.inc({ kind: task.kind, outcome });
    metrics.taskSeconds.observe({ kind: task.kind, outcome }, (performance.now() - began) / 1000);
  };
  const letter = letterOf(project, task);
  try {
    await runTask(context, task, options);
    count('done');
    if (await context.state.cursor(letter)) {
      if (task.kind === 'change') await reportRecovery(context, task.change);
      await context.state.setCursor(letter, '');
    }
  } catch (error) {
    // The store and mail servers are not asked by way of a port that does so.
    if (options.mask) maskError(error, options.mask);
    const { code, message } = describeError(error);
    // What another service could not do now is tried again; anything else would only fail the same way.
    const again = error instanceof UpstreamError && error.retryable;
    count(again ? 'retried' : 'failed');
    if (again) {
      log.warn({ project, task, code }, message);
      throw error;
    }
    // Told once: reconciling comes by again and again.
    const isKnown = (await context.state.cursor(letter)) === message;
    if (task.kind === 'change') {
      await reportTrouble(context, task.change, error).catch((second: unknown) => {
        if (isKnown) return;
        log.warn({ project, task }, `the trouble could not be told: ${describeError(second).message}`);
      });
    }
    if (isKnown) return;
    log.error({ project, task, code }, message);
    await context.state.setCursor(letter, message);
  }
}
