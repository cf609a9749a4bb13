import { escapeInline, escapeLine, parseProject, projectFile } from '../../src/index.ts';
import { setSeed } from '../edit.ts';
import { refuseOverBudget } from './budget.ts';
import { permitMember } from './permission.ts';
import { subjectOf } from './subject.ts';
import type { Command, Tools } from './types.ts';

/**
 * Opens a change that trains the default branch's model anew with the next seed. A new seed and no empty commit: the
 * cache answers the same content with the same candidate.
 */
export const retrain: Command<Pick<Tools, 'member' | 'proposalBase' | 'defaultProject' | 'propose'>> = {
  name: 'retrain',
  usage: '/retrain [--model name]',
  summary: 'Open a change that trains the model of the default branch anew, with the next seed.',
  examples: ['/retrain'],
  role: 'member',
  async handle(call, tools) {
    const subject = subjectOf(call);
    if ('answer' in subject) return subject.answer;
    const { model, defaultBranch } = subject.facts;
    const permission = await permitMember(call, tools);
    if ('refused' in permission) return permission.refused;
    const over = refuseOverBudget(call);
    if (over) return over;
    const base = await tools.proposalBase(call.comment.id);
    const text = await tools.defaultProject(base);
    const config = text === null ? undefined : parseProject(text).models[model];
    if (text === null || !config) {
      return { emoji: 'confused', text: `${escapeLine(defaultBranch)} does not know **${model}** yet.` };
    }
    const seed = config.seed + 1;
    const made = await tools.propose({
      base,
      branch: `cdl/retrain-${model}-seed-${seed}`,
      files: { [projectFile]: setSeed(text, model, seed) },
      title: `train(${model}): seed ${seed}`,
      description: [
        `Trains ${model} of ${escapeInline(defaultBranch)} anew with seed ${seed} instead of ${config.seed}.`,
        `Asked for by ${escapeInline(permission.person.username)} in ${call.change.reference}.`,
      ].join('\n\n'),
      person: permission.person,
    });
    return {
      emoji: 'thumbsup',
      text: `Opened ${made.url}: it trains **${model}** with seed ${seed}. The report follows there.`,
    };
  },
};
