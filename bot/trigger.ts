import picomatch from 'picomatch';
import { z } from 'zod';
import type { Pipeline, Status, Trigger } from '../src/index.ts';
import { describeOverrun, overrunOf, spentJob } from './budget.ts';
import { projectAt } from './read.ts';
import type { BotContext } from './types.ts';

/** Name of the status that tells about a triggered run. */
export const triggerStatus = 'cdl/trigger';

/** Branches the bot makes itself, and those of GitHub's merge queue, whose commits were trained already. */
const own = /^(?:cdl[-/]|gh-readonly-queue\/)/;

/** The rule that a branch falls under; null for none, for the default branch, and for branches of the bot. Pure. */
export function triggerFor(
  triggers: readonly Trigger[],
  branch: string,
  defaultBranch: string,
): Trigger | null {
  if (branch === defaultBranch || own.test(branch)) return null;
  return triggers.find((one) => picomatch.isMatch(branch, one.branches, { nonegate: true })) ?? null;
}

const isBusy = (pipeline: Pipeline): boolean => pipeline.state === 'running' || pipeline.state === 'waiting';

const states: Record<Pipeline['state'], [Status['state'], string]> = {
  waiting: ['pending', 'training, asked for by triggers: of the default branch, waits for a runner'],
  running: ['running', 'training, asked for by triggers: of the default branch'],
  success: ['success', 'trained and registered; /register proposes it on a change'],
  skipped: ['success', 'nothing to train'],
  failed: ['failed', 'training failed'],
  canceled: ['failed', 'training was stopped'],
};

/** Name of the note that a triggered run of a branch is under way; says nothing once it is over. */
const underWay = 'under-way/';

const headsSchema = z.record(z.string(), z.string());

/**
 * Queues what no webhook told: branches that moved since the last look and that a rule is about, and those whose run was
 * under way. The first look only remembers where the branches are: what was pushed before the bot was there is history, as
 * it is for a rule that is new. May be killed and run again at any point. Throws UpstreamError and UserError.
 */
export async function findPushes(context: BotContext, heads: ReadonlyMap<string, string>): Promise<void> {
  const { forge, state, effects } = context;
  const before = await state.cursor('heads');
  const now = JSON.stringify(Object.fromEntries([...heads].sort()));
  const waiting = new Set((await state.cursors(underWay)).map((name) => name.slice(underWay.length)));
  if (before !== null && before !== now) {
    const seen = new Map(Object.entries(headsSchema.parse(JSON.parse(before))));
    const defaultBranch = await forge.defaultBranch();
    const tip = heads.get(defaultBranch);
    const read = tip ? await projectAt(context, tip) : null;
    const triggers = (read && 'project' in read ? read.project.triggers : null) ?? [];
    for (const [branch, commit] of heads) {
      if (seen.get(branch) !== commit && triggerFor(triggers, branch, defaultBranch)) waiting.add(branch);
    }
  }
  for (const branch of waiting) await effects.enqueue({ kind: 'push', branch });
  // Last: killed before, the same is found again.
  if (before !== now) await effects.setCursor('heads', now);
}

/** Notes what a run took; it counts for the day and for no change. */
async function noteJobs(context: BotContext, pipeline: Pipeline): Promise<void> {
  const jobs = (await context.forge.jobs(pipeline.id)).filter((job) => job.seconds > 0);
  if (jobs.length > 0) await context.effects.recordJobs(jobs.map((job) => spentJob(job, pipeline.id, 0)));
}

/** Notes whether a branch's run is under way, so that its end is found also when no webhook tells it. */
async function noteUnderWay({ state, effects }: BotContext, branch: string, run: Pipeline): Promise<void> {
  const name = `${underWay}${branch}`;
  const now = isBusy(run) ? run.id : '';
  if (((await state.cursor(name)) ?? '') !== now) await effects.setCursor(name, now);
}

/**
 * Starts what a push to a branch calls for by the rules of the default branch, stops what an earlier push started, and says
 * how it goes as a status of the commit. The default branch has the task `branch` queued instead: whoever took the delivery in
 * did not ask which one that is. A branch with an open change is left to the change's own pipeline. Forks have no
 * branches here. May be killed and run again at any point. Throws UpstreamError (try again later) and UserError.
 */
export async function convergePush(context: BotContext, branch: string): Promise<void> {
  const { forge, mirror, state, effects } = context;
  const defaultBranch = await forge.defaultBranch();
  const name = `trigger/${branch}`;
  const before = (await state.cursor(name)) ?? '';
  if (branch === defaultBranch) {
    await effects.enqueue({ kind: 'branch' });
    // What was started before it became the default branch is brought to its end below.
    if (before === '') return;
  }
  const tip = await mirror.head(defaultBranch);
  const read = tip ? await projectAt(context, tip) : null;
  if (!read || 'problem' in read) return;
  const { triggers, budgets } = read.project;
  const rule = triggerFor(triggers ?? [], branch, defaultBranch);
  if (!rule && before === '') return;
  const head = await mirror.head(branch);
  const last = before === '' ? null : await forge.getPipeline(before);
  if (last && isBusy(last) && last.sha !== head) await effects.cancelEvaluation(last.id);
  if (!rule || !head) {
    await effects.setCursor(`${underWay}${branch}`, '');
    return;
  }
  const isProposed = (await forge.listChanges({ state: 'open' })).some(
    (change) => !change.fork && change.sourceBranch === branch,
  );
  if (isProposed) {
    await effects.setCursor(`${underWay}${branch}`, '');
    return;
  }
  // A run that was started before a kill, or by a person, is the run.
  const there =
    last?.sha === head ? last : (await forge.branchPipelines(branch)).find((one) => one.sha === head);
  const status = { name: triggerStatus, url: there?.url ?? null, pipeline: null };
  if (there) {
    await effects.setCursor(name, there.id);
    await noteUnderWay(context, branch, there);
    await noteJobs(context, there);
    const [now, description] = states[there.state];
    return effects.status(head, { ...status, state: now, description });
  }
  const since = new Date(context.now().getTime() - 24 * 3600_000).toISOString();
  const over = budgets
    ? overrunOf({ ...budgets, change: {} }, 0, await state.jobsSince(since), context.now())
    : null;
  if (over) {
    return effects.status(head, { ...status, state: 'failed', description: describeOverrun(over) });
  }
  const made = await effects.startTriggered(branch, { cdl_task: rule.task });
  await effects.setCursor(name, made.id);
  await noteUnderWay(context, branch, made);
  const [now, description] = states[made.state];
  await effects.status(head, { ...status, url: made.url, state: now, description });
}
