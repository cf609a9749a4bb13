import { approve } from './approve.ts';
import { createHelp } from './help.ts';
import { reject } from './reject.ts';
import { status } from './status.ts';
import type { Command, Tools } from './types.ts';

const decisions: readonly Command<Tools>[] = [approve, reject, status];

/** Every command, by the word after the slash. */
export const commands: readonly Command<Tools>[] = [...decisions, createHelp(decisions)];

/** The words after the slash. */
export const commandNames: readonly string[] = commands.map((command) => command.name);
