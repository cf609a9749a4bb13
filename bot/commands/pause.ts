import { permitMember } from './permission.ts';
import { notOpen } from './subject.ts';
import type { Answer, Command, Tools } from './types.ts';

/** The answer to a word that came after a newer one. */
const outdated: Answer = {
  emoji: 'eyes',
  text: 'I heard this late: somebody said something newer about pausing this change, and that counts. `/status` says how it stands.',
};

/** Leaves a change alone until somebody says so. */
export const pause: Command<Pick<Tools, 'member' | 'setPaused'>> = {
  name: 'pause',
  usage: '/pause',
  summary: 'Leave this change alone: no evaluation, no lock commit, no decision, until `/resume`.',
  examples: ['/pause'],
  role: 'member',
  async handle(call, tools) {
    const closed = notOpen(call);
    if (closed) return closed;
    const permission = await permitMember(call, tools);
    if ('refused' in permission) return permission.refused;
    const { createdAt } = call.comment;
    if (!(await tools.setPaused(call.change.id, permission.person.username, createdAt))) return outdated;
    return {
      emoji: 'thumbsup',
      text: 'I leave this change alone and only answer. Its status is pending until somebody says:\n\n```\n/resume\n```',
      converge: true,
    };
  },
};

/** Goes on with a paused change. */
export const resume: Command<Pick<Tools, 'member' | 'setPaused'>> = {
  name: 'resume',
  usage: '/resume',
  summary: 'Go on with a paused change.',
  examples: ['/resume'],
  role: 'member',
  async handle(call, tools) {
    // A merged one goes on, too: what was approved is still to be signed.
    const closed = call.change.state === 'closed' ? notOpen(call) : null;
    if (closed) return closed;
    const permission = await permitMember(call, tools);
    if ('refused' in permission) return permission.refused;
    const was = call.models[0]?.facts.paused;
    if (!(await tools.setPaused(call.change.id, null, call.comment.createdAt))) return outdated;
    return {
      emoji: 'thumbsup',
      text: was ? 'I go on with this change.' : 'This change was not paused; I look at it now.',
      converge: true,
    };
  },
};
