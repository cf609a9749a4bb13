import { describeError, type Report } from '../src/index.ts';
import { isQuiet } from './quiet.ts';
import type { BotContext } from './types.ts';

const key = 'trouble';

/** What a change was told of last; '' when nothing is in the way. */
const toldCursor = (change: number): string => `trouble/${change}`;

/**
 * Tells the people of a change, once, that the bot cannot go on with it, and why: they would wait for a report that never
 * comes. A draft hears of it when it is ready. What is a bug of ours goes to the log alone, with its trace; here stands only
 * that it happened.
 */
export async function reportTrouble(
  context: Pick<BotContext, 'effects' | 'forge' | 'state'>,
  change: number,
  error: unknown,
): Promise<void> {
  const { code, message, hint } = describeError(error);
  const name = toldCursor(change);
  if ((await context.state.cursor(name)) === message) return;
  const found = await context.forge.getChange(change);
  if (found && isQuiet(found)) return;
  const isBug = code === 'bug';
  const report: Report = {
    key,
    title: 'CDL cannot go on with this change',
    verdict: 'fail',
    summary: isBug ? 'Something unexpected happened; the log of the bot has the details.' : message,
    blocks: [
      {
        kind: 'text',
        text: isBug ? 'Whoever runs the bot has to look.' : (hint ?? 'Whoever runs the bot has to look.'),
      },
    ],
  };
  await context.effects.comment(change, key, report);
  await context.effects.setCursor(name, message);
}

/** Says that it goes on again, after {@link reportTrouble} told of it. */
export async function reportRecovery(
  context: Pick<BotContext, 'effects' | 'state'>,
  change: number,
): Promise<void> {
  const name = toldCursor(change);
  if (!(await context.state.cursor(name))) return;
  await context.effects.comment(change, key, {
    key,
    title: 'CDL goes on with this change',
    verdict: 'pass',
    summary: 'What was in the way is gone.',
    blocks: [],
  });
  await context.effects.setCursor(name, '');
}
