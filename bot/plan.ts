import {
  type Change,
  claimInfo,
  createEntry,
  type Decision,
  type Digest,
  digestJson,
  emptyLock,
  type Lock,
  type LockEntry,
  parseLock,
  plural,
  policyDigest,
  renderLock,
  requiredApprovals,
  type Status,
  withEntry,
} from '../src/index.ts';
import { describeOverrun } from './budget.ts';
import { approveDataLine, isDataOpen } from './data-approval.ts';
import { countingApprovals, missingText, quorumOf } from './quorum.ts';
import type { Approval, DataFacts, Facts } from './types.ts';

/** Where one model of a change stands: the first that applies, in this order. */
export type Standing =
  | { kind: 'fork' }
  | { kind: 'new-model' }
  /** Puts back what ran before: was judged then, needs no pipeline and no approval now. */
  | { kind: 'return'; candidate: Digest | null; version: number | null }
  | { kind: 'waiting' }
  | { kind: 'broken' }
  | { kind: 'unclaimed' }
  | { kind: 'wrong'; problems: string[] }
  | { kind: 'unchanged' }
  | { kind: 'evaluating' }
  | { kind: 'unanswered' }
  | { kind: 'judged'; gateOpen: boolean; approved: Decision | null; enough: boolean };

/** What to do about it, besides the report. Data; `apply` carries it out in this order. */
export interface ChangePlan {
  standing: Standing;
  status: Status;
  /** Hand the verified candidate to the evaluator. */
  record: boolean;
  /** Start this pipeline to have the question answered. */
  evaluate: { ref: string; question: Digest; inputs: Record<string, string> } | null;
  /** The lock the branch shall hold; null when it holds it already, or none is due. */
  lock: { text: string; entry: LockEntry } | null;
  decision: Omit<Decision, 'seq' | 'prev' | 'time'> | null;
}

/** The decision that stands for what is reviewed now: approved for exactly this, and not revoked since. */
export function standingApproval(facts: Facts): Decision | null {
  const { answer, claim, plan } = facts;
  if (claim.kind !== 'verified' || !answer || !plan) return null;
  const about = facts.decisions.filter(
    (one) => one.candidate === claim.digest && one.evaluation === answer.digest,
  );
  const last = about.findLast((one) => one.decision !== 'promoted');
  return last?.decision === 'approved' && last.plan === plan.digest && last.baseline === plan.from
    ? last
    : null;
}

/**
 * Whether somebody approved before a deployment of just that was taken back. What they saw did not hold: it takes a new word.
 * A decision that was withdrawn because of who decided names nobody, and leaves the approvals as they are.
 */
export function isOverruled(
  approval: Pick<Approval, 'at'>,
  decisions: readonly Decision[],
  about: Pick<Decision, 'candidate' | 'evaluation'>,
): boolean {
  return decisions.some(
    (one) =>
      one.decision === 'revoked' &&
      one.approvers.length > 0 &&
      one.candidate === about.candidate &&
      one.evaluation === about.evaluation &&
      Date.parse(approval.at) <= Date.parse(one.time),
  );
}

function judged(facts: Facts): Standing {
  const signed = standingApproval(facts);
  const approved = signed && !withdrawalOf(facts, signed) ? signed : null;
  const enough = isDataOpen(facts) && (approved !== null || quorumOf(facts).missing.length === 0);
  const passed = facts.answer!.evaluation.verdict !== 'fail';
  return { kind: 'judged', gateOpen: passed || enough, approved, enough };
}

/** Where a model of a change stands. Pure. */
export function standingOf(facts: Facts): Standing {
  const { claim, pipeline } = facts;
  if (facts.change.fork) return { kind: 'fork' };
  if (!facts.rules) return { kind: 'new-model' };
  if (facts.returns) return { kind: 'return', ...facts.returns };
  const failed = pipeline?.state === 'failed' || pipeline?.state === 'canceled';
  // What was registered elsewhere does not wait for this pipeline, nor fail with it.
  const isElsewhere = claim.kind === 'verified' && claim.source === 'registry';
  if (failed && facts.change.state === 'open' && !isElsewhere) return { kind: 'broken' };
  if (claim.kind === 'none') {
    return pipeline?.state === 'success' || pipeline?.state === 'skipped'
      ? { kind: 'unclaimed' }
      : { kind: 'waiting' };
  }
  if (claim.kind === 'wrong') return { kind: 'wrong', problems: claim.problems };
  const isLive = facts.live?.current?.candidate === claim.digest;
  if (isLive && facts.lock.base?.candidate === claim.digest && facts.change.state === 'open') {
    return { kind: 'unchanged' };
  }
  if (facts.answer) return judged(facts);
  const { run } = facts;
  const over = run && run.state !== 'running' && run.state !== 'waiting';
  // A finished run without an answer is not asked again until somebody pushes.
  return over && run.head === facts.change.head ? { kind: 'unanswered' } : { kind: 'evaluating' };
}

