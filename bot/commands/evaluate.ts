import { escapeInline } from '../../src/index.ts';
import { refuseOverBudget } from './budget.ts';
import { permitMember } from './permission.ts';
import { notOpen, subjectOf } from './subject.ts';
import type { Command, Tools } from './types.ts';

/** Asks the question of a model again when its evaluation ended without an answer. */
export const evaluate: Command<Pick<Tools, 'member' | 'askAgain'>> = {
  name: 'evaluate',
  usage: '/evaluate [--model name]',
  summary: 'Start a failed evaluation anew, once.',
  examples: ['/evaluate'],
  role: 'member',
  async handle(call, tools) {
    const closed = notOpen(call);
    if (closed) return closed;
    const subject = subjectOf(call);
    if ('answer' in subject) return subject.answer;
    const { facts, plan } = subject;
    const { model, run } = facts;
    switch (plan.standing.kind) {
      case 'judged':
        return {
          emoji: 'eyes',
          text: `**${model}** is evaluated already: same candidate, same production, same gates and test set give the same answer. It is asked anew by itself when any of them changes.`,
        };
      case 'evaluating':
        return {
          emoji: 'eyes',
          text: `The evaluation of **${model}** is under way${run ? `: ${run.url}` : ''}.`,
          converge: true,
        };
      case 'unanswered': {
        const permission = await permitMember(call, tools);
        if ('refused' in permission) return permission.refused;
        const over = refuseOverBudget(call);
        if (over) return over;
        if (await tools.askAgain(facts)) {
          return {
            emoji: 'thumbsup',
            text: `Asked again: a new evaluation of **${model}** starts on ${escapeInline(facts.defaultBranch)}. The report follows.`,
            converge: true,
          };
        }
        return {
          emoji: 'confused',
          text: `The evaluation of this state was started anew before and failed again${run ? ` (${run.url})` : ''}. Please look at its log; a push asks once more.`,
        };
      }
      default:
        return {
          emoji: 'confused',
          text: `There is nothing to evaluate of **${model}** yet (${escapeInline(plan.status.description)}). It starts by itself when the pipeline has registered a candidate.`,
        };
    }
  },
};
