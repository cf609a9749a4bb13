import type { CommandInput } from '../../src/cli/types.ts';
import { UserError } from '../../src/core/error.ts';

/** What a command printed, and how it ended. */
export interface Said<T> {
  code: number;
  text: string;
  value: T;
}

/** Runs a command in this process, which saves starting one; a UserError is its exit code and message. */
export async function call<T>(
  command: (input: CommandInput) => Promise<number>,
  place: { cwd: string; env: NodeJS.ProcessEnv },
  args: (string | string[])[],
  options: Record<string, unknown> = {},
  console: Partial<CommandInput['console']> = {},
): Promise<Said<T>> {
  const said: Said<T> = { code: -1, text: '', value: undefined as T };
  const input: CommandInput = {
    ...place,
    version: '0.0.0',
    options,
    args: args as never,
    console: {
      json: false,
      columns: 120,
      color: false,
      signal: new AbortController().signal,
      log: () => {},
      progress: () => {},
      end: () => {},
      print(text, value) {
        said.text = text;
        said.value = value as T;
      },
      ...console,
    },
  };
  try {
    said.code = await command(input);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    Object.assign(said, { code: error.exit, text: `${error.message}\n${error.hint}` });
  }
  return said;
}

/**
 * A text in which every digest and commit is told by the order of its first mention, in as many digits: what a golden file
 * is about does not change with the bytes of a project.
 */
export function withoutDigests(text: string): string {
  const known = new Map<string, string>();
  return text.replace(
    /(?<![0-9a-z])[0-9a-f]{8}(?:[0-9a-f]{4}(?:[0-9a-f]{28}(?:[0-9a-f]{24})?)?)?(?![0-9a-z])/g,
    (hex) => {
      const key = hex.slice(0, 8);
      if (!known.has(key)) known.set(key, String(known.size + 1).padStart(8, '0'));
      return known.get(key)!.padEnd(hex.length, '0');
    },
  );
}
