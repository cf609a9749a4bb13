import {
  claimInfo,
  createEntry,
  type Decision,
  type Digest,
  escapeInline,
  type LiveState,
  type Lock,
  type LockEntry,
  lockEntry,
  renderLock,
  shortDigest,
  withEntry,
} from '../src/index.ts';
import { readClaim } from './claim.ts';
import { changeNumber } from './plan.ts';
import { lockAt, projectAt, readDecisions, readLive } from './read.ts';
import { releasePromoted } from './release.ts';
import type { BotContext } from './types.ts';

/** What the live record and the decisions of an environment call for. */
export interface Promotion {
  decisions: Omit<Decision, 'seq' | 'prev' | 'time'>[];
  /** The candidate whose deployment was taken back and that the lock still names. */
  revert: { candidate: Digest; to: LiveState['current']; reason: string } | null;
  /** Numbers of the changes whose report has something new to say. */
  changes: number[];
}

function changesOf(decision: Decision): number[] {
  const number = changeNumber(decision);
  return number === null ? [] : [number];
}

const without = ({ seq: _seq, prev: _prev, time: _time, ...rest }: Decision) => rest;

/**
 * Approved and live, but not promoted yet → promoted. Approved and taken back after that → revoked once, and the lock is to
 * go back. Pure.
 */
export function planPromotion(
  decisions: readonly Decision[],
  live: LiveState | null,
  locked: LockEntry | null,
): Promotion {
  const plan: Promotion = { decisions: [], revert: null, changes: [] };
  const lastAbout = (one: { candidate: Digest; evaluation: Digest }) =>
    decisions.findLast((d) => d.candidate === one.candidate && d.evaluation === one.evaluation);
  if (live?.current) {
    const last = lastAbout(live.current);
    if (last?.decision === 'approved') {
      plan.decisions.push({ ...without(last), decision: 'promoted' });
      plan.changes.push(...changesOf(last));
    }
  }
  if (live?.transition) {
    const last = lastAbout(live.transition);
    if (last) plan.changes.push(...changesOf(last));
  }
  const { failed } = live ?? { failed: null };
  if (failed && failed.candidate !== live?.current?.candidate) {
    const last = lastAbout(failed);
    // An approval after the failure is a new try that has not been made yet.
    const isNews = last?.decision === 'approved' && Date.parse(last.time) <= Date.parse(failed.since);
    if (last && isNews) {
      plan.decisions.push({ ...without(last), decision: 'revoked' });
      plan.changes.push(...changesOf(last));
    }
    const wasRevoked = isNews || last?.decision === 'revoked';
    if (wasRevoked && locked?.candidate === failed.candidate) {
      plan.revert = { candidate: failed.candidate, to: live?.current ?? null, reason: failed.reason };
    }
  }
  return plan;
}

/** The entry that names what is live; null when nothing is, or it was not made by way of a change. */
async function entryOf(
  context: BotContext,
  live: NonNullable<LiveState['current']>,
): Promise<LockEntry | null> {
  const claim = await readClaim(context.trusted, live.candidate);
  if (!claim) return null;
  return createEntry(claim.candidate, live.evaluation, claimInfo(claim));
}

async function revert(
  context: BotContext,
  where: { model: string; environment: string; branch: string; tip: string; lock: Lock },
  wanted: NonNullable<Promotion['revert']>,
): Promise<void> {
  const { model, environment } = where;
  const entry = wanted.to ? await entryOf(context, wanted.to) : null;
  if (wanted.to && !entry) return;
  const short = shortDigest(wanted.candidate);
  const back = wanted.to ? `version ${wanted.to.version}` : 'nothing';
  await context.effects.openRevert({
    branch: `cdl/revert-${model}-${environment}-${short}`,
    from: where.tip,
    target: where.branch,
    lock: renderLock(withEntry(where.lock, model, environment, entry)),
    title: `revert(lock): ${model} in ${environment} back to ${back}`,
    description: [
      `The deployment of candidate ${short} was taken back: ${escapeInline(wanted.reason)}`,
      `${wanted.to ? `Version ${wanted.to.version} serves again.` : 'Nothing serves.'} Merging this makes the lock say so.`,
    ].join('\n\n'),
  });
}

/**
 * Brings decisions, lock and open changes in line with what is live. Throws UpstreamError (try again later) and UserError.
 */
export async function convergeBranch(context: BotContext): Promise<void> {
  const { forge, mirror, trusted, effects, state } = context;
  const branch = await forge.defaultBranch();
  const tip = await mirror.head(branch);
  if (!tip) return;
  const read = await projectAt(context, tip);
  if (!read || 'problem' in read) return;
  const { project } = read;
  const { lock, problem } = await lockAt(context, tip);
  let moved = false;
  const cursors: [string, string][] = [];
  for (const [model, config] of Object.entries(project.models)) {
    for (const environment of Object.keys(config.environments)) {
      const [live, { decisions }] = await Promise.all([
        readLive(trusted, project.project, model, environment),
        readDecisions(context, project.project, model, environment),
      ]);
      const plan = planPromotion(decisions, live, lockEntry(lock, model, environment));
      for (const decision of plan.decisions) await effects.appendDecision(decision);
      if (plan.revert && problem === null) {
        await revert(context, { model, environment, branch, tip, lock }, plan.revert);
      }
      const promoted = live?.current
        ? [...decisions, ...plan.decisions].findLast(
            (one) => one.candidate === live.current!.candidate && one.evaluation === live.current!.evaluation,
          )
        : undefined;
      if (promoted?.decision === 'promoted') {
        await releasePromoted(context, { model, environment, live: live!.current!, decision: promoted });
      }
      for (const change of plan.changes) await effects.enqueue({ kind: 'change', change });
      const name = `live/${model}/${environment}`;
      const now = live?.current?.candidate ?? 'nothing';
      const before = (await state.cursor(name)) ?? 'nothing';
      if (now !== before) {
        moved = true;
        cursors.push([name, now]);
      }
    }
  }
  if (!moved) return;
  // A new baseline is a new question for everybody else: old approvals do not carry over.
  for (const change of await forge.listChanges({ state: 'open' })) {
    await effects.enqueue({ kind: 'change', change: change.id });
  }
  for (const [name, value] of cursors) await effects.setCursor(name, value);
}
