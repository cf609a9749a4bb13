import {
  type Block,
  claimInfo,
  createEntry,
  type Decision,
  type Digest,
  digestJson,
  parseLock,
  type Report,
  type Role,
  renderLock,
  requiredApprovals,
  selfApproval,
  shortDigest,
  type Verdict,
  withEntry,
} from '../src/index.ts';
import { approveLine } from './commands/line.ts';
import { isDataOpen } from './data-approval.ts';
import { dataBlocks, dataHeadline } from './data-report.ts';
import { diffLines } from './diff.ts';
import type { Background } from './history.ts';
import { type ChangePlan, isLockEdited, type Standing } from './plan.ts';
import { missingText, quorumOf } from './quorum.ts';
import {
  cost,
  evaluationBlocks,
  failureBlock,
  historyBlocks,
  origins,
  planBlocks,
  refusalText,
  text,
} from './report-blocks.ts';
import { rolloutBlocks } from './rollout.ts';
import { readableTime } from './time.ts';
import type { Approval, Facts } from './types.ts';

/** Key of the comment about one model; of another environment than the first with its name. */
export function reportKey(facts: Pick<Facts, 'model' | 'environment' | 'isFirst'>): string {
  return facts.isFirst ? `report:${facts.model}` : `report:${facts.model}:${facts.environment}`;
}

/** Things a reviewer must know before trusting the numbers. */
export function warningsOf(facts: Facts): string[] {
  const warnings: string[] = [];
  if (facts.rulesChanged.length > 0) {
    warnings.push(
      `This change alters ${facts.rulesChanged.join(', ')}. It is judged by those of ${facts.defaultBranch}; the new ones count once it is merged.`,
    );
  }
  if (facts.rolloutChanged.length > 0) {
    warnings.push(
      `This change alters how it is rolled out to ${facts.environment}: ${facts.rolloutChanged.join('; ')}. Its own deployment goes by that already, the canary’s gate too.`,
    );
  }
  if (facts.answer?.evaluation.isolation === 'none') {
    warnings.push(
      'The model code could reach the network while it was evaluated: this runner allows no network namespace.',
    );
  }
  if (!facts.isolated) {
    warnings.push('The store does not keep the zones apart: whoever can write work/ can write trusted/ too.');
  }
  if (facts.claim.kind === 'verified' && facts.claim.source === 'registry') {
    warnings.push(
      `Version ${facts.claim.claim.version} is from the registry: no pipeline of this change made it, and who trained it is not known. Code, configuration and package are what the commit makes.`,
    );
  }
  if (facts.lock.problem)
    warnings.push(`cdl.lock cannot be read (${facts.lock.problem}); the bot writes it.`);
  else if (facts.lock.head && facts.claim.kind === 'verified' && isLockEdited(facts)) {
    const { claim, answer, lock } = facts;
    const bots = answer && createEntry(claim.claim.candidate, answer.digest, claimInfo(claim.claim));
    const isBots = bots !== null && digestJson(lock.head) === digestJson(bots);
    if (!isBots) {
      warnings.push(
        'The entry in cdl.lock is not the one for this candidate (an earlier state, or a hand edit). Only the bot’s counts.',
      );
    }
  }
  for (const { approval, why } of facts.lapsed) {
    warnings.push(`The approval of ${approval.username} does not count: ${approval.username} ${why}.`);
  }
  const voided = new Map(facts.voided.map((one) => [`${one.review} ${one.username}`, one]));
  for (const one of voided.values()) {
    warnings.push(
      `The approval of ${shortDigest(one.review)} by ${one.username} is void: ${whyVoid(facts, one)}.`,
    );
  }
  return warnings;
}

function whyVoid(facts: Facts, approval: Approval): string {
  if (approval.review === facts.review) return 'its deployment was taken back since';
  if (facts.review === null) return 'the change has no report at present';
  return 'code, data, evaluation, baseline or deployment plan changed since';
}

