import { type Digest, emptyLock, lockFile } from '../src/index.ts';
import { announce } from './announce.ts';
import { countButton, renderShown, shownCursor } from './button.ts';
import { botEmail } from './effects.ts';
import { proposeFound } from './elsewhere.ts';
import { readBackground } from './history.ts';
import { isLockConflict } from './lock-merge.ts';
import { renderReturn, returnCursor } from './places.ts';
import { type ChangePlan, planChange } from './plan.ts';
import { isQuiet, noteReport, putAside } from './quiet.ts';
import { type ReadChange, readChange } from './read.ts';
import { buildReport, reportKey } from './report.ts';
import { enforceBudget } from './spending.ts';
import { endStatuses, sayStatus } from './status-writer.ts';
import type { BotContext, Facts } from './types.ts';
import { takeBackUnreadable, tellUnreadable } from './unreadable.ts';
import { askingCursor } from './waiting.ts';

/** What was done for one model, for the log and for tests. */
export interface Converged {
  model: string;
  environment: string;
  standing: ChangePlan['standing']['kind'];
  status: ChangePlan['status'];
  /** Whether the change is open, and neither merged nor closed. */
  isOpen: boolean;
}

/** Stops the evaluation of an earlier state of the change: its answer would be about something nobody proposes any more. */
async function cancelSuperseded(context: BotContext, facts: Facts): Promise<void> {
  const { state, effects, forge } = context;
  const name = askingCursor(facts.change.id, facts.model, facts.environment);
  const asking = facts.answer ? '' : (facts.question ?? '');
  const before = (await state.cursor(name)) ?? '';
  if (before === asking) return;
  // While a new head's pipeline runs there is no question yet; the old one stays on the list until there is.
  if (asking === '' && !facts.answer) return;
  const run = before === '' || before === facts.question ? null : await state.evaluationRun(before as Digest);
  const pipeline = run ? await forge.getPipeline(run.pipeline) : null;
  if (pipeline && (pipeline.state === 'running' || pipeline.state === 'waiting')) {
    await effects.cancelEvaluation(pipeline.id);
  }
  await effects.setCursor(name, asking);
}

/**
 * Merges the default branch into a change whose cdl.lock git could not merge with it, entry by entry. True when the branch
 * has a new head then. Drafts and paused changes are somebody's desk.
 */
async function resolveLock(context: BotContext, read: ReadChange): Promise<boolean> {
  if (read.kind !== 'read' || read.change.state !== 'open' || read.change.draft) return false;
  if (read.models.some((facts) => facts.paused !== null)) return false;
  const { sourceBranch, targetBranch, head } = read.change;
  if (!(await isLockConflict(context, head, read.tip))) return false;
  const done = await context.effects.mergeLock(sourceBranch, targetBranch);
  return done === 'pushed';
}

async function apply(context: BotContext, facts: Facts, plan: ChangePlan): Promise<void> {
  const { effects } = context;
  const { change, claim, model } = facts;
  const { returns, paused } = facts;
  if (paused && change.state === 'open') return sayStatus(context, change, plan.status);
  if (returns && change.state === 'open') {
    await effects.setCursor(returnCursor(change.id), renderReturn({ ...facts, returns }));
  }
  if (plan.record && claim.kind === 'verified') await effects.recordCandidate(claim.digest, claim.claim);
  if (plan.evaluate) {
    await effects.startEvaluation({ ...plan.evaluate, head: change.head });
  }
  // First the decision, then the words about it: nobody reads "approved" before it is.
  if (plan.decision) await effects.appendDecision(plan.decision);
  await cancelSuperseded(context, facts);
  const background = await readBackground(context, facts);
  if (isQuiet(change)) await putAside(context, facts);
  else {
    await noteReport(context, facts);
    const shownAt = await effects.comment(change.id, reportKey(facts), buildReport(facts, plan, background));
    if (change.state === 'open' && facts.review && facts.rules?.project.approvals.forge_button) {
      const name = shownCursor(facts);
      const before = await context.state.cursor(name);
      await effects.setCursor(name, renderShown(facts.review, change.head, before, shownAt));
    }
  }
  await sayStatus(context, change, plan.status);
  if (plan.lock) {
    const self = await context.forge.self();
    const result = await effects.commitLock({
      branch: change.sourceBranch,
      parent: change.head,
      files: { [lockFile]: plan.lock.text },
      message: `chore(lock): ${model} version ${plan.lock.entry.info.version}\n\nCandidate ${plan.lock.entry.candidate}\n`,
      author: { name: self.name, email: botEmail(self.username) },
    });
    // Somebody pushed meanwhile, or the new head wants its status: look again.
    if (result !== 'same') await effects.enqueue({ kind: 'change', change: change.id });
  }
}

/**
 * Brings a change to where it should be: record, evaluation, decision, report, status and lock. Reads everything fresh,
 * plans purely and may be killed and run again at any point. Throws UpstreamError (try again later) and UserError.
 */
export async function convergeChange(
  context: BotContext,
  id: number,
  isolated: boolean,
): Promise<Converged[]> {
  let read = await readChange(context, id, isolated);
  if (read.kind === 'read' && (await countButton(context, read)))
    read = await readChange(context, id, isolated);
  if (await proposeFound(context, read)) read = await readChange(context, id, isolated);
  if (await resolveLock(context, read)) read = await readChange(context, id, isolated);
  if (read.kind === 'ignored') {
    await endStatuses(context, id);
    return [];
  }
  if (read.kind === 'unreadable') {
    await tellUnreadable(context, read);
    return [];
  }
  await takeBackUnreadable(context, read.change);
  await enforceBudget(context, { ...read, branch: read.defaultBranch });
  const done: Converged[] = [];
  let committed = false;
  for (const facts of read.models) {
    const plan = planChange(facts, read.base ?? emptyLock);
    // One lock commit at a time: the next model's would not be on top of the head that was read.
    const now: ChangePlan = committed ? { ...plan, lock: null } : plan;
    await apply(context, facts, now);
    await announce(context, facts, read.rules?.notify ?? []);
    committed ||= now.lock !== null;
    const { model, environment } = facts;
    const isOpen = read.change.state === 'open';
    done.push({ model, environment, standing: plan.standing.kind, status: plan.status, isOpen });
  }
  return done;
}
