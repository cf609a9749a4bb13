import type { Change } from '../src/index.ts';
import { reportKey } from './report.ts';
import type { BotContext, Facts } from './types.ts';

/** Whether a change is to be told nothing but its statuses: a draft is somebody's desk. */
export function isQuiet(change: Pick<Change, 'draft' | 'state'>): boolean {
  return change.draft && change.state === 'open';
}

/** Whether the report about a model is there (`report`) or was put aside while the change is a draft (`draft`). */
const reportCursor = ({ change, ...facts }: Pick<Facts, 'change' | 'model' | 'environment' | 'isFirst'>) =>
  `told/${change.id}/${reportKey(facts)}`;

/** Notes, once, that a change has a report about a model: before it is written. */
export async function noteReport(context: BotContext, facts: Facts): Promise<void> {
  const name = reportCursor(facts);
  if ((await context.state.cursor(name)) !== 'report') await context.effects.setCursor(name, 'report');
}

/**
 * Puts the report of a change that became a draft aside, once: it names no digest to approve any more. A change without a
 * report gets none. Throws UpstreamError (try again later).
 */
export async function putAside(context: BotContext, facts: Facts): Promise<void> {
  const name = reportCursor(facts);
  if ((await context.state.cursor(name)) !== 'report') return;
  const key = reportKey(facts);
  await context.effects.comment(facts.change.id, key, {
    key,
    title: `${facts.model}${facts.isFirst ? '' : ` for ${facts.environment}`}`,
    verdict: 'warn',
    summary:
      'The change is a draft now: its report comes back when it is ready. Until then the status says how it stands, and /status more.',
    blocks: [],
  });
  await context.effects.setCursor(name, 'draft');
}
