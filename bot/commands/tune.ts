import { projectFile } from '../../src/index.ts';
import { setTuneSeed } from '../edit.ts';
import { refuseOverBudget } from './budget.ts';
import { permitMember } from './permission.ts';
import { movedAnswer, notOpen, subjectOf } from './subject.ts';
import type { Command, Tools } from './types.ts';

/** Searches anew, with the next seed: the same seed would only be looked up. */
export const tune: Command<Pick<Tools, 'member' | 'editFile'>> = {
  name: 'tune',
  usage: '/tune [--model name]',
  summary: 'Commit the next seed of `tune:` to `cdl.yaml` of this branch, which searches anew.',
  examples: ['/tune'],
  role: 'member',
  async handle(call, tools) {
    const closed = notOpen(call);
    if (closed) return closed;
    const subject = subjectOf(call);
    if ('answer' in subject) return subject.answer;
    const { model, headProject } = subject.facts;
    const config = headProject.models[model]!.tune;
    if (!config) {
      return {
        emoji: 'confused',
        text: `**${model}** has no \`tune:\` in \`cdl.yaml\` of this branch, so there is nothing to search. Say what may vary:\n\n\`\`\`yaml\ntune:\n  space: { learning_rate: { log: [0.0001, 0.1] } }\n\`\`\``,
      };
    }
    const over = refuseOverBudget(call);
    if (over) return over;
    const permission = await permitMember(call, tools);
    if ('refused' in permission) return permission.refused;
    const seed = config.seed + 1;
    const done = await tools.editFile(
      call.change,
      projectFile,
      (text) => setTuneSeed(text, model, seed),
      `tune(${model}): seed ${seed}`,
      permission.person,
    );
    if (done === 'moved') return movedAnswer;
    return {
      emoji: 'thumbsup',
      text: `Committed seed ${seed} of the search to \`cdl.yaml\` of this branch, in the name of \`${permission.person.username}\`. Its pipeline tries up to ${config.trials} other configurations of **${model}**; the report follows. Approvals of earlier states are void.`,
      converge: true,
    };
  },
};
