import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { type DataDecision, dataDecisionPrefix, openDataChain } from '../core/data-decision.ts';
import { type Decision, decisionPrefix, openChain } from '../core/decision.ts';
import { UserError } from '../core/error.ts';
import { type LiveState, liveKey, liveStateSchema } from '../core/live.ts';
import type { Zone } from '../store/types.ts';

/**
 * The record of an environment with the etag to swap it against; null when nothing was ever deployed there. Throws
 * UserError artifact-corrupt for one that is none.
 */
export async function readLiveRecord(
  trusted: Zone,
  project: string,
  model: string,
  environment: string,
): Promise<{ state: LiveState; etag: string } | null> {
  const key = liveKey(project, model, environment);
  const record = await trusted.readRecord(key);
  if (!record) return null;
  const parsed = liveStateSchema.safeParse(record.value);
  if (!parsed.success) throw new UserError('artifact-corrupt', `${key}: ${z.prettifyError(parsed.error)}`);
  return { state: parsed.data, etag: record.etag };
}

async function readEnvelopes(trusted: Zone, prefix: string): Promise<unknown[]> {
  const envelopes: unknown[] = [];
  for await (const entry of trusted.listRecords(prefix)) {
    envelopes.push((await trusted.readRecord(entry.key))?.value);
  }
  return envelopes;
}

/**
 * Every decision about an environment, oldest first, and the envelopes they came in, to go on from. Throws UserError
 * decision-invalid when any of them does not verify.
 */
export async function readChain(
  trusted: Zone,
  keys: ReadonlyMap<string, KeyObject>,
  project: string,
  model: string,
  environment: string,
): Promise<{ decisions: Decision[]; envelopes: unknown[] }> {
  const envelopes = await readEnvelopes(trusted, decisionPrefix(project, model, environment));
  return { decisions: openChain(envelopes, keys, { project, model, environment }), envelopes };
}

/** Every decision about the versions of a data set, oldest first, as {@link readChain}. Throws UserError decision-invalid. */
export async function readDataChain(
  trusted: Zone,
  keys: ReadonlyMap<string, KeyObject>,
  project: string,
  dataset: string,
): Promise<{ decisions: DataDecision[]; envelopes: unknown[] }> {
  const envelopes = await readEnvelopes(trusted, dataDecisionPrefix(project, dataset));
  return { decisions: openDataChain(envelopes, keys, { project, dataset }), envelopes };
}
