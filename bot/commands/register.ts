import { shortDigest } from '../../src/index.ts';
import { permitMember } from './permission.ts';
import { notOpen, quoted, subjectOf } from './subject.ts';
import type { Command, Tools } from './types.ts';

/** Proposes a version of the registry, whoever made it, as what this change makes: for a checkpoint of another machine. */
export const register: Command<Pick<Tools, 'member' | 'registered' | 'setRegistered'>> = {
  name: 'register',
  usage: '/register <version | checkpoint> [--model name]',
  summary: 'Propose a registered version (or the one of a checkpoint) that was made from this very code.',
  examples: ['/register 7', '/register 3f9a2c41b7d6'],
  role: 'member',
  async handle(call, tools) {
    const closed = notOpen(call);
    if (closed) return closed;
    const subject = subjectOf(call);
    if ('answer' in subject) return subject.answer;
    const { facts } = subject;
    const { model } = facts;
    const given = (call.args[0] ?? '').toLowerCase().replace(/^sha256:/, '');
    const version = /^v?(\d{1,7})$/.exec(given)?.[1];
    if (version === undefined && !/^[0-9a-f]{8,64}$/.test(given)) {
      return {
        emoji: 'confused',
        text: 'Please name the number of a version, or at least 8 digits of a checkpoint’s digest:\n\n```\n/register 7\n```',
      };
    }
    const permission = await permitMember(call, tools);
    if ('refused' in permission) return permission.refused;
    const found = await tools.registered(
      facts,
      version === undefined ? { prefix: given } : { version: Number(version) },
    );
    switch (found.kind) {
      case 'unknown':
        return {
          emoji: 'confused',
          text: `The registry has no ${version === undefined ? `version of **${model}** with the checkpoint ${quoted(given)}` : `version ${version} of **${model}**`}.${found.known.length > 0 ? ` Its newest: ${found.known.slice(-10).join(', ')}.` : ''} A checkpoint becomes one by \`cdl package\` and \`cdl register\`, on whatever machine it is.`,
        };
      case 'several':
        return {
          emoji: 'confused',
          text: `${quoted(given)} is the checkpoint of versions ${found.versions.join(', ')}: please name one of them.`,
        };
      case 'differs':
        return {
          emoji: 'confused',
          text: `Version ${found.version} of **${model}** was made from something else than this change has:\n\n${found.what.map((one) => `- ${quoted(one)}`).join('\n')}\n\nBring the branch to what it was trained from, or train what the branch has.`,
        };
      case 'fits': {
        const { claim } = found;
        const said = { by: permission.person, at: call.comment.createdAt };
        if (!(await tools.setRegistered(call.change.id, model, claim, said))) {
          return {
            emoji: 'eyes',
            text: `I heard this late: another version of **${model}** was proposed here since, and that one counts. To propose version ${claim.version} after all, say so again.`,
          };
        }
        return {
          emoji: 'thumbsup',
          text: `Version ${claim.version} of **${model}** (checkpoint \`${shortDigest(claim.candidate.checkpoint)}\`) was made from exactly this code and configuration: it is proposed, and evaluated next. The entry of \`cdl.lock\` follows as a commit.`,
          converge: true,
        };
      }
    }
  },
};
