import { type Status, UpstreamError, UserError } from '../src/index.ts';
import type { BotContext, Facts } from './types.ts';

type Ports = Pick<BotContext, 'state' | 'effects'>;

const notes = (change: number): string => `pending/${change}/`;

/** Ends what a status was left to wait with at a commit, if that is another one than `head`. */
async function end({ state, effects }: Ports, note: string, head: string | null): Promise<void> {
  const [before, pipeline] = ((await state.cursor(note)) ?? '').split(' ');
  if (!before || before === head) return;
  const name = note.slice(note.indexOf('/', note.indexOf('/') + 1) + 1);
  const description = head === null ? 'the change is not open any more' : 'a later commit is looked at';
  try {
    await effects.status(before, {
      name,
      state: 'canceled',
      description,
      url: null,
      pipeline: pipeline || null,
    });
  } catch (error) {
    // The commit may be gone, or its pipeline: then nothing waits there.
    const isGone = error instanceof UserError || (error instanceof UpstreamError && !error.retryable);
    if (!isGone) throw error;
  }
  await effects.setCursor(note, '');
}

/**
 * Says at the head of a change how a model stands, while the change is open. What an earlier head, or a change that is over, was
 * left to wait with is taken back: GitLab counts a pending status as a job that runs, and would show the pipeline of that commit
 * as running for good. Throws UpstreamError.
 */
export async function sayStatus(
  context: Ports,
  { id, head, state }: Pick<Facts['change'], 'id' | 'head' | 'state'>,
  status: Status,
): Promise<void> {
  const note = `${notes(id)}${status.name}`;
  const isOpen = state === 'open';
  await end(context, note, isOpen ? head : null);
  if (!isOpen) return;
  await context.effects.status(head, status);
  const waits = status.state === 'pending' || status.state === 'running';
  await context.effects.setCursor(note, waits ? `${head} ${status.pipeline ?? ''}` : '');
}

/** Takes back whatever statuses of a change wait for something. Throws UpstreamError. */
export async function endStatuses(context: Ports, change: number): Promise<void> {
  for (const note of await context.state.cursors(notes(change))) await end(context, note, null);
}
