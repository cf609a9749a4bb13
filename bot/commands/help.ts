import { nearest } from '../../src/index.ts';
import type { Answer, Call, Command } from './types.ts';

const who: Readonly<Record<Command['role'], string>> = {
  anyone: 'anyone',
  member: 'who may push',
  approver: 'approving role',
  'approver-or-data': 'approving role, data',
  data: 'data',
  operator: 'approving role, devops, maintainer',
};

type Described = Pick<Command, 'name' | 'usage' | 'summary' | 'role' | 'examples'>;

/** The one command that knows the others: it lists them, or tells about one. */
export function createHelp(others: readonly Described[]): Command {
  const own = {
    name: 'help',
    usage: '/help [command]',
    summary: 'This list, or more about one command.',
    role: 'anyone' as const,
    examples: ['/help train'],
  };
  const all: Described[] = [...others, own];
  return {
    ...own,
    async handle(call: Call): Promise<Answer> {
      const asked = call.args[0]?.toLowerCase().replace(/^\//, '');
      const one = asked === undefined ? null : all.find(({ name }) => name === asked);
      if (one) {
        return {
          emoji: 'eyes',
          text: [
            `\`${one.usage}\` (${who[one.role]})`,
            one.summary,
            `For example:\n\n\`\`\`\n${one.examples.map((line) => `cdl ${line}`).join('\n')}\n\`\`\``,
          ].join('\n\n'),
        };
      }
      const guess =
        asked === undefined
          ? null
          : nearest(
              asked,
              all.map(({ name }) => name),
            );
      const rows = all.map(({ usage, summary, role }) => {
        const cell = usage.replaceAll('|', '\\|');
        return `| \`${cell}\` | ${summary} | ${who[role]} |`;
      });
      return {
        emoji: 'eyes',
        text: [
          guess
            ? `Did you mean \`/help ${guess}\`?`
            : 'I keep one report per model up to date, and answer these:',
          ['| command | what it does | who |', '|---|---|---|', ...rows].join('\n'),
          'Each stands on a line of its own. `cdl /approve …` means the same as `/approve …`: forges keep some words for themselves (GitLab: `/approve`, `/lock`).',
        ].join('\n\n'),
      };
    },
  };
}