/** Whether the head's lock says anything else about this model than the default branch's (also version, run or what a search found), or cannot be read. */
export function isLockEdited(facts: Facts): boolean {
  const { problem, head, base } = facts.lock;
  return problem !== null || digestJson(head) !== digestJson(base);
}

/** Where a change waits for jobs, which a used-up budget keeps from running. */
export const budgetBound: ReadonlySet<Standing['kind']> = new Set([
  'waiting',
  'broken',
  'unclaimed',
  'evaluating',
  'unanswered',
]);

function dataStatus(data: DataFacts): Pick<Status, 'state' | 'description'> {
  if (data.refused) return { state: 'failed', description: `the data cannot be approved: ${data.refused}` };
  const have = `${data.approvals.length} of ${data.required}`;
  return {
    state: 'pending',
    description: `waiting for approval of the data (${have}): ${approveDataLine(data)}`,
  };
}

/** Where one role approves, how many of it did; where several do, who is missing. */
function waitingText(facts: Facts): string {
  const quorum = quorumOf(facts);
  const isOneRole = requiredApprovals(facts.rules!.project.approvals).length === 1;
  const have = `${quorum.seated.size} of ${plural(quorum.needed, 'approval')}`;
  return `waiting for approval (${have}${isOneRole ? '' : `; missing: ${missingText(quorum)}`})`;
}

function statusOf(facts: Facts, standing: Standing): Pick<Status, 'state' | 'description'> {
  if (facts.rejection && facts.change.state === 'open') {
    const { step, reason } = facts.rejection;
    return { state: 'failed', description: `sent back to ${step}: ${reason}` };
  }
  if (facts.paused && facts.change.state === 'open') {
    return { state: 'pending', description: `paused by ${facts.paused}` };
  }
  const settled = standing.kind === 'new-model' || standing.kind === 'unchanged';
  if (settled && isLockEdited(facts)) {
    return {
      state: 'failed',
      description: 'cdl.lock was edited by hand: restore it from the default branch',
    };
  }
  const { over } = facts.spending;
  if (over && facts.change.state === 'open' && budgetBound.has(standing.kind)) {
    return {
      state: standing.kind === 'broken' ? 'failed' : 'pending',
      description: describeOverrun(over),
    };
  }
  switch (standing.kind) {
    case 'fork':
      return { state: 'pending', description: 'from a fork: nothing is evaluated here' };
    case 'new-model':
      return { state: 'success', description: 'new model: merging defines it, nothing is deployed' };
    case 'return':
      return {
        state: 'success',
        description:
          standing.version === null
            ? 'takes out what was taken back'
            : `back to version ${standing.version}, which ran here before`,
      };
    case 'waiting':
      return { state: 'pending', description: 'waiting for the pipeline' };
    case 'broken':
      return { state: 'failed', description: `failed: ${facts.pipeline?.failed[0]?.name ?? 'pipeline'}` };
    case 'unclaimed':
      return { state: 'failed', description: 'the pipeline registered no candidate' };
    case 'wrong':
      return { state: 'failed', description: 'the claim is not what the commit makes' };
    case 'unchanged':
      return { state: 'success', description: 'this candidate is live already' };
    case 'evaluating':
      return { state: 'pending', description: 'evaluation on the default branch is running' };
    case 'unanswered':
      return { state: 'failed', description: 'the evaluation pipeline failed' };
    case 'judged': {
      if (standing.approved) return { state: 'success', description: 'approved' };
      if (!standing.gateOpen) {
        const gate = facts.answer!.evaluation.gates.find((one) => one.status === 'fail');
        return { state: 'failed', description: `gate failed: ${gate?.name ?? 'see the report'}` };
      }
      if (facts.data && !isDataOpen(facts)) return dataStatus(facts.data);
      if (standing.enough) {
        return facts.change.draft
          ? { state: 'pending', description: 'approved; waiting because the change is a draft' }
          : { state: 'success', description: 'approved' };
      }
      return { state: 'pending', description: waitingText(facts) };
    }
  }
}

function readableLock(text: string): Lock {
  try {
    return parseLock(text);
  } catch {
    // Unreadable: the bot's entry replaces it whole. Other models' entries come back from the default branch on merge.
    return emptyLock;
  }
}

function lockOf(facts: Facts, standing: Standing, base: Lock): ChangePlan['lock'] {
  const { claim, answer, change } = facts;
  const due = standing.kind === 'judged' && standing.gateOpen && !facts.rejection && !facts.paused;
  if (!due || claim.kind !== 'verified' || !answer || change.draft || change.state !== 'open') return null;
  const entry = createEntry(claim.claim.candidate, answer.digest, claimInfo(claim.claim));
  const current = facts.lock.problem === null ? readableLock(facts.lock.text) : base;
  const text = renderLock(withEntry(current, facts.model, facts.environment, entry));
  return text === facts.lock.text ? null : { text, entry };
}