/** Who may not approve although they have the role. */
function whoNot(facts: Facts): string {
  const may = selfApproval(facts.rules!.project);
  const not = [
    ...(may.author ? [] : ['the author']),
    ...(may.committers ? [] : ['who wrote a commit']),
    ...(may.trigger ? [] : ['who started a pipeline']),
  ];
  return not.length === 0 ? '' : ` (not ${not.join(', ')})`;
}

function approvalBlocks(facts: Facts, standing: Standing & { kind: 'judged' }): Block[] {
  const { review, change } = facts;
  const { project } = facts.rules!;
  const required = requiredApprovals(project.approvals);
  if (!review) return [];
  const holders = (role: Role): string =>
    project.roles[role].join(', ') || `nobody: roles.${role} in cdl.yaml of ${facts.defaultBranch} is empty`;
  const quorum = quorumOf(facts);
  const isMissing = quorum.missing.length > 0 && required.length > 1;
  const blocks: Block[] = [
    { kind: 'heading', text: 'Approval' },
    {
      kind: 'facts',
      facts: [
        ['approvals', `${quorum.seated.size} of ${quorum.needed}`],
        ...(isMissing ? [['still missing', missingText(quorum)] as [string, string]] : []),
        ...required.map(({ role, count }): [string, string] => [
          'who may',
          `${required.length > 1 ? `${count} ` : ''}${role}: ${holders(role)}${whoNot(facts)}`,
        ]),
        ...facts.approvals.map((one): [string, string] => [
          'approved by',
          `${one.username} (${quorum.seated.get(one) ?? one.roles.join(', ')})${one.override ? `, overruling the gate: ${one.override}` : ''}`,
        ]),
      ],
    },
  ];
  if (standing.approved || standing.enough || change.state !== 'open' || !isDataOpen(facts)) return blocks;
  if (facts.rejection) {
    const { username } = facts.rejection;
    return [
      ...blocks,
      text(`Nothing to approve while it is sent back: ${username} can take that back with /approve.`),
    ];
  }
  const failed = facts.answer?.evaluation.verdict === 'fail';
  blocks.push({
    kind: 'command',
    command: approveLine(review, failed),
    why: failed
      ? 'Overrule the failed gate, with the reason (signed and kept)'
      : 'Approve exactly this candidate, evaluation and deployment plan',
  });
  blocks.push({ kind: 'command', command: 'cdl /reject train "why"', why: 'Send it back to a step' });
  return blocks;
}

/** What a change says that puts back what ran before. */
function wayBack(
  facts: Facts,
  to: { candidate: Digest | null; version: number | null },
): { verdict: Verdict; summary: string } {
  const what = `version ${to.version} of ${facts.model}`;
  const { current, failed, transition } = facts.live ?? { current: null, failed: null, transition: null };
  if (to.candidate === null) {
    return { verdict: 'pass', summary: `Takes out of cdl.lock what was taken back in ${facts.environment}.` };
  }
  if (facts.change.state !== 'merged') {
    return {
      verdict: 'pass',
      summary: `Back to ${what} in ${facts.environment}, which was promoted here before. Merging deploys it again; no new approval is needed.`,
    };
  }
  if (current?.candidate === to.candidate && !transition) {
    return { verdict: 'pass', summary: `${what} serves ${facts.environment} again.` };
  }
  if (failed?.candidate === to.candidate) {
    return { verdict: 'fail', summary: `The way back to ${what} failed: ${failed.reason}.` };
  }
  return { verdict: 'pass', summary: `Merged: the deployment of ${what} is under way.` };
}

