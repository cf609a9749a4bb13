import type { Answer, Call, Command } from './types.ts';

/** The one command that knows the others: it lists them. */
export function createHelp(others: readonly Pick<Command, 'usage' | 'summary' | 'role'>[]): Command {
  const own = { usage: '/help', summary: 'This list.', role: 'anyone' as const };
  return {
    name: 'help',
    ...own,
    async handle(_call: Call): Promise<Answer> {
      const rows = [...others, own].map(
        ({ usage, summary, role }) =>
          `| \`${usage}\` | ${summary} | ${role === 'approver' ? 'approving role' : 'anyone'} |`,
      );
      return {
        emoji: 'eyes',
        text: [
          'I keep one report per model up to date, and answer these:',
          ['| command | what it does | who |', '|---|---|---|', ...rows].join('\n'),
          'Each stands on a line of its own. `/cdl approve …` means the same as `/approve …`, for forges that keep a word for themselves.',
        ].join('\n\n'),
      };
    },
  };
}
