import { escapeInline, policyDigest, shortDigest } from '../../src/index.ts';
import { approveDataLine, dataDecisionOf } from '../data-approval.ts';
import type { DataFacts } from '../types.ts';
import { permitRoles, refuseMakers, rulesOf } from './permission.ts';
import type { Answer, Call, Command, Tools } from './types.ts';

const shortest = 6;

const confused = (text: string): Answer => ({ emoji: 'confused', text });

/** The data versions of the change, each once: two models may be trained on the same. */
function versionsOf(call: Call): DataFacts[] {
  const all = new Map(call.models.flatMap(({ facts: { data } }) => (data ? [[data.review, data]] : [])));
  return [...all.values()];
}

function lines(all: readonly DataFacts[]): string {
  return all
    .map((one) =>
      one.refused === null
        ? `\`\`\`\n${approveDataLine(one)}\n\`\`\``
        : `${nameOf(one)} cannot be approved: ${escapeInline(one.refused)}.`,
    )
    .join('\n');
}

function nameOf({ evidence }: DataFacts): string {
  return `Version \`${shortDigest(evidence.version)}\` of the data set ${escapeInline(evidence.dataset)}`;
}

/** Approves a data version with what the report said of its amount, quality and labels. */
export const approveData: Command<Pick<Tools, 'member' | 'roleOf' | 'conflictOf' | 'approveData'>> = {
  name: 'approve-data',
  usage: '/approve-data <digest>',
  summary: 'Approve the data version that the report shows, with its amount, quality and labels.',
  examples: ['/approve-data 3f9a2c41b7d6'],
  role: 'data',
  async handle(call, tools) {
    if (call.change.state !== 'open') return confused('This change is not open any more.');
    const all = versionsOf(call);
    const rules = rulesOf(call);
    if (all.length === 0 || !rules) {
      return confused(
        'There is no data version to approve yet: the report names it when the pipeline has registered a candidate.',
      );
    }
    const prefix = (call.args[0] ?? '').toLowerCase().replace(/^sha256:/, '');
    if (!/^[0-9a-f]+$/.test(prefix) || prefix.length < shortest) {
      return confused(
        `Please say which, with at least ${shortest} digits of what the report shows:\n\n${lines(all)}`,
      );
    }
    const permission = await permitRoles(call, tools, () => ['data']);
    if ('refused' in permission) return permission.refused;
    const { person, role } = permission;
    const hits = all.filter(({ review, evidence }) =>
      [review, evidence.version].some((digest) => digest.slice(7).startsWith(prefix)),
    );
    const [hit] = hits;
    if (!hit || hits.length > 1) {
      const what = hit ? 'names two data versions' : 'is not the data of this change as it stands now';
      return confused(
        `\`${prefix}\` ${what}. Please look at the report and, if you agree, answer:\n\n${lines(all)}`,
      );
    }
    const made = await refuseMakers(call, tools, rules, permission);
    if (made) return made;
    if (hit.refused !== null) {
      return { emoji: 'no_entry', text: `${nameOf(hit)} cannot be approved: ${escapeInline(hit.refused)}.` };
    }
    await tools.approveData(
      dataDecisionOf(hit, {
        project: rules.project,
        approver: { id: person.id, name: person.username, role },
        policy: policyDigest(rules),
        change: call.change.reference,
      }),
    );
    const have = hit.approvals.filter(({ approver }) => approver.id !== person.id).length + 1;
    const left = Math.max(0, hit.required - have);
    const next =
      left > 0
        ? `${left} more approval${left === 1 ? ' is' : 's are'} needed.`
        : hit.required === 0
          ? 'The rules did not ask for it; it is signed and kept all the same.'
          : 'Candidates that were trained on it can be approved now.';
    return {
      emoji: 'thumbsup',
      text: `${nameOf(hit)} is approved as \`${shortDigest(hit.review)}\`, by \`${person.username}\` (${role}). ${escapeInline(hit.summary)} ${next}`,
      converge: true,
    };
  },
};
