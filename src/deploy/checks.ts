import { candidateDigest } from '../core/candidate.ts';
import type { DataDecision } from '../core/data-decision.ts';
import type { Decision } from '../core/decision.ts';
import type { Digest } from '../core/digest.ts';
import { shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { Evaluation } from '../core/evaluation.ts';
import type { LiveState } from '../core/live.ts';
import { entryCandidate, type LockEntry } from '../core/lock.ts';
import type { Plan } from './types.ts';

/** Something that was read and verified, or the UserError that reading it ended in. */
export type Read<T> = { kind: 'ok'; value: T } | { kind: 'failed'; error: UserError };

/** Everything a deployment is judged by, as read before anything is touched. */
export interface DeploymentFacts {
  project: string;
  model: string;
  environment: string;
  /** The ref this job runs on, and whether the forge says it is protected. */
  ref: { name: string; isProtected: boolean };
  /** The entry of this commit's lock (`parseLock`), null when it has none. */
  entry: Read<LockEntry | null>;
  /** The entry at the tip of the protected branch now; null when it has none. */
  tip: LockEntry | null;
  /** Whether the entry's package is in the store, every file with its digest. */
  package: Read<Digest>;
  /** The environment's record; null when nothing was ever deployed. */
  live: LiveState | null;
  /** All decisions of this project, model and environment (`openChain`), oldest first. */
  decisions: Read<readonly Decision[]>;
  /** How many people must have approved the data version by itself, and all decisions about its data set. */
  data: { dataset: string; required: number; decisions: Read<readonly DataDecision[]> };
  /** Recomputed from the files of this commit. */
  recomputed: { code: Digest; config: Digest };
  /** The evaluation the entry names, out of the trusted zone; null when it is not there. */
  evaluation: { digest: Digest; content: Evaluation } | null;
  /** The plan as it comes out now. */
  plan: Plan;
}

/** `return`: a version that was promoted here before comes back. `forward`: a new one, with all checks. */
export type Mode = 'forward' | 'return';

/** What is to be done. `resume` is `apply` for a deployment that an earlier job began and did not finish. */
export type Verdict =
  | { kind: 'apply' | 'resume'; mode: Mode; override: { reason: string } | null }
  | { kind: 'done'; why: 'superseded' | 'already-live' }
  | { kind: 'refuse'; check: number; error: UserError };

/**
 * Judges whether a deployment may go ahead (check numbers as in the design: 1 protected ref and tip, 2 lock and package,
 * 3 already live or interrupted, 4 decisions, 5 return or forward, 6 code and config, 7 approvals (of the data, too, where
 * `approvals.data` asks for them), 8 evaluation,
 * 9 baseline and plan; the tenth is the canary itself). Pure: nothing is read or written, the first check that fails
 * decides.
 */
export function checkDeployment(facts: DeploymentFacts): Verdict {
  const { model, environment, live } = facts;
  const place = `${model} in ${environment}`;

  if (!facts.ref.isProtected) {
    return refuse(
      1,
      'not-protected',
      `${facts.ref.name} is not protected; ${place} is deployed from protected refs only`,
    );
  }
  if (facts.entry.kind === 'failed') return { kind: 'refuse', check: 2, error: facts.entry.error };
  const entry = facts.entry.value;
  if (entry === null) {
    // Nothing to deploy is no mistake when a later commit says otherwise.
    if (facts.tip) return { kind: 'done', why: 'superseded' };
    return refuse(
      2,
      'input-missing',
      `cdl.lock has no entry for ${place}`,
      'the bot writes it when a change is ready',
    );
  }
  if (facts.tip?.candidate !== entry.candidate || facts.tip.evaluation !== entry.evaluation) {
    return { kind: 'done', why: 'superseded' };
  }

  const actual = candidateDigest(entryCandidate(model, entry));
  if (actual !== entry.candidate) {
    return refuse(
      2,
      'lock-invalid',
      `the entry of ${place} says ${entry.candidate} but its lines make ${actual}`,
    );
  }
  if (facts.package.kind === 'failed') return { kind: 'refuse', check: 2, error: facts.package.error };
  if (facts.package.value !== entry.package) {
    return refuse(
      2,
      'artifact-corrupt',
      `the package of ${place} is ${facts.package.value}, not ${entry.package}`,
    );
  }

  const isLive = live?.current?.candidate === entry.candidate;
  const isUnderWay = live?.transition?.candidate === entry.candidate;
  if (isLive && !live.transition) return { kind: 'done', why: 'already-live' };
  const kind = isUnderWay ? 'resume' : 'apply';

  if (facts.decisions.kind === 'failed') return { kind: 'refuse', check: 4, error: facts.decisions.error };
  const stranger = facts.decisions.value.find(
    (one) => one.project !== facts.project || one.model !== model || one.environment !== environment,
  );
  if (stranger) {
    return refuse(
      4,
      'decision-invalid',
      `decision ${stranger.seq} is about ${stranger.model} in ${stranger.environment} of ${stranger.project}, not about ${place} of ${facts.project}`,
    );
  }
  const decisions = facts.decisions.value.filter((one) => one.candidate === entry.candidate);
  if (decisions.at(-1)?.decision === 'revoked') {
    return refuse(
      4,
      'not-approved',
      `candidate ${shortDigest(entry.candidate)} was revoked (decision ${decisions.at(-1)!.seq})`,
    );
  }

  // What was promoted here before was judged before; that it ran is the better proof. Also how an interrupted roll-back,
  // or a job killed after the signature, goes on.
  if (isLive || decisions.some((one) => one.decision === 'promoted')) {
    return { kind, mode: 'return', override: null };
  }
  return checkForward(facts, entry, decisions, kind);
}

function checkForward(
  facts: DeploymentFacts,
  entry: LockEntry,
  decisions: readonly Decision[],
  kind: 'apply' | 'resume',
): Verdict {
  const { model, environment, recomputed, evaluation, plan } = facts;
  const place = `${model} in ${environment}`;
  const short = shortDigest(entry.candidate);
  for (const part of ['code', 'config'] as const) {
    if (recomputed[part] === entry[part]) continue;
    return refuse(
      6,
      'lock-invalid',
      `the ${part} of ${place} in this commit is ${recomputed[part]}, the lock entry says ${entry[part]}`,
      `push the ${part} through a merge request of its own, so that the bot writes an entry for it`,
    );
  }

  const approved = decisions.findLast(
    (one) => one.decision === 'approved' && one.evaluation === entry.evaluation,
  );
  if (!approved) {
    const other = decisions.some((one) => one.decision === 'approved');
    return refuse(
      7,
      'not-approved',
      other
        ? `candidate ${short} was approved with another evaluation than ${shortDigest(entry.evaluation)}`
        : `nobody approved candidate ${short} for ${place}`,
    );
  }

  const unapproved = dataRefusal(facts, entry);
  if (unapproved) return { kind: 'refuse', check: 7, error: unapproved };

  const problem = evaluationProblem(facts, entry);
  if (problem)
    return refuse(8, 'artifact-corrupt', problem, 'the bot evaluates the change again on the next push');
  const { verdict } = evaluation!.content;
  if (verdict === 'fail' && !approved.override) {
    return refuse(
      8,
      'gate-refused',
      `the evaluation of candidate ${short} failed its gates and nobody overruled that`,
    );
  }

  const baseline = facts.live?.current?.candidate ?? null;
  if (approved.baseline !== baseline || evaluation!.content.baseline !== baseline) {
    const judged = approved.baseline !== baseline ? approved.baseline : evaluation!.content.baseline;
    return refuse(
      9,
      'baseline-moved',
      `${named(baseline)} is live, candidate ${short} was compared with ${named(judged)}`,
    );
  }
  if (plan.from !== baseline || plan.to !== entry.candidate || plan.package !== entry.package) {
    return refuse(
      9,
      'baseline-moved',
      `the plan does not lead from ${named(baseline)} to candidate ${short}`,
    );
  }
  if (plan.digest !== approved.plan) {
    return refuse(
      9,
      'not-approved',
      `the deployment plan is ${shortDigest(plan.digest)} now, ${shortDigest(approved.plan)} was approved`,
      'the environment in cdl.yaml changed since; ask for approval of the new plan',
    );
  }
  return { kind, mode: 'forward', override: verdict === 'fail' ? (approved.override ?? null) : null };
}

/** What is missing of the approvals of the data version; null when nothing is, or nobody asks. They count on one evidence each. */
function dataRefusal({ data }: DeploymentFacts, entry: LockEntry): UserError | null {
  if (data.required === 0) return null;
  if (data.decisions.kind === 'failed') return data.decisions.error;
  const people = new Map<string, Set<string>>();
  for (const one of data.decisions.value) {
    if (one.dataset !== data.dataset || one.version !== entry.dataset) continue;
    people.set(one.evidence, (people.get(one.evidence) ?? new Set()).add(one.approver.id));
  }
  const most = Math.max(0, ...[...people.values()].map((ids) => ids.size));
  if (most >= data.required) return null;
  return new UserError(
    'not-approved',
    `data version ${shortDigest(entry.dataset)} of ${data.dataset} has ${most} of the ${data.required} approvals that approvals.data.required asks for`,
    'ask somebody with the role data to answer the report with its /approve-data line',
  );
}

function evaluationProblem(facts: DeploymentFacts, entry: LockEntry): string | null {
  const { evaluation } = facts;
  if (!evaluation) return `evaluation ${shortDigest(entry.evaluation)} is not in the trusted zone`;
  if (evaluation.digest !== entry.evaluation) {
    return `evaluation ${shortDigest(evaluation.digest)} was read, the lock entry names ${shortDigest(entry.evaluation)}`;
  }
  const expected = {
    project: facts.project,
    model: facts.model,
    environment: facts.environment,
    candidate: entry.candidate,
  };
  for (const [field, value] of Object.entries(expected)) {
    const said = evaluation.content[field as keyof typeof expected];
    if (said !== value)
      return `evaluation ${shortDigest(evaluation.digest)} is about ${field} ${said}, not ${value}`;
  }
  return null;
}

function named(candidate: Digest | null): string {
  return candidate === null ? 'nothing' : `candidate ${shortDigest(candidate)}`;
}

function refuse(check: number, code: UserError['code'], message: string, hint?: string): Verdict {
  return { kind: 'refuse', check, error: new UserError(code, message, hint) };
}
