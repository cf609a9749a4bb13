import type { CommandConsole } from './console.ts';

/** What `--help` says of `--json`, which every command has. */
export const jsonOption = 'print one line of JSON instead of text';

/** What every command gets. */
export interface CommandInput {
  env: NodeJS.ProcessEnv;
  console: CommandConsole;
  version: string;
  cwd: string;
  /** Flags by camelCase name. */
  options: Record<string, unknown>;
  /** Positional arguments; absent ones are undefined. */
  args: (string | undefined)[];
}

/** A command that is no step. Its code is loaded when it is called. */
export interface CommandEntry {
  name: string;
  summary: string;
  arguments: string[];
  options: { flags: string; description: string; default?: string; choices?: string[] }[];
  examples: string[];
  /** More that its `--help` says, loaded when that is asked for. */
  notes?(): Promise<string>;
  load(): Promise<(input: CommandInput) => Promise<number>>;
}
