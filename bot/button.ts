import { z } from 'zod';
import type { ReadChange } from './read.ts';
import type { BotContext, Facts } from './types.ts';

const pressedSchema = z.record(z.string(), z.string());

/** Name of the note about which report people last saw for a model. */
export function shownCursor(facts: Pick<Facts, 'change' | 'model' | 'environment'>): string {
  return `shown/${facts.change.id}/${facts.model}/${facts.environment}`;
}

/**
 * Takes what people said with the forge's own button as approvals of the report that was shown at that moment, where the
 * default branch's rules want that (`approvals.forge_button`). Who pressed it before there was a report, or for an earlier
 * one, has approved nothing: the button names no digest. True when approvals came or went, so that the change is to be
 * read again.
 */
export async function countButton(
  context: Pick<BotContext, 'forge' | 'state' | 'now'>,
  read: Extract<ReadChange, { kind: 'read' }>,
): Promise<boolean> {
  const { forge, state } = context;
  const { change, models } = read;
  const judged = models.filter(({ rules }) => rules?.project.approvals.forge_button);
  if (judged.length === 0 || change.state !== 'open') return false;
  const name = `buttons/${change.id}`;
  const before = pressedSchema.parse(JSON.parse((await state.cursor(name)) ?? '{}'));
  const now: Record<string, string> = {};
  let changed = false;
  for (const { person, at } of await forge.approvers(change.id)) {
    now[person.id] = at ?? '';
    if (before[person.id] === now[person.id]) continue;
    for (const facts of judged) {
      if (facts.review === null || (await state.cursor(shownCursor(facts))) !== facts.review) continue;
      await state.addApproval({
        change: change.id,
        model: facts.model,
        environment: facts.environment,
        review: facts.review,
        userId: person.id,
        username: person.username,
        role: facts.rules!.project.approvals.role,
        override: null,
        comment: 'button',
        at: context.now().toISOString(),
      });
      changed = true;
    }
  }
  for (const userId of Object.keys(before)) {
    if (userId in now) continue;
    await state.withdrawButton(change.id, userId);
    changed = true;
  }
  if (JSON.stringify(now) !== JSON.stringify(before)) await state.setCursor(name, JSON.stringify(now));
  return changed;
}
