import { permitMember } from './permission.ts';
import { movedAnswer, notOpen, quoted } from './subject.ts';
import type { Command, Tools } from './types.ts';

/** Brings cdl.lock of the branch in order: merged with the default branch by whole entries, and written anew. */
export const lock: Command<Pick<Tools, 'member' | 'refreshLock'>> = {
  name: 'lock',
  usage: '/lock refresh',
  summary: 'Merge the default branch with `cdl.lock` resolved by whole entries, and write the entry anew.',
  examples: ['/lock refresh'],
  role: 'member',
  async handle(call, tools) {
    if (call.args[0]?.toLowerCase() !== 'refresh') {
      return {
        emoji: 'confused',
        text: 'The only thing to do with the lock by hand is:\n\n```\ncdl /lock refresh\n```',
      };
    }
    const closed = notOpen(call);
    if (closed) return closed;
    const permission = await permitMember(call, tools);
    if ('refused' in permission) return permission.refused;
    const done = await tools.refreshLock(call.change, permission.person);
    if (typeof done === 'object') {
      return {
        emoji: 'confused',
        text: `The branch conflicts in files that only people can merge: ${done.conflict.slice(0, 10).map(quoted).join(', ')}. Merge or rebase it yourself; \`cdl.lock\` may be taken from either side, I write it anew.`,
      };
    }
    if (done === 'moved') return movedAnswer;
    const target = quoted(call.change.targetBranch);
    return {
      emoji: 'thumbsup',
      text:
        done === 'same'
          ? `The branch has everything of ${target} already; the entry in \`cdl.lock\` is written anew where it differs.`
          : `Merged ${target} into the branch; entries of \`cdl.lock\` were taken whole, and the one of this change is written anew when it is judged.`,
      converge: true,
    };
  },
};
