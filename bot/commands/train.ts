import { nearest, projectFile, UserError } from '../../src/index.ts';
import { setHyperparameters } from '../edit.ts';
import { refuseOverBudget } from './budget.ts';
import { permitMember } from './permission.ts';
import { inBlock, inMessage, longHeld, movedAnswer, notOpen, quoted, subjectOf } from './subject.ts';
import type { Command, Committed, Tools } from './types.ts';

/** Changes hyperparameters by a commit to cdl.yaml of the change's branch, which trains anew. */
export const train: Command<Pick<Tools, 'member' | 'editFile'>> = {
  name: 'train',
  usage: '/train key=value … [--model name]',
  summary: 'Commit these hyperparameters to `cdl.yaml` of this branch, which trains with them.',
  examples: ['/train epochs=5', '/train learning_rate=0.0005 batch_size=128'],
  role: 'member',
  holds: longHeld,
  async handle(call, tools) {
    const closed = notOpen(call);
    if (closed) return closed;
    const subject = subjectOf(call);
    if ('answer' in subject) return subject.answer;
    const { model, headProject } = subject.facts;
    const config = headProject.models[model]!;
    const known = Object.keys(config.hyperparameters);
    const pairs = call.args.map((word) => /^([^=]*)=(.*)$/s.exec(word) ?? ([word, word, null] as const));
    const odd = pairs.find(([, key, value]) => value === null || !known.includes(key!));
    if (pairs.length === 0 || odd) {
      const guess = odd?.[1] ? nearest(odd[1], known) : null;
      const meant = guess ? ` Did you mean \`${guess}\`?` : '';
      const what = !odd
        ? 'Nothing to change was named.'
        : odd[2] === null
          ? `${quoted(odd[0])} is not of the form \`key=value\`.`
          : `${quoted(odd[1]!)} is not a hyperparameter of **${model}**.`;
      if (known.length === 0) {
        return {
          emoji: 'confused',
          text: `${what} **${model}** has no hyperparameters: they stand in \`cdl.yaml\`, under \`models.${model}.hyperparameters\`. To train the same anew with the next seed:\n\n\`\`\`\n/retrain\n\`\`\``,
        };
      }
      const list = Object.entries(config.hyperparameters).map(([key, value]) =>
        quoted(`${key}=${String(value)}`),
      );
      const example = `/train ${known[0]}=${inBlock(String(config.hyperparameters[known[0]!]))}`;
      const anew =
        pairs.length === 0
          ? ' Another value, by anyone who may push, becomes a commit that trains with it; `/retrain` trains the same with the next seed.'
          : '';
      return {
        emoji: 'confused',
        text: `${what}${meant} It has: ${list.join(', ')}.${anew} For example:\n\n\`\`\`\n${example}\n\`\`\``,
      };
    }
    const searched = pairs.find(([, key]) => config.tune && Object.hasOwn(config.tune.space, key!));
    if (searched) {
      return {
        emoji: 'confused',
        text: `${quoted(searched[1]!)} is searched by \`tune:\` of **${model}**: what is found there is what it is trained with. To search anew:\n\n\`\`\`\n/tune\n\`\`\``,
      };
    }
    const over = refuseOverBudget(call);
    if (over) return over;
    const values = Object.fromEntries(pairs.map(([, key, value]) => [key!, value!]));
    const permission = await permitMember(call, tools);
    if ('refused' in permission) return permission.refused;
    // Tried on what was read first: a wrong value is told before anything is written.
    const trial = setHyperparameters(headProject, model, values);
    if ('problem' in trial) return { emoji: 'confused', text: `${trial.problem} Nothing was changed.` };
    const list = Object.entries(trial.values).map(([key, value]) => `${key}=${String(value)}`);
    let done: Committed;
    try {
      done = await tools.editFile(
        call.change,
        projectFile,
        (text) => trial.apply(text),
        `train(${model}): ${list.map(inMessage).join(' ')}`,
        permission.person,
      );
    } catch (error) {
      if (!(error instanceof UserError) || error.code !== 'config-invalid') throw error;
      const problems = error.message.split('\n').slice(0, 5).map(quoted).join('\n- ');
      return {
        emoji: 'confused',
        text: `\`cdl.yaml\` would not be valid then, so nothing was changed:\n\n- ${problems}`,
      };
    }
    if (done === 'moved') return movedAnswer;
    if (done === 'same') {
      return {
        emoji: 'eyes',
        text: `${quoted(list.join(' '))} is what \`cdl.yaml\` of this branch says already: nothing to train anew.`,
      };
    }
    return {
      emoji: 'thumbsup',
      text: `Committed ${quoted(list.join(' '))} to \`cdl.yaml\` of this branch, in the name of \`${permission.person.username}\`. Its pipeline trains **${model}** with that; the report follows. Approvals of earlier states are void.`,
      converge: true,
    };
  },
};
