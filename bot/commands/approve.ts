import { escapeInline, requiredApprovals, shortDigest } from '../../src/index.ts';
import { approveDataLine, isDataOpen } from '../data-approval.ts';
import { missingText, quorumOf } from '../quorum.ts';
import type { Facts } from '../types.ts';
import { approveLine } from './line.ts';
import { permit, refuseMakers } from './permission.ts';
import { type SendingBack, takeBack } from './subject.ts';
import type { Answer, Call, Command, Tools } from './types.ts';

const shortest = 6;

type Reviewable = { facts: Facts; review: NonNullable<Facts['review']> };

function reviewable(call: Call): Reviewable[] {
  return call.models.flatMap(({ facts, plan }) =>
    facts.review && plan.standing.kind === 'judged' ? [{ facts, review: facts.review }] : [],
  );
}

const isFailed = (facts: Facts): boolean => facts.answer?.evaluation.verdict === 'fail';

function lines(all: Reviewable[]): string {
  return all.map(({ facts, review }) => `\`\`\`\n${approveLine(review, isFailed(facts))}\n\`\`\``).join('\n');
}

function unknownDigest(call: Call, prefix: string, all: Reviewable[]): Answer {
  const older = call.models
    .flatMap(({ facts }) => facts.voided)
    .some((one) => one.review.slice(7).startsWith(prefix));
  const what = older
    ? `\`${prefix}\` was the report of an earlier state, which you can no longer approve.`
    : `\`${prefix}\` is not the current report of this change (perhaps of an earlier state).`;
  return {
    emoji: 'confused',
    text: `${what} Please look at the current report and, if you agree, answer:\n\n${lines(all)}`,
  };
}

function whyNothing(call: Call): string {
  if (call.change.state !== 'open') return 'This change is not open any more.';
  if (call.models.length === 0) return 'This change has no model of `cdl.yaml` to approve.';
  const states = call.models.map(
    ({ facts, plan }) => `${facts.model}: ${escapeInline(plan.status.description)}`,
  );
  return `There is nothing to approve yet (${states.join('; ')}). The report will end with the line to copy.`;
}

/** Approves exactly what a report showed. */
export const approve: Command<
  Pick<Tools, 'member' | 'roleOf' | 'rolesOf' | 'conflictOf' | 'addApproval' | 'liftRejection'> & SendingBack
> = {
  name: 'approve',
  usage: '/approve <digest> [--override "why"]',
  summary: 'Approve the candidate, evaluation and plan of the report with this digest.',
  examples: [
    '/approve 3f9a2c41b7d6',
    '/approve 3f9a2c41b7d6 --override "rare class, agreed with the customer"',
  ],
  role: 'approver',
  async handle(call, tools) {
    const all = reviewable(call);
    if (call.change.state !== 'open' || all.length === 0) {
      return { emoji: 'confused', text: whyNothing(call) };
    }
    const prefix = (call.args[0] ?? '').toLowerCase().replace(/^sha256:/, '');
    if (!/^[0-9a-f]+$/.test(prefix) || prefix.length < shortest) {
      return {
        emoji: 'confused',
        text: `Please say what you have seen, with at least ${shortest} digits of the report’s digest:\n\n${lines(all)}`,
      };
    }
    const permission = await permit(call, tools);
    if ('refused' in permission) return permission.refused;
    const { person, role } = permission;
    const hits = all.filter(({ review }) => review.slice(7).startsWith(prefix));
    const [hit] = hits;
    if (!hit) return unknownDigest(call, prefix, all);
    if (hits.length > 1) {
      return {
        emoji: 'confused',
        text: `\`${prefix}\` names two reports. Please copy one of:\n\n${lines(hits)}`,
      };
    }
    const { facts, review } = hit;
    const rules = facts.rules!.project;
    const made = await refuseMakers(call, tools, rules, permission);
    if (made) return made;
    const reason = call.options.override?.trim() ?? '';
    if (isFailed(facts) && reason === '') {
      return {
        emoji: 'no_entry',
        text: `A gate failed. If it is still acceptable, say why; the reason is signed and kept:\n\n${lines([hit])}`,
      };
    }
    if (facts.data && !isDataOpen(facts)) {
      const { refused, evidence } = facts.data;
      const what = `version \`${shortDigest(evidence.version)}\` of the data set ${escapeInline(evidence.dataset)}`;
      return {
        emoji: 'no_entry',
        text: refused
          ? `It was trained on ${what}, which cannot be approved: ${escapeInline(refused)}.`
          : `It was trained on ${what}, which has to be approved first, by somebody with the role **data**:\n\n\`\`\`\n${approveDataLine(facts.data)}\n\`\`\``,
      };
    }
    const said = {
      change: call.change.id,
      model: facts.model,
      environment: facts.environment,
      review,
      userId: person.id,
      username: person.username,
      role,
      override: isFailed(facts) ? reason : null,
      comment: call.comment.id,
      // When it was written: heard late, it is no word about what has happened since.
      at: call.comment.createdAt,
    };
    await tools.addApproval(said);
    await takeBack(call, hit, tools, person.id);
    const required = requiredApprovals(rules.approvals);
    const roles = await tools.rolesOf(
      rules,
      required.map((one) => one.role),
      person.id,
    );
    const own = { ...said, roles };
    const others = facts.approvals.filter((one) => one.userId !== person.id);
    const quorum = quorumOf({ ...facts, approvals: [...others, own] });
    const left = quorum.needed - quorum.seated.size;
    const next =
      left > 0
        ? required.length > 1
          ? `Still missing: ${missingText(quorum)}.`
          : `${left} more approval${left === 1 ? ' is' : 's are'} needed.`
        : facts.change.draft
          ? 'Mark the change as ready, then merge it to deploy.'
          : 'Merge the change to deploy it.';
    return {
      emoji: 'thumbsup',
      text: `Approved ${facts.model} for ${facts.environment} as \`${shortDigest(review)}\`, by \`${person.username}\` (${quorum.seated.get(own) ?? role}). ${next}`,
      converge: true,
    };
  },
};
