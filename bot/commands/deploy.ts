import { escapeInline, nearest } from '../../src/index.ts';
import { readableTime } from '../time.ts';
import { permit } from './permission.ts';
import { quoted, subjectOf } from './subject.ts';
import type { Command, Tools } from './types.ts';

/** Runs the deployment of what is approved on the default branch again: after a job that was lost, or one that failed. */
export const deploy: Command<
  Pick<Tools, 'member' | 'roleOf' | 'lockedAt' | 'deployable' | 'startDeployment'>
> = {
  name: 'deploy',
  usage: '/deploy <environment> [--model name]',
  summary: 'Start the deployment of what `cdl.lock` of the default branch names for an environment, again.',
  examples: ['/deploy production'],
  role: 'operator',
  async handle(call, tools) {
    const subject = subjectOf(call, call.args[0]);
    if ('answer' in subject) return subject.answer;
    const { facts } = subject;
    const { model, defaultBranch } = facts;
    const environments = Object.keys(facts.rules?.model.environments ?? {});
    const environment = call.args[0] ?? (environments.length === 1 ? environments[0]! : '');
    if (!environments.includes(environment)) {
      const guess = environment === '' ? null : nearest(environment, environments);
      return {
        emoji: 'confused',
        text: `${environment === '' ? 'Please say where to' : `**${model}** has no environment ${quoted(environment)} on ${escapeInline(defaultBranch)}`}.${guess ? ` Did you mean \`${guess}\`?` : ''} It has: ${environments.map(quoted).join(', ') || 'none'}.`,
      };
    }
    const permission = await permit(call, tools, ['devops', 'maintainer']);
    if ('refused' in permission) return permission.refused;
    const locked = await tools.lockedAt(facts, environment);
    if (!locked) {
      return {
        emoji: 'confused',
        text: `\`cdl.lock\` of ${escapeInline(defaultBranch)} has no entry of **${model}** for ${quoted(environment)} yet: merge an approved change first.`,
      };
    }
    const { version } = locked.entry.info;
    const where = await tools.deployable(facts, environment, locked.entry);
    switch (where.kind) {
      case 'live':
        return {
          emoji: 'eyes',
          text: `Version ${version} of **${model}** serves ${quoted(environment)} already.`,
        };
      case 'under-way':
        return {
          emoji: 'eyes',
          text: `Version ${version} of **${model}** is on its way to ${quoted(environment)} since ${readableTime(where.since)}.`,
        };
      case 'not-approved':
        return {
          emoji: 'no_entry',
          text: `Version ${version} is not approved for ${quoted(environment)}${where.revoked ? ' any more: it was revoked' : ''}, so its deployment would be refused. Propose it in a change, and have it approved there.`,
        };
      case 'ready': {
        if (!locked.isCurrent) {
          return {
            emoji: 'confused',
            text: `Version ${version} was made from other code or configuration than ${escapeInline(defaultBranch)} has now, and deploying checks that. \`/rollback\` brings back what fits, a new change what is new.`,
          };
        }
        const { url } = await tools.startDeployment(call.comment.id, model, environment);
        return {
          emoji: 'thumbsup',
          text: `Started: ${url} brings version ${version} of **${model}** to ${quoted(environment)}, after the same checks as ever. How it goes is in the report of the change that proposed it.`,
          converge: true,
        };
      }
    }
  },
};
