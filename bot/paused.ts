import type { BotState } from './types.ts';

const nameOf = (change: number): string => `paused/${change}`;

/** The last word about leaving a change alone: whose it was (null: go on) and when it was written, in ISO 8601. */
interface Word {
  by: string | null;
  at: string;
}

async function lastWord(state: Pick<BotState, 'cursor'>, change: number): Promise<Word> {
  const [at = '', by] = ((await state.cursor(nameOf(change))) ?? '').split(' ');
  return { at, by: by || null };
}

/** Who told the bot to leave a change alone; null when nobody did, or somebody took it back. */
export async function pausedBy(state: Pick<BotState, 'cursor'>, change: number): Promise<string | null> {
  return (await lastWord(state, change)).by;
}

/** Notes a word about it, and whether it counts: an older one that is read late does not. */
export async function setPaused(
  state: Pick<BotState, 'cursor' | 'setCursor'>,
  change: number,
  word: Word,
): Promise<boolean> {
  const last = await lastWord(state, change);
  if (Date.parse(last.at) > Date.parse(word.at)) return false;
  await state.setCursor(nameOf(change), `${word.at} ${word.by ?? ''}`);
  return true;
}
