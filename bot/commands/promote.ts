import { escapeInline, nearest } from '../../src/index.ts';
import { permit } from './permission.ts';
import { quoted, subjectOf } from './subject.ts';
import type { Command, Tools } from './types.ts';

/** Opens a change that copies the entry of one environment to another, with an evaluation and a decision of its own. */
export const promote: Command<
  Pick<Tools, 'member' | 'roleOf' | 'lockedAt' | 'proposalBase' | 'lockWith' | 'propose'>
> = {
  name: 'promote',
  usage: '/promote [environment] [--from name] [--model name]',
  summary:
    'Open a change that proposes what one environment has for another; it is evaluated and approved there anew.',
  examples: ['/promote production --from staging'],
  role: 'operator',
  async handle(call, tools) {
    const subject = subjectOf(call);
    if ('answer' in subject) return subject.answer;
    const { facts } = subject;
    const { model } = facts;
    const environments = Object.keys(facts.rules?.model.environments ?? {});
    const from = call.options.from ?? environments[0] ?? facts.environment;
    const others = environments.filter((one) => one !== from);
    // Where there is one way to go, that is meant.
    const to = call.args[0] ?? (others.length === 1 ? others[0]! : '');
    if (to === '') {
      return {
        emoji: 'confused',
        text:
          others.length === 0
            ? `**${model}** has no environment besides ${quoted(from)} on ${escapeInline(facts.defaultBranch)}, so there is nowhere to promote it to. Another one goes under \`models.${model}.environments\` in \`cdl.yaml\`, merged first.`
            : `Please say where to. What ${quoted(from)} has is proposed there by a change of its own, asked for by the approving role, devops or maintainer:\n\n\`\`\`\n${others.map((one) => `/promote ${one}`).join('\n')}\n\`\`\``,
      };
    }
    for (const name of [to, from]) {
      if (environments.includes(name)) continue;
      const guess = nearest(name, environments);
      return {
        emoji: 'confused',
        text: `**${model}** has no environment ${quoted(name)} on ${escapeInline(facts.defaultBranch)}.${guess ? ` Did you mean \`${guess}\`?` : ''} It has: ${environments.map(quoted).join(', ') || 'none'}.`,
      };
    }
    if (from === to) {
      return {
        emoji: 'confused',
        text: `${quoted(to)} is where it comes from. Other environments of **${model}**: ${others.map(quoted).join(', ') || 'none'}.`,
      };
    }
    const permission = await permit(call, tools, ['devops', 'maintainer']);
    if ('refused' in permission) return permission.refused;
    const locked = await tools.lockedAt(facts, from);
    if (!locked) {
      return {
        emoji: 'confused',
        text: `\`cdl.lock\` of ${escapeInline(facts.defaultBranch)} has no entry of **${model}** for ${quoted(from)} yet.`,
      };
    }
    const { entry, isCurrent } = locked;
    if (!isCurrent) {
      return {
        emoji: 'confused',
        text: `Version ${entry.info.version} was made from other code or configuration than ${escapeInline(facts.defaultBranch)} has now, and deploying checks that. Bring the current code to ${quoted(from)} first.`,
      };
    }
    const there = await tools.lockedAt(facts, to);
    if (there?.entry.candidate === entry.candidate) {
      return { emoji: 'eyes', text: `${quoted(to)} has version ${entry.info.version} already.` };
    }
    const base = await tools.proposalBase(call.comment.id);
    const made = await tools.propose({
      base,
      branch: `cdl/promote-${model}-${to}-v${entry.info.version}`,
      files: { 'cdl.lock': await tools.lockWith(base, model, to, entry) },
      title: `promote(${model}): version ${entry.info.version} to ${to}`,
      description: [
        `Proposes version ${entry.info.version} of ${model}, which ${from} has, for ${to}. It is evaluated against what is live in ${to} and needs an approval of its own.`,
        `Asked for by ${escapeInline(permission.person.username)} in ${call.change.reference}.`,
      ].join('\n\n'),
      person: permission.person,
    });
    return {
      emoji: 'thumbsup',
      text: `Opened ${made.url}: version ${entry.info.version} of **${model}** is evaluated for **${to}** there, and waits for approval.`,
    };
  },
};
