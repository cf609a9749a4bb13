import { escapeInline } from '../../src/index.ts';
import { approveLine } from './line.ts';
import type { Command } from './types.ts';

/** Says where a change stands and what comes next. */
export const status: Command = {
  name: 'status',
  usage: '/status',
  summary: 'Where this change stands, and what comes next.',
  examples: ['/status'],
  role: 'anyone',
  async handle(call) {
    if (call.models.length === 0) {
      return {
        emoji: 'eyes',
        text: 'This change has no model of `cdl.yaml`, or its `cdl.yaml` cannot be read.',
      };
    }
    const lines = call.models.map(({ facts, plan }) => {
      const version = facts.claim.kind === 'verified' ? ` version ${facts.claim.claim.version}` : '';
      return `- **${facts.model}**${version}: ${plan.status.state}, ${escapeInline(plan.status.description)}`;
    });
    const open = call.models.filter(
      ({ plan, facts }) =>
        plan.standing.kind === 'judged' && !plan.standing.enough && facts.change.state === 'open',
    );
    const next = open.flatMap(({ facts }) =>
      facts.review
        ? [`\`\`\`\n${approveLine(facts.review, facts.answer?.evaluation.verdict === 'fail')}\n\`\`\``]
        : [],
    );
    const tail = next.length > 0 ? `\n\nNext, by a validator:\n\n${next.join('\n')}` : '';
    return { emoji: 'eyes', text: `${lines.join('\n')}${tail}`, converge: true };
  },
};
