import { z } from 'zod';
import { requiredApprovals } from '../src/index.ts';
import type { BotContext, BotState, Facts } from './types.ts';

const pressedSchema = z.record(z.string(), z.string());

/** Name of the note about which report people last saw for a model. */
export function shownCursor(facts: Pick<Facts, 'change' | 'model' | 'environment'>): string {
  return `shown/${facts.change.id}/${facts.model}/${facts.environment}`;
}

/** Heads that a note names at most: those of the bot's own commits, and of rebases. */
const mostHeads = 20;

/** What the note of {@link shownCursor} says: the report, since when it is shown (ISO 8601, the forge's clock), and for which heads. */
function readShown(note: string | null): { review: string; since: string; heads: string[] } | null {
  const [review, since = '', ...heads] = (note ?? '').split(' ');
  return review ? { review, since, heads } : null;
}

/**
 * The note that a report is shown for a head; `before` is what the note said until now, `at` when the forge says that the
 * report was written: it says when the button was pressed, too, and the bot's clock may run ahead of its.
 */
export function renderShown(review: string, head: string, before: string | null, at: string): string {
  const shown = readShown(before);
  const { since, heads } = shown?.review === review ? shown : { since: at, heads: [] };
  return [review, since, ...[...heads.filter((one) => one !== head), head].slice(-mostHeads)].join(' ');
}

const withdrawnCursor = (change: number): string => `withdrawn/${change}`;

/** Ids of people who took back on a change what they had approved with the button. */
export async function readWithdrawn(state: Pick<BotState, 'cursor'>, change: number): Promise<string[]> {
  return z.array(z.string()).parse(JSON.parse((await state.cursor(withdrawnCursor(change))) || '[]'));
}

/**
 * Takes what people said with the forge's own button as approvals of the report that was shown at that moment, where the
 * default branch's rules want that (`approvals.forge_button`). Who pressed it before there was a report, or for an earlier
 * one, has approved nothing: the button names no digest. True when approvals came or went, so that the change is to be
 * read again. A review of an earlier head counts only where that head had the same report (GitHub names the head).
 */
export async function countButton(
  context: Pick<BotContext, 'forge' | 'state' | 'now'>,
  read: Pick<Facts, 'change'> & { models: readonly Facts[] },
): Promise<boolean> {
  const { forge, state } = context;
  const { change, models } = read;
  const judged = models.filter(({ rules }) => rules?.project.approvals.forge_button);
  if (judged.length === 0 || change.state !== 'open') return false;
  const name = `buttons/${change.id}`;
  const before = pressedSchema.parse(JSON.parse((await state.cursor(name)) ?? '{}'));
  const now: Record<string, string> = {};
  let changed = false;
  for (const { person, at, commit } of await forge.approvers(change.id)) {
    now[person.id] = at ?? '';
    if (before[person.id] === now[person.id]) continue;
    for (const facts of judged) {
      const shown = readShown(await state.cursor(shownCursor(facts)));
      if (facts.review === null || shown?.review !== facts.review) continue;
      // Heard late: they pressed it before there was this report to see.
      if (at !== null && Date.parse(at) < Date.parse(shown.since)) continue;
      // They had an earlier head before them, for which another report (or none) was shown.
      if (commit !== null && commit !== change.head && !shown.heads.includes(commit)) continue;
      await state.addApproval({
        change: change.id,
        model: facts.model,
        environment: facts.environment,
        review: facts.review,
        userId: person.id,
        username: person.username,
        role: requiredApprovals(facts.rules!.project.approvals)[0]!.role,
        override: null,
        comment: 'button',
        at: at ?? context.now().toISOString(),
      });
      changed = true;
    }
  }
  const gone = Object.keys(before).filter((userId) => !(userId in now));
  if (gone.length > 0) {
    // First the note: a decision that was signed on their word is taken back by it.
    const all = [...new Set([...(await readWithdrawn(state, change.id)), ...gone])];
    await state.setCursor(withdrawnCursor(change.id), JSON.stringify(all));
    for (const userId of gone) await state.withdrawButton(change.id, userId);
    changed = true;
  }
  if (JSON.stringify(now) !== JSON.stringify(before)) await state.setCursor(name, JSON.stringify(now));
  return changed;
}
