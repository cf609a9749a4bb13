import { findQueued } from './merge-queue.ts';
import { changesThatWait } from './standing.ts';
import { findPushes } from './trigger.ts';
import type { BotContext } from './types.ts';
import { deadTasks } from './work.ts';

/** How far back the first look goes, and how much looks overlap: clocks differ, and forges list with a delay. */
const overlap = 10 * 60_000;

/**
 * Looks for what a lost webhook would have told: every open change, those updated since the last look, comments nobody
 * answered, pushes to branches that `triggers:` is about, commits of a merge queue, and the default branch; and for what failed
 * for good: what the forge refused then it may grant now. Not `whole`, it leaves open changes alone that nothing happened to and
 * that wait for no job, so that a project where nothing happens costs one request, and git one. Queues; does nothing itself.
 * Throws UpstreamError.
 */
export async function reconcile(context: BotContext, whole = true): Promise<void> {
  const { forge, state, effects } = context;
  const started = context.now();
  // Comments from before the bot was there are history.
  const since = (await state.cursor('installed')) ?? started.toISOString();
  await state.setCursor('installed', since);
  const looked = await state.cursor('looked');
  const from = new Date(Date.parse(looked ?? started.toISOString()) - overlap).toISOString();
  const [open, recent, waiting] = await Promise.all([
    whole ? forge.listChanges({ state: 'open' }) : [],
    forge.listChanges({ updatedSince: from }),
    whole ? [] : changesThatWait(state),
  ]);
  for (const task of await deadTasks(context)) await effects.enqueue(task);
  const all = new Map([...open, ...recent].map((change) => [change.id, change]));
  for (const change of all.values()) {
    if (change.state === 'closed') continue;
    await effects.enqueue({ kind: 'change', change: change.id });
    const self = await forge.self();
    const said = (await forge.listComments(change.id)).filter(
      (one) => !one.system && one.author.id !== self.id && Date.parse(one.createdAt) >= Date.parse(since),
    );
    for (const comment of await state.unhandled(said.map((one) => one.id))) {
      await effects.enqueue({ kind: 'comment', change: change.id, comment });
    }
  }
  // The end of a job does not count as an update of its change.
  for (const change of waiting) {
    if (!all.has(change)) await effects.enqueue({ kind: 'change', change });
  }
  const known = await state.cursor('heads');
  const heads = await context.mirror.heads();
  await findPushes(context, heads);
  await findQueued(context, heads);
  const isMoved = known !== (await state.cursor('heads'));
  if (whole || isMoved || all.size > 0 || waiting.length > 0) await effects.enqueue({ kind: 'branch' });
  await state.setCursor('looked', started.toISOString());
}
