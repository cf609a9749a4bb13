import { escapeInline } from '../../src/index.ts';
import { nextStep } from '../next-step.ts';
import { noModels } from './subject.ts';
import type { Command } from './types.ts';

/** Says where a change stands, what comes next and who can do it. */
export const status: Command = {
  name: 'status',
  usage: '/status',
  summary: 'Where this change stands, what comes next, and who can do it.',
  examples: ['/status'],
  role: 'anyone',
  async handle(call) {
    if (call.models.length === 0) {
      return { emoji: 'eyes', text: noModels(call) };
    }
    const lines = call.models.map(({ facts, plan }) => {
      const version = facts.claim.kind === 'verified' ? ` version ${facts.claim.claim.version}` : '';
      return `- **${facts.model}**${version}: ${plan.status.state}, ${escapeInline(plan.status.description)}`;
    });
    const several = call.models.length > 1;
    const steps = call.models.map(({ facts, plan }) => {
      const { who, what, command } = nextStep(facts, plan);
      const about = several ? ` for **${facts.model}** (${facts.environment})` : '';
      const line =
        who === null ? `Nobody has to do anything now${about}: ${what}` : `Next${about}, by ${who}: ${what}`;
      return command === null ? `${line}.` : `${line}:\n\n\`\`\`\n${command}\n\`\`\``;
    });
    return { emoji: 'eyes', text: [lines.join('\n'), ...steps].join('\n\n'), converge: true };
  },
};
