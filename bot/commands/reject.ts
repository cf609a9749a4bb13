import { nearest } from '../../src/index.ts';
import { permit } from './permission.ts';
import { altered, noModels, type SendingBack, sendBack, subjectOf } from './subject.ts';
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

/** Sends what a change proposes back to a step: the model that is named, else every one that the change alters. */
export const reject: Command<Pick<Tools, 'member' | 'roleOf'> & SendingBack> = {
  name: 'reject',
  usage: '/reject <step> "why" [--model name]',
  summary:
    'Send what the change alters, or one model of it, back to a step; void after the next push that changes that.',
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
    if (call.models.length === 0) return { emoji: 'confused', text: noModels(call) };
    const subject = call.options.model === undefined ? null : subjectOf(call);
    if (subject && 'answer' in subject) return subject.answer;
    const meant = subject ? [subject] : altered(call.models);
    const models = meant.length > 0 ? meant : call.models;
    const permission = await permit(call, tools);
    if ('refused' in permission) return permission.refused;
    const { person } = permission;
    await sendBack(call, models, tools, { step, reason: reason.slice(0, 1000), person });
    const names = [...new Set(models.map(({ facts }) => facts.model))];
    const isPart = names.length < new Set(call.models.map(({ facts }) => facts.model)).size;
    const named = names.map((name) => `**${name}**`).join(' and ');
    const status = `The status of ${named} is failed until ${names.length === 1 ? 'it changes' : 'they change'}`;
    return {
      emoji: 'thumbsup',
      text: `Sent${isPart ? ` ${named}` : ''} back to **${step}**. ${status}; push the correction to the same branch.`,
      converge: true,
    };
  },
};
