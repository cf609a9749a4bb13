import { describeError, type Report } from '../src/index.ts';
import type { BotContext } from './types.ts';

const key = 'trouble';

/**
 * Tells the people of a change that the bot cannot go on with it, and why: they would wait for a report that never comes.
 * What is a bug of ours goes to the log alone, with its trace; here stands only that it happened.
 */
export async function reportTrouble(
  context: Pick<BotContext, 'effects'>,
  change: number,
  error: unknown,
): Promise<void> {
  const { code, message, hint } = describeError(error);
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
}

/** Says that it goes on again, after {@link reportTrouble}. */
export async function reportRecovery(context: Pick<BotContext, 'effects'>, change: number): Promise<void> {
  await context.effects.comment(change, key, {
    key,
    title: 'CDL goes on with this change',
    verdict: 'pass',
    summary: 'What was in the way is gone.',
    blocks: [],
  });
}