/**
 * Takes an approval back that would not be given now: somebody sent the change back, the rules about who decides are
 * others, who approved may no longer, or the data has no approval (any more). Not for a merged change: what is live is taken back by a change of its own.
 */
function withdrawalOf(facts: Facts, approved: Decision): ChangePlan['decision'] {
  if (facts.change.state !== 'open') return null;
  const policy = policyDigest(facts.rules!.project);
  const gone = approved.approvers.some(
    ({ id }) =>
      facts.lapsed.some(({ approval }) => approval.userId === id) ||
      (facts.withdrawn.includes(id) && !facts.approvals.some((one) => one.userId === id)),
  );
  const short = quorumOf(facts).missing.length > 0;
  if (!facts.rejection && approved.policy === policy && !(gone && short) && isDataOpen(facts)) return null;
  const { seq: _seq, prev: _prev, time: _time, override: _override, ...said } = approved;
  return { ...said, decision: 'revoked', approvers: [], policy, change: facts.change.reference };
}

function decisionOf(facts: Facts, standing: Standing): ChangePlan['decision'] {
  const { claim, answer, plan, change, rules } = facts;
  if (standing.kind !== 'judged' || facts.paused) return null;
  const signed = standingApproval(facts);
  const withdrawal = signed && withdrawalOf(facts, signed);
  if (withdrawal) return withdrawal;
  if (standing.approved || !standing.enough || facts.rejection) return null;
  if (claim.kind !== 'verified' || !answer || !plan || !rules || change.draft || change.state === 'closed') {
    return null;
  }
  const counting = countingApprovals(facts);
  const reasons = [...new Set(counting.flatMap((one) => (one.override ? [one.override] : [])))];
  const overruled = answer.evaluation.verdict === 'fail';
  const { seated } = quorumOf(facts);
  return {
    candidate: claim.digest,
    evaluation: answer.digest,
    project: facts.project,
    model: facts.model,
    environment: facts.environment,
    baseline: plan.from,
    plan: plan.digest,
    decision: 'approved',
    ...(overruled ? { override: { reason: reasons.join('; ') } } : {}),
    approvers: counting.map((one) => ({
      id: one.userId,
      name: one.username,
      role: seated.get(one) ?? one.roles[0] ?? one.role,
    })),
    policy: policyDigest(rules.project),
    change: change.reference,
  };
}

/** Whether a decision was taken in a change. Earlier versions wrote `!12` on GitHub, too. */
export function isTakenIn({ change }: { change: string }, { id, reference }: Change): boolean {
  return change === reference || change === `!${id}`;
}

/** The number of the change that a decision was taken in (`!12`, on GitHub `#12`); null for `system`. */
export function changeNumber({ change }: { change: string }): number | null {
  const number = /^[!#](\d+)$/.exec(change)?.[1];
  return number === undefined ? null : Number(number);
}

/** The name of the status of a model; of another environment than the first with its name. */
export function statusName(facts: Pick<Facts, 'model' | 'environment' | 'isFirst'>): string {
  return facts.isFirst ? `cdl/${facts.model}` : `cdl/${facts.model}/${facts.environment}`;
}

/** What to do about one model of a change. Pure: the same facts give the same plan, whatever was done before. */
export function planChange(facts: Facts, base: Lock = emptyLock): ChangePlan {
  const standing = standingOf(facts);
  const { change, claim, question, run } = facts;
  const isOpen = change.state === 'open';
  const asks =
    standing.kind === 'evaluating' &&
    isOpen &&
    !facts.paused &&
    claim.kind === 'verified' &&
    question &&
    run?.head !== change.head;
  const stillRunning = run && (run.state === 'running' || run.state === 'waiting');
  return {
    standing,
    status: {
      name: statusName(facts),
      ...statusOf(facts, standing),
      url: null,
      pipeline: facts.pipeline?.pipeline.id ?? null,
    },
    record: claim.kind === 'verified' && !claim.recorded && !facts.paused,
    evaluate:
      asks && !stillRunning && !facts.spending.over
        ? {
            ref: facts.defaultBranch,
            question,
            inputs: {
              cdl_task: 'evaluate',
              cdl_model: facts.model,
              cdl_environment: facts.environment,
              cdl_candidate: claim.digest,
              cdl_change: String(change.id),
              cdl_question: question,
            },
          }
        : null,
    lock: lockOf(facts, standing, base),
    decision: decisionOf(facts, standing),
  };
}