/** What became of a merged change. */
function outcome(facts: Facts): { verdict: Verdict; summary: string } {
  const { claim, live, decisions } = facts;
  if (facts.returns) return wayBack(facts, facts.returns);
  if (claim.kind !== 'verified')
    return { verdict: 'warn', summary: 'Merged without a verified candidate: nothing is deployed.' };
  const about = decisions.filter((one: Decision) => one.candidate === claim.digest);
  const last = about.at(-1);
  const label = `${facts.model} version ${claim.claim.version}`;
  if (last?.decision === 'promoted')
    return { verdict: 'pass', summary: `Thank you! ${label} is promoted in ${facts.environment}.` };
  if (live?.failed?.candidate === claim.digest || last?.decision === 'revoked') {
    const reason = live?.failed?.reason ?? 'it was revoked';
    return {
      verdict: 'fail',
      summary: `The deployment of ${label} was taken back: ${reason}. What was live before serves.`,
    };
  }
  if (live?.transition?.candidate === claim.digest) {
    return {
      verdict: 'pass',
      summary: `${label} is on its way to ${facts.environment} since ${readableTime(live.transition.since)}: traffic moves step by step.`,
    };
  }
  if (live?.current?.candidate === claim.digest)
    return { verdict: 'pass', summary: `${label} is deployed to ${facts.environment}.` };
  if (last?.decision === 'approved')
    return { verdict: 'pass', summary: `Merged and approved: the deployment of ${label} is under way.` };
  return { verdict: 'warn', summary: `Merged without approval: the deploy job will refuse ${label}.` };
}

function headline(facts: Facts, standing: Standing): { verdict: Verdict; summary: string } {
  if (facts.change.state === 'merged') return outcome(facts);
  if (facts.rejection) {
    const { step, username, reason } = facts.rejection;
    return { verdict: 'fail', summary: `Sent back to ${step} by ${username}: ${reason}` };
  }
  switch (standing.kind) {
    case 'return':
      return wayBack(facts, standing);
    case 'fork':
      return { verdict: 'warn', summary: 'The branch is in a fork: nothing is run for it here.' };
    case 'new-model':
      return isLockEdited(facts)
        ? { verdict: 'fail', summary: 'cdl.lock was edited by hand; restore it from the default branch.' }
        : {
            verdict: 'warn',
            summary: `${facts.defaultBranch} does not know ${facts.model} yet, so there are no gates and roles to judge it by. Merge its definition first, then propose a candidate.`,
          };
    case 'waiting':
      return {
        verdict: 'warn',
        summary: 'The pipeline is running; the report follows when it has finished.',
      };
    case 'broken': {
      const jobs = facts.pipeline?.failed.map((job) => job.name).join(', ');
      return { verdict: 'fail', summary: jobs ? `The pipeline failed in ${jobs}.` : 'The pipeline failed.' };
    }
    case 'unclaimed':
      return { verdict: 'fail', summary: `The pipeline registered no candidate of ${facts.model}.` };
    case 'wrong':
      return { verdict: 'fail', summary: 'The claim of the pipeline is not what the commit makes.' };
    case 'unchanged':
      return isLockEdited(facts)
        ? { verdict: 'fail', summary: 'cdl.lock was edited by hand; restore it from the default branch.' }
        : { verdict: 'pass', summary: `This change makes the same ${facts.model} that is live.` };
    case 'evaluating':
      return {
        verdict: 'warn',
        summary: `The evaluation on ${facts.defaultBranch} with the withheld test set is running.`,
      };
    case 'unanswered':
      return {
        verdict: 'fail',
        summary:
          'The evaluation pipeline ended without an answer. Ask once more with /evaluate, or push again.',
      };
    case 'judged': {
      const failed = facts.answer!.evaluation.gates.filter((gate) => gate.status === 'fail');
      if (failed.length > 0) {
        return {
          verdict: standing.gateOpen ? 'warn' : 'fail',
          summary: refusalText(facts.answer!.evaluation.gates, standing.gateOpen),
        };
      }
      if (facts.answer!.evaluation.verdict === 'warn') {
        return {
          verdict: 'warn',
          summary: 'No gate is defined, so nothing was judged but the people’s view.',
        };
      }
      if (facts.data && !isDataOpen(facts)) return dataHeadline(facts.data);
      const next = standing.enough
        ? facts.change.draft
          ? 'approved; it goes on when the change is no draft any more'
          : 'approved: merge to deploy'
        : 'waiting for approval';
      return { verdict: 'pass', summary: `Every gate passed; ${next}.` };
    }
  }
}

