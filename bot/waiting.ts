import type { BotContext } from './types.ts';

/** Name of the note about where the default branch was when every open change was last queued because of it. */
const tipCursor = 'tip';

const asking = 'asking/';

/** Name of the note about the evaluation that a change waits for; says nothing when it waits for none. */
export function askingCursor(change: number, model: string, environment: string): string {
  return `${asking}${change}/${model}/${environment}`;
}

/**
 * Queues the changes that an event of the default branch may be about: all open ones when the branch moved, for they are
 * judged by what stands there; otherwise those that wait for an evaluation, which may have ended. `tip` is its head. Throws
 * UpstreamError (try again later).
 */
export async function queueWaiting(context: BotContext, tip: string): Promise<void> {
  const { forge, state, effects } = context;
  const isMoved = (await state.cursor(tipCursor)) !== tip;
  const names = isMoved ? [] : await state.cursors(asking);
  if (!isMoved && names.length === 0) return;
  const waiting = new Set(names.map((name) => Number(name.slice(asking.length).split('/', 1)[0])));
  for (const { id } of await forge.listChanges({ state: 'open' })) {
    if (isMoved || waiting.has(id)) await effects.enqueue({ kind: 'change', change: id });
  }
  // Last: killed before, they are queued again.
  if (isMoved) await effects.setCursor(tipCursor, tip);
}
