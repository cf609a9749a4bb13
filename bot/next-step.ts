import { escapeInline, requiredApprovals } from '../src/index.ts';
import { approveLine } from './commands/line.ts';
import { quoted } from './commands/subject.ts';
import { approveDataLine, isDataOpen } from './data-approval.ts';
import { budgetBound, type ChangePlan, isLockEdited } from './plan.ts';
import { quorumOf } from './quorum.ts';
import { readableTime } from './time.ts';
import type { Facts } from './types.ts';

/** What brings a model of a change on, as Markdown; `who` can do it, null = nobody has to. `command` is a line to copy. */
export interface NextStep {
  who: string | null;
  what: string;
  command: string | null;
}

const pushers = 'anyone who may push';
const mergers = 'anyone who may merge';
const operators = 'the approving role, devops or maintainer';

const step = (who: string | null, what: string, command: string | null = null): NextStep => ({
  who,
  what,
  command,
});

/** People by the rules of the default branch, those aside who have approved already. */
function holders(facts: Facts, role: keyof NonNullable<Facts['rules']>['project']['roles']): string {
  const done = new Set(facts.approvals.map(({ username }) => username));
  const people = facts.rules!.project.roles[role].filter((one) => !done.has(one)).map(quoted);
  return (
    people.join(', ') ||
    `nobody else: \`roles.${role}\` in \`cdl.yaml\` of ${escapeInline(facts.defaultBranch)}`
  );
}

/** Who is missing, as `1 validator (vera, walt) and 1 devops (olga)`; with a failed gate that nobody overruled, of everybody. */
function approvers(facts: Facts): string {
  const quorum = quorumOf(facts);
  const required = requiredApprovals(facts.rules!.project.approvals);
  return quorum.missing
    .map(({ role, count }) => {
      const known = required.find((one) => one.role === role)!.role;
      return `${count} ${role} (${holders(facts, known)})`;
    })
    .join(' and ');
}

function judgedStep(facts: Facts, standing: ChangePlan['standing'] & { kind: 'judged' }): NextStep {
  const { review, answer, change, data } = facts;
  const failed = answer?.evaluation.verdict === 'fail';
  if (!standing.approved && !standing.enough && review) {
    if (!standing.gateOpen) {
      return step(
        approvers(facts),
        'overrule the gate, with the reason (or somebody pushes a better one)',
        approveLine(review, failed),
      );
    }
    if (data && !isDataOpen(facts)) {
      return data.refused
        ? step(pushers, `bring other data: these cannot be approved (${escapeInline(data.refused)})`)
        : step(
            `the role data (${holders(facts, 'data')})`,
            'approve the data version',
            approveDataLine(data),
          );
    }
    return step(approvers(facts), 'approve exactly what the report shows', approveLine(review, failed));
  }
  return change.draft ? step('the author', 'mark the change as ready') : step(mergers, 'merge it to deploy');
}

function mergedStep({ claim, live, environment }: Facts): NextStep {
  if (claim.kind !== 'verified') return step(null, 'it proposes no candidate');
  if (live?.current?.candidate === claim.digest) return step(null, `it serves ${environment}`);
  if (live?.transition?.candidate === claim.digest) return step(null, 'the deployment goes on');
  return step(operators, 'run the deployment again, if no job does', `cdl /deploy ${environment}`);
}

/** The next step of one model of a change, and who can take it. Pure. */
export function nextStep(facts: Facts, plan: Pick<ChangePlan, 'standing'>): NextStep {
  const { change, rejection, paused, pipeline, spending } = facts;
  const { standing } = plan;
  if (change.state === 'merged') return mergedStep(facts);
  if (change.state === 'closed') return step(pushers, 'open it again');
  if (paused) return step(pushers, 'go on', 'cdl /resume');
  if (rejection) {
    return step(pushers, `push what was asked for (${quoted(rejection.username)} can approve all the same)`);
  }
  const settled = standing.kind === 'new-model' || standing.kind === 'unchanged';
  if (settled && isLockEdited(facts)) return step(pushers, 'restore `cdl.lock`', 'cdl /lock refresh');
  const { over } = spending;
  if (over && budgetBound.has(standing.kind)) {
    return over.frees
      ? step(null, `there is room in the budget again at ${readableTime(over.frees)}`)
      : step(mergers, `raise \`budgets.${over.scope}.${over.unit}\` in \`cdl.yaml\` by a change of its own`);
  }
  const elsewhere = 'or register the version made elsewhere, which I then propose';
  switch (standing.kind) {
    case 'fork':
      return step(pushers, 'push the branch to this project, where its jobs may run');
    case 'new-model':
      return step(mergers, 'merge it; candidates are proposed after that');
    case 'return':
      return step(
        change.draft ? 'the author' : mergers,
        change.draft ? 'mark the change as ready' : 'merge it',
      );
    case 'waiting':
      return pipeline
        ? step(null, 'its pipeline runs, then the evaluation')
        : step(pushers, `start a pipeline of the branch, ${elsewhere}`);
    case 'broken':
      return step(pushers, `mend what failed and push, or run the failed job again, ${elsewhere}`);
    case 'unclaimed':
      return step(pushers, `give the pipeline the jobs up to \`register\`, ${elsewhere}`);
    case 'wrong':
      return step(pushers, 'push again, or run the pipeline again: the report says what is not as claimed');
    case 'unchanged':
      return step(mergers, 'merge it: nothing is deployed anew');
    case 'evaluating':
      return step(null, `the evaluation on ${escapeInline(facts.defaultBranch)} runs`);
    case 'unanswered':
      return step(pushers, 'have it evaluated again', 'cdl /evaluate');
    case 'judged':
      return judgedStep(facts, standing);
  }
}
