import { findQueued } from './merge-queue.ts';
import { findPushes } from './trigger.ts';
import type { BotContext } from './types.ts';
import { deadTasks } from './work.ts';

/** How far back the first look goes, and how much looks overlap: clocks differ, and forges list with a delay. */
const overlap = 10 * 60_000;

/**
 * Looks for what a lost webhook would have told: every open change, those updated since the last look, comments nobody
 * answered, pushes to branches that
 * `triggers:` is about, commits of a merge queue, and the default branch; and for what failed for good: what the forge refused
 * then it may grant now. Queues; does
 * nothing itself. Throws UpstreamError.
 */
export async function reconcile(context: BotContext): Promise<void> {
  const { forge, state, effects } = context;
  const started = context.now();
  // Comments from before the bot was there are history.
  const since = (await state.cursor('installed')) ?? started.toISOString();
  await state.setCursor('installed', since);
  const looked = await state.cursor('looked');
  const from = new Date(Date.parse(looked ?? started.toISOString()) - overlap).toISOString();
  const [open, recent, self] = await Promise.all([
    forge.listChanges({ state: 'open' }),
    forge.listChanges({ updatedSince: from }),
    forge.self(),
  ]);
  for (const task of await deadTasks(context)) await effects.enqueue(task);
  const all = new Map([...open, ...recent].map((change) => [change.id, change]));
  for (const change of all.values()) {
    if (change.state === 'closed') continue;
    await effects.enqueue({ kind: 'change', change: change.id });
    for (const comment of await forge.listComments(change.id)) {
      if (comment.system || comment.author.id === self.id) continue;
      if (Date.parse(comment.createdAt) < Date.parse(since)) continue;
      if (await state.isHandled(comment.id)) continue;
      await effects.enqueue({ kind: 'comment', change: change.id, comment: comment.id });
    }
  }
  const heads = await context.mirror.heads();
  await findPushes(context, heads);
  await findQueued(context, heads, open);
  await effects.enqueue({ kind: 'branch' });
  await state.setCursor('looked', started.toISOString());
}
