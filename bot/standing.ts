import { z } from 'zod';
import { digestJson } from '../src/index.ts';
import type { Converged } from './converge.ts';
import type { BotState } from './types.ts';

const standingSchema = z.object({
  at: z.string(),
  models: z.array(
    z.object({
      model: z.string(),
      environment: z.string(),
      state: z.enum(['pending', 'running', 'success', 'failed', 'canceled']),
      says: z.string(),
    }),
  ),
});

/** How a change stood when a bot looked at it last: what its statuses and reports say. `at` in ISO 8601, to the minute. */
export type ChangeStanding = z.infer<typeof standingSchema>;

const prefix = 'standing/';

const waits = 'waits/';

/** Milliseconds for which the time of a look is good enough, when nothing else is another one. */
const fresh = 60_000;

/** Where a change goes on when a job ends. */
const jobBound: ReadonlySet<Converged['standing']> = new Set(['waiting', 'evaluating']);

/** Approved, it may be merged at any time, and nothing tells that who approved has lost the right to. */
const isMergeable = ({ isOpen, standing, status }: Converged): boolean =>
  isOpen && standing === 'judged' && status.state === 'success';

/** Notes how a change stands, for whoever asks for the status of the bot. */
export async function noteStanding(
  state: Pick<BotState, 'cursor' | 'setCursor'>,
  change: number,
  models: readonly Converged[],
  now: Date,
): Promise<void> {
  const standing: ChangeStanding = {
    at: now.toISOString(),
    models: models.map(({ model, environment, status }) => ({
      model,
      environment,
      state: status.state,
      says: status.description,
    })),
  };
  const name = `${prefix}${change}`;
  const before = readStandings([{ name, value: (await state.cursor(name)) ?? '' }]).get(change);
  const isSame = before && digestJson(before.models) === digestJson(standing.models);
  if (!isSame || now.getTime() - Date.parse(before.at) >= fresh) {
    await state.setCursor(name, JSON.stringify(standing));
  }
  const waitsForJob = models.some((one) => jobBound.has(one.standing));
  const waitsFor = waitsForJob ? 'for a job' : models.some(isMergeable) ? 'for the merge' : '';
  await state.setCursor(`${waits}${change}`, waitsFor);
}

/** Numbers of the changes that waited for a job, or for being merged, when a bot looked at them last. */
export async function changesThatWait(state: Pick<BotState, 'cursors'>): Promise<number[]> {
  return (await state.cursors(waits)).map((name) => Number(name.slice(waits.length)));
}

/** How the changes stand, by number; those that another version of the bot noted in its own way are left out. */
export function readStandings(
  cursors: readonly { name: string; value: string }[],
): Map<number, ChangeStanding> {
  const found = new Map<number, ChangeStanding>();
  for (const { name, value } of cursors) {
    if (!name.startsWith(prefix)) continue;
    try {
      found.set(Number(name.slice(prefix.length)), standingSchema.parse(JSON.parse(value)));
    } catch {
      // The next look writes it anew.
    }
  }
  return found;
}
