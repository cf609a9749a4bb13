import { escapeInline, nearest } from '../../src/index.ts';
import { permit } from './permission.ts';
import { quoted, subjectOf } from './subject.ts';
import type { Command, Tools } from './types.ts';

/** Opens a change that puts back an entry that was promoted here before. */
export const rollback: Command<
  Pick<Tools, 'member' | 'roleOf' | 'promoted' | 'proposalBase' | 'lockWith' | 'propose'>
> = {
  name: 'rollback',
  usage: '/rollback [version] [--model name] [--environment name]',
  summary: 'Open a change that puts back the version before, or the one named; merging it deploys it again.',
  examples: ['/rollback', '/rollback 7 --environment production'],
  role: 'operator',
  async handle(call, tools) {
    const subject = subjectOf(call, call.options.environment);
    if ('answer' in subject) return subject.answer;
    const { facts } = subject;
    const { model } = facts;
    const environments = Object.keys(facts.rules?.model.environments ?? {});
    const environment = call.options.environment ?? environments[0] ?? facts.environment;
    if (!environments.includes(environment)) {
      const guess = nearest(environment, environments);
      return {
        emoji: 'confused',
        text: `**${model}** has no environment ${quoted(environment)} on ${escapeInline(facts.defaultBranch)}.${guess ? ` Did you mean \`${guess}\`?` : ''}`,
      };
    }
    const permission = await permit(call, tools, ['devops', 'maintainer']);
    if ('refused' in permission) return permission.refused;
    const all = await tools.promoted(facts, environment);
    const back = all.filter((one) => one.liveSince === null);
    const given = call.args[0];
    const live = all.find((one) => one.liveSince !== null);
    // Which version is the one before depends on when that was said.
    if (given === undefined && live && Date.parse(live.liveSince!) > Date.parse(call.comment.createdAt)) {
      const others = back.map((one) => one.version).join(', ') || 'none';
      return {
        emoji: 'confused',
        text: `I heard this late: version ${live.version} of **${model}** went live in ${quoted(environment)} after you wrote it. Please name the version to go back to (promoted there before: ${others}).`,
      };
    }
    const wanted = given === undefined ? null : Number(/^v?(\d{1,9})$/i.exec(given)?.[1] ?? 0);
    const target = wanted === null ? back[0] : back.find((one) => one.version === wanted);
    if (!target) {
      const isLive = wanted !== null && all.some((one) => one.version === wanted && one.liveSince !== null);
      const list = back.map((one) => one.version).join(', ') || 'none';
      return {
        emoji: 'confused',
        text: isLive
          ? `Version ${wanted} is what is live in ${environment} now.`
          : `${given === undefined ? 'There is no version to go back to' : `${quoted(given)} is no version that ran in ${environment}`}. Versions of **${model}** promoted there before: ${list}.`,
      };
    }
    if (!target.isKept) {
      return {
        emoji: 'confused',
        text: `The package of version ${target.version} is not in the trusted zone any more, so it cannot be deployed.`,
      };
    }
    const base = await tools.proposalBase(call.comment.id);
    const made = await tools.propose({
      base,
      branch: `cdl/rollback-${model}-${environment}-v${target.version}`,
      files: { 'cdl.lock': await tools.lockWith(base, model, environment, target.entry) },
      title: `rollback(${model}): version ${target.version} in ${environment}`,
      description: [
        `Puts back version ${target.version} of ${model} in ${environment}, which was promoted there before. Merging this deploys it again; it needs no new approval.`,
        `Asked for by ${escapeInline(permission.person.username)} in ${call.change.reference}.`,
      ].join('\n\n'),
      person: permission.person,
    });
    return {
      emoji: 'thumbsup',
      text: `Opened ${made.url}: merging it brings back version ${target.version} of **${model}** in **${environment}**.`,
    };
  },
};
