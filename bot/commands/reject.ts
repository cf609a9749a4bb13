import { nearest } from '../../src/index.ts';
import { permit } from './permission.ts';
import { aboutOf } from './subject.ts';
import type { Command, Tools } from './types.ts';

/** Steps a change can be sent back to, in the order of work. */
export const returnable = [
  'ingest',
  'clean',
  'validate',
  'label',
  'transform',
  'tune',
  'train',
  'evaluate',
  'package',
] as const;

/** Sends a change back to a step. */
export const reject: Command<Pick<Tools, 'member' | 'roleOf' | 'contentOf' | 'setRejection'>> = {
  name: 'reject',
  usage: '/reject <step> "why"',
  summary: 'Send the change back to a step; void after the next push that changes it.',
  examples: ['/reject train "the loss still falls: more epochs"'],
  role: 'approver',
  holds: 0,
  async handle(call, tools) {
    const [given = '', ...rest] = call.args;
    const step = returnable.find((one) => one === given.toLowerCase());
    const reason = rest.join(' ').trim();
    if (!step) {
      const guess = nearest(given, returnable);
      const meant = guess ? ` Did you mean \`${guess}\`?` : '';
      return {
        emoji: 'confused',
        text: `\`/reject\` needs the step to go back to: ${returnable.join(', ')}.${meant} For example:\n\n\`\`\`\n/reject ${guess ?? 'train'} "why"\n\`\`\``,
      };
    }
    if (reason === '') {
      return {
        emoji: 'confused',
        text: `Please say why, so that it can be put right:\n\n\`\`\`\n/reject ${step} "why"\n\`\`\``,
      };
    }
    if (call.change.state !== 'open') return { emoji: 'confused', text: 'This change is not open any more.' };
    const permission = await permit(call, tools);
    if ('refused' in permission) return permission.refused;
    await tools.setRejection({
      change: call.change.id,
      head: call.change.head,
      about: await aboutOf(call, tools),
      step,
      reason: reason.slice(0, 1000),
      userId: permission.person.id,
      username: permission.person.username,
      at: call.comment.createdAt,
    });
    return {
      emoji: 'thumbsup',
      text: `Sent back to **${step}**. The status of this change is failed until its content changes; push the correction to the same branch.`,
      converge: true,
    };
  },
};
