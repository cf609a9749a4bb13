import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { type DataDecision, dataDecisionPrefix, openDataChain } from '../core/data-decision.ts';
import { type Decision, decisionPrefix, openChain, openDecision } from '../core/decision.ts';
import { UserError } from '../core/error.ts';
import { keepNewest, keptFor } from '../core/keep.ts';
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

/** How many envelopes of a zone are kept in memory; one is about 2 KB. */
const mostEnvelopes = 10_000;

/** Envelopes as they were read, by zone and key: written once, they are read again only when the listing says otherwise. */
const kept = new WeakMap<Zone, Map<string, { etag: string; value: unknown }>>();

async function readEnvelopes(trusted: Zone, prefix: string): Promise<unknown[]> {
  const known = keptFor(kept, trusted);
  const envelopes: unknown[] = [];
  for await (const { key, etag } of trusted.listRecords(prefix)) {
    const before = known.get(key);
    if (before?.etag === etag) {
      envelopes.push(before.value);
      continue;
    }
    const record = await trusted.readRecord(key);
    envelopes.push(record?.value);
    if (!record) continue;
    keepNewest(known, mostEnvelopes, key, record);
  }
  return envelopes;
}

/** Decisions whose signature was verified, by the keys and the envelope in memory. */
const verified = new WeakMap<ReadonlyMap<string, KeyObject>, WeakMap<object, Decision>>();

/** {@link openDecision} that verifies an envelope that is kept in memory once. */
const openOnce: typeof openDecision = (value, keys, where) => {
  if (typeof value !== 'object' || value === null) return openDecision(value, keys, where);
  const known = verified.get(keys) ?? new WeakMap<object, Decision>();
  verified.set(keys, known);
  const decision = known.get(value) ?? openDecision(value, keys, where);
  known.set(value, decision);
  return decision;
};

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
  return { decisions: openChain(envelopes, keys, { project, model, environment }, openOnce), envelopes };
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
