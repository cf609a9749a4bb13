import type { KeyObject } from 'node:crypto';
import {
  type Decision,
  decisionDigest,
  type Envelope,
  openChain,
  type SigningKey,
  signAgain,
} from '../core/decision.ts';
import type { Digest } from '../core/digest.ts';
import { UpstreamError, UserError } from '../core/error.ts';
import { type ChainHead, headKey, headProblem, openHead } from '../core/head.ts';
import type { Zone } from '../store/types.ts';

/** The decisions about one environment of one model, as they lie in the trusted zone. */
export interface Chain {
  model: string;
  environment: string;
  /** Keys of the records, oldest first. */
  keys: string[];
  envelopes: unknown[];
}

/** A chain after it was verified: its decisions with their digests, or why it does not hold. */
export type VerifiedChain = { model: string; environment: string } & (
  | { kind: 'whole'; decisions: Decision[]; digests: Digest[]; signers: string[][]; head: ChainHead | null }
  | { kind: 'broken'; problem: string }
);

/** Every chain of a project, by model and environment. */
export async function listChains(zone: Zone, project: string): Promise<Chain[]> {
  const prefix = `decisions/${encodeURIComponent(project)}/`;
  const chains = new Map<string, Chain>();
  for await (const { key } of zone.listRecords(prefix)) {
    const [model = '', environment = ''] = key.slice(prefix.length).split('/');
    const place = `${model}/${environment}`;
    const chain = chains.get(place) ?? { model, environment, keys: [], envelopes: [] };
    chains.set(place, chain);
    chain.keys.push(key);
    chain.envelopes.push((await zone.readRecord(key))?.value);
  }
  // A chain that was deleted whole leaves its head.
  const heads = `decision-heads/${encodeURIComponent(project)}/`;
  for await (const { key } of zone.listRecords(heads)) {
    const [model = '', file = ''] = key.slice(heads.length).split('/');
    const environment = file.replace(/\.json$/, '');
    const place = `${model}/${environment}`;
    if (!chains.has(place)) chains.set(place, { model, environment, keys: [], envelopes: [] });
  }
  return [...chains.values()];
}

/** Verifies a chain: signatures, numbering, links, place, and that it is no shorter than its signed head says. */
export async function verifyChain(
  zone: Zone,
  project: string,
  chain: Chain,
  trusted: ReadonlyMap<string, KeyObject>,
): Promise<VerifiedChain> {
  const { model, environment } = chain;
  const where = `${model}.${environment}`;
  try {
    const decisions = openChain(chain.envelopes, trusted, { project, model, environment });
    const envelopes = chain.envelopes as Envelope[];
    const digests = envelopes.map(decisionDigest);
    const signers = envelopes.map((one) => one.signatures.map(({ keyid }) => keyid));
    const key = headKey(project, model, environment);
    const record = await zone.readRecord(key);
    const head = record ? openHead(record.value, trusted, key) : null;
    const isElsewhere =
      head && (head.project !== project || head.model !== model || head.environment !== environment);
    const problem = isElsewhere
      ? `${key} is the head of another chain`
      : head && headProblem(head, digests, where);
    if (problem) return { model, environment, kind: 'broken', problem };
    return { model, environment, kind: 'whole', decisions, digests, signers, head };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { model, environment, kind: 'broken', problem: `${where}: ${error.message}` };
  }
}

async function addSignature(
  zone: Zone,
  key: string,
  trusted: ReadonlyMap<string, KeyObject>,
  signer: SigningKey,
): Promise<'signed' | 'same'> {
  for (let attempt = 0; attempt < 5; attempt++) {
    const record = await zone.readRecord(key);
    if (!record) return 'same';
    const has = (record.value as Envelope).signatures?.some(({ keyid }) => keyid === signer.id);
    if (has) return 'same';
    const again = signAgain(record.value, trusted, signer, key);
    if ((await zone.writeRecord(key, again, { ifMatch: record.etag })) === 'stored') return 'signed';
  }
  throw new UpstreamError('store', `others keep writing ${key}`, { retryable: true });
}

/**
 * Adds the signature of another key to every decision of a project and to the heads, so that the keys before it can be
 * removed: a chain is verified whole, its oldest decision too. Only chains that hold are signed; a run that was killed
 * is run again. Throws UserError decision-invalid (nothing was signed then), UpstreamError.
 */
export async function resignChains(
  zone: Zone,
  project: string,
  trusted: ReadonlyMap<string, KeyObject>,
  signer: SigningKey,
): Promise<{ decisions: number; signed: number }> {
  const chains = await listChains(zone, project);
  for (const chain of chains) {
    const verified = await verifyChain(zone, project, chain, trusted);
    if (verified.kind === 'broken') throw new UserError('decision-invalid', verified.problem);
  }
  let signed = 0;
  const keys = chains.flatMap((chain) => [...chain.keys, headKey(project, chain.model, chain.environment)]);
  for (const key of keys) {
    if ((await addSignature(zone, key, trusted, signer)) === 'signed') signed++;
  }
  return { decisions: chains.reduce((sum, { keys: own }) => sum + own.length, 0), signed };
}
