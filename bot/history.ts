import { z } from 'zod';
import { shortDigest, UserError } from '../src/index.ts';
import type { BotContext, Facts } from './types.ts';

const rowSchema = z.object({
  review: z.string(),
  version: z.number(),
  verdict: z.enum(['pass', 'warn', 'fail']),
  metric: z.string(),
  value: z.number().nullable(),
  at: z.string(),
});

/** An evaluated state of a change: what its report was about. */
export type HistoryRow = z.infer<typeof rowSchema>;

/** What a report tells besides the facts that its verdict is made of. */
export interface Background {
  /** Earlier states of this change, oldest first; without the current one. */
  history: HistoryRow[];
  /** Seconds the training took; null when the run does not say. */
  seconds: number | null;
}

/** States of one change that are kept. */
const mostRows = 20;

const cursorOf = (facts: Facts): string => `history/${facts.change.id}/${facts.model}/${facts.environment}`;

function currentRow(facts: Facts, now: Date): HistoryRow | null {
  const { review, answer, claim } = facts;
  if (!review || !answer || claim.kind !== 'verified') return null;
  const { metrics } = answer.evaluation.scores;
  const metric =
    facts.rules?.project.requirements.metrics.find((name) => Object.hasOwn(metrics, name)) ??
    Object.keys(metrics)[0] ??
    '';
  return {
    review: shortDigest(review),
    version: claim.claim.version,
    verdict: answer.evaluation.verdict,
    metric,
    value: metrics[metric]?.value ?? null,
    at: now.toISOString(),
  };
}

async function secondsOf(context: BotContext, facts: Facts): Promise<number | null> {
  if (facts.claim.kind !== 'verified') return null;
  try {
    const { seconds } = (await context.work.getArtifact(facts.claim.claim.run)).meta;
    return typeof seconds === 'number' && seconds >= 0 ? seconds : null;
  } catch (error) {
    // Told by the change's own job: a figure that is not there stops nothing.
    if (error instanceof UserError) return null;
    throw error;
  }
}

/** Reads what came before, and keeps the current state for later. */
export async function readBackground(context: BotContext, facts: Facts): Promise<Background> {
  const name = cursorOf(facts);
  const kept = z.array(rowSchema).parse(JSON.parse((await context.state.cursor(name)) || '[]'));
  const row = currentRow(facts, context.now());
  if (row && !kept.some((one) => one.review === row.review)) {
    await context.effects.setCursor(name, JSON.stringify([...kept, row].slice(-mostRows)));
  }
  return {
    history: kept.filter((one) => one.review !== row?.review),
    seconds: await secondsOf(context, facts),
  };
}
