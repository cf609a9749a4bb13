import { escapeInline } from '../../src/index.ts';
import { describeOverrun } from '../budget.ts';
import { readableTime } from '../time.ts';
import type { Answer, Call } from './types.ts';

/** The answer to what would start jobs while a budget is used up; null when there is room. */
export function refuseOverBudget(call: Call): Answer | null {
  const facts = call.models[0]?.facts;
  const over = facts?.spending.over;
  if (!facts || !over) return null;
  const when = over.frees ? ` There is room again at ${readableTime(over.frees)}.` : '';
  return {
    emoji: 'no_entry',
    text: `Not now: ${describeOverrun(over)}.${when} The limit is \`budgets.${over.scope}.${over.unit}\` in \`cdl.yaml\` of ${escapeInline(facts.defaultBranch)}; a change that raises it, merged first, makes room at once.`,
  };
}
