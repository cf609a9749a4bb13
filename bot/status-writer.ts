import { type Status, UpstreamError, UserError } from '../src/index.ts';
import type { BotContext, Facts } from './types.ts';

/**
 * Says at the head of a change how a model stands. What an earlier head was left to wait with is taken back first: GitLab counts
 * a pending status as a job that runs, and would show the pipeline of that commit as running for good. Throws UpstreamError.
 */
export async function sayStatus(
  { state, effects }: Pick<BotContext, 'state' | 'effects'>,
  { id, head }: Pick<Facts['change'], 'id' | 'head'>,
  status: Status,
): Promise<void> {
  const note = `pending/${id}/${status.name}`;
  const [before, pipeline] = ((await state.cursor(note)) ?? '').split(' ');
  if (before && before !== head) {
    const { name } = status;
    const over = { state: 'canceled', description: 'a later commit is looked at', url: null } as const;
    try {
      await effects.status(before, { name, ...over, pipeline: pipeline || null });
    } catch (error) {
      // The commit may be gone, or its pipeline: then nothing waits there.
      const isGone = error instanceof UserError || (error instanceof UpstreamError && !error.retryable);
      if (!isGone) throw error;
    }
  }
  await effects.status(head, status);
  const waits = status.state === 'pending' || status.state === 'running';
  await effects.setCursor(note, waits ? `${head} ${status.pipeline ?? ''}` : '');
}