function lineage(facts: Facts): Record<string, Digest> {
  const { claim, answer, plan, review } = facts;
  if (claim.kind !== 'verified') return {};
  const { code, config, dataset, transform, checkpoint, package: packaged } = claim.claim.candidate;
  return {
    candidate: claim.digest,
    code,
    config,
    dataset,
    ...(transform ? { transform } : {}),
    run: claim.claim.run,
    checkpoint,
    package: packaged,
    ...(answer ? { evaluation: answer.digest, testset: answer.evaluation.testset } : {}),
    ...(plan ? { plan: plan.digest } : {}),
    ...(review ? { review } : {}),
  };
}

/** Lines by which a hand-edited lock differs from the one that belongs there; null when it is the right one, or the bot's turn. */
function lockDifference(facts: Facts, standing: Standing): string | null {
  const { lock, model, environment, change } = facts;
  const isSettled =
    standing.kind === 'new-model' || standing.kind === 'unchanged' || standing.kind === 'wrong';
  if (change.state !== 'open' || !isSettled || !isLockEdited(facts)) return null;
  const wanted =
    lock.problem === null
      ? renderLock(withEntry(parseLock(lock.text), model, environment, lock.base))
      : lock.baseText;
  return diffLines(lock.text.trimEnd(), wanted.trimEnd()) || null;
}

/** The report about one model of a change, as data. Pure. */
export function buildReport(
  facts: Facts,
  plan: Pick<ChangePlan, 'standing'>,
  background: Background = { history: [], seconds: null },
): Report {
  const { standing } = plan;
  const { claim, answer, pipeline } = facts;
  const { verdict, summary } = headline(facts, standing);
  const version = claim.kind === 'verified' ? ` version ${claim.claim.version}` : '';
  const blocks: Block[] = warningsOf(facts).map((one) => text(`⚠ ${one}`));
  if (standing.kind === 'wrong') {
    blocks.push({ kind: 'code', language: 'text', text: standing.problems.join('\n') });
  }
  if (standing.kind === 'broken' || standing.kind === 'waiting') {
    const jobs = pipeline?.failed ?? [];
    blocks.push({
      kind: 'links',
      links: [
        ...(pipeline
          ? [{ name: 'pipeline', text: pipeline.pipeline.state, url: pipeline.pipeline.url }]
          : []),
        ...jobs.map((job) => ({ name: job.name, text: job.reason ?? job.state, url: job.url })),
      ],
    });
    for (const job of jobs) {
      const said = pipeline?.said.get(job.id);
      if (said) blocks.push(failureBlock(said));
    }
  }
  if (facts.run && (standing.kind === 'evaluating' || standing.kind === 'unanswered')) {
    blocks.push({
      kind: 'links',
      links: [{ name: 'evaluation', text: `pipeline ${facts.run.pipeline}`, url: facts.run.url }],
    });
    blocks.push(...facts.run.said.map(failureBlock));
  }
  const edited = lockDifference(facts, standing);
  if (edited) {
    blocks.push(
      text('What cdl.lock says here (-) and what it has to say (+); the bot writes it, people do not:'),
      { kind: 'code', language: 'diff', text: edited },
    );
  }
  blocks.push(...rolloutBlocks(facts));
  if (standing.kind === 'judged' && answer) {
    blocks.push({ kind: 'heading', text: 'Evaluation' }, ...evaluationBlocks(facts, answer.evaluation));
    blocks.push(...planBlocks(facts));
  }
  blocks.push(...historyBlocks(background.history));
  const { requirements } = facts.headProject;
  blocks.push({
    kind: 'details',
    summary: 'Requirements and origin',
    blocks: [
      {
        kind: 'facts',
        facts: [
          ['problem', requirements.problem],
          ['owner', requirements.owner],
          ['metrics that matter', requirements.metrics.join(', ') || '–'],
          ['constraints', requirements.constraints.join('; ') || '–'],
          ...cost(facts, background.seconds),
        ],
      },
      { kind: 'links', links: origins(facts) },
    ],
  });
  // Last, so that the eye has seen what the line is about.
  if (standing.kind === 'judged') blocks.push(...dataBlocks(facts), ...approvalBlocks(facts, standing));
  return {
    key: reportKey(facts),
    title: `${facts.model}${version}${facts.isFirst ? '' : ` for ${facts.environment}`}`,
    verdict,
    summary,
    blocks,
    refs: lineage(facts),
  };
}
