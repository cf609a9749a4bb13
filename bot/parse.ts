import { nearest } from '../src/index.ts';
import { plainLines } from './plain-lines.ts';

/** One line of a comment that speaks to the bot. */
export type Spoken =
  | { kind: 'command'; name: string; args: string[]; options: Record<string, string>; line: string }
  /** Begins like a command and is nearly one; or is said to the bot by name and is none at all (null). */
  | { kind: 'typo'; name: string; suggestion: string | null };

/** More lines than this in one comment are no conversation. */
const mostCommands = 10;

/** Words of a line: quoted ones may hold spaces, `--name value` and `--name=value` become options. */
function words(text: string): { args: string[]; options: Record<string, string> } {
  const tokens = [...text.matchAll(/"((?:[^"\\]|\\.)*)"|“([^”]*)”|(\S+)/g)].map((match) => ({
    text: (match[1]?.replace(/\\(.)/g, '$1') ?? match[2] ?? match[3] ?? '').trim(),
    bare: match[3] !== undefined,
  }));
  const args: string[] = [];
  const options: Record<string, string> = Object.create(null) as Record<string, string>;
  for (let index = 0; index < tokens.length; index++) {
    const token = tokens[index]!;
    const option = token.bare ? /^--([a-z][a-z-]{0,30})(?:=(.*))?$/.exec(token.text) : null;
    if (!option) {
      args.push(token.text);
      continue;
    }
    if (option[2] !== undefined) {
      options[option[1]!] = option[2].replace(/^"|"$/g, '');
      continue;
    }
    const next = tokens[index + 1];
    const isValue = next && !(next.bare && next.text.startsWith('--'));
    options[option[1]!] = isValue ? next.text : '';
    if (isValue) index++;
  }
  return { args, options };
}

/**
 * Finds the commands in a comment. Total: whatever the text, the answer is a list, empty when nobody spoke to the bot.
 * `cdl /approve …` and `/cdl approve …` mean the same as `/approve …`: GitLab takes some bare words for quick actions of its
 * own, and keeps them from us.
 */
export function parseComment(body: string, commands: readonly string[]): Spoken[] {
  const spoken: Spoken[] = [];
  for (const line of plainLines(body)) {
    const match = /^ {0,3}(cdl[ \t]+)?\/(cdl[ \t]+\/?)?([A-Za-z][A-Za-z-]{1,30})(?:[ \t]+(.*))?$/.exec(
      line.trimEnd(),
    );
    if (!match) continue;
    const name = match[3]!.toLowerCase();
    if (commands.includes(name)) {
      const { args, options } = words((match[4] ?? '').slice(0, 2000));
      spoken.push({ kind: 'command', name, args, options, line: line.trim() });
    } else {
      const suggestion = nearest(name, commands);
      // A bare word with a slash may be a path or a quick action; one with our name before it is meant for us.
      if (suggestion || match[1] !== undefined || match[2] !== undefined)
        spoken.push({ kind: 'typo', name, suggestion });
    }
    if (spoken.length === mostCommands) break;
  }
  return spoken;
}
