import type { KeyObject } from 'node:crypto';
import { type DataDecision, openDataChain } from '../core/data-decision.ts';
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
import { type ChainHead, dataHeadKey, headKey, headProblem, openHead } from '../core/head.ts';
import type { Zone } from '../store/types.ts';

/** What a chain of decisions is about: one environment of one model, or the versions of a data set. */
export type ChainPlace = { model: string; environment: string } | { dataset: string };

/** The decisions about one place, as they lie in the trusted zone. */
export interface Chain {
  place: ChainPlace;
  /** Keys of the records, oldest first. */
  keys: string[];
  envelopes: unknown[];
}

/** A chain after it was verified: its decisions with their digests, or why it does not hold. */
export type VerifiedChain = { place: ChainPlace } & (
  | {
      kind: 'whole';
      decisions: (Decision | DataDecision)[];
      digests: Digest[];
      signers: string[][];
      head: ChainHead | null;
    }
  | { kind: 'broken'; problem: string }
);

/** How people read a place: `fashion.production`, or `data clothes`. */
export function placeName(place: ChainPlace): string {
  return 'dataset' in place ? `data ${place.dataset}` : `${place.model}.${place.environment}`;
}

const headKeyOf = (project: string, place: ChainPlace): string =>
  'dataset' in place ? dataHeadKey(project, place.dataset) : headKey(project, place.model, place.environment);

/** Every chain of a project: of models by environment, then of data sets. */
export async function listChains(zone: Zone, project: string): Promise<Chain[]> {
  const chains = new Map<string, Chain>();
  const at = (place: ChainPlace): Chain => {
    const chain = chains.get(placeName(place)) ?? { place, keys: [], envelopes: [] };
    chains.set(placeName(place), chain);
    return chain;
  };
  const name = encodeURIComponent(project);
  const ofModel = ([model = '', environment = '']: string[]) => ({ model, environment });
  const ofData = ([dataset = '']: string[]) => ({ dataset });
  for (const [folder, placeOf] of [
    ['decisions', ofModel],
    ['data-decisions', ofData],
  ] as const) {
    const prefix = `${folder}/${name}/`;
    for await (const key of zone.listRecordKeys(prefix)) {
      const chain = at(placeOf(key.slice(prefix.length).split('/')));
      chain.keys.push(key);
      chain.envelopes.push((await zone.readRecord(key))?.value);
    }
  }
  // A chain that was deleted whole leaves its head.
  for (const [folder, placeOf] of [
    ['decision-heads', ofModel],
    ['data-decision-heads', ofData],
  ] as const) {
    const prefix = `${folder}/${name}/`;
    for await (const key of zone.listRecordKeys(prefix)) {
      const path = key.slice(prefix.length).replace(/\.json$/, '');
      at(placeOf(path.split('/')));
    }
  }
  return [...chains.values()];
}

const isSamePlace = (head: ChainHead, project: string, place: ChainPlace): boolean =>
  head.project === project &&
  ('dataset' in place
    ? 'dataset' in head && head.dataset === place.dataset
    : 'model' in head && head.model === place.model && head.environment === place.environment);

/** Verifies a chain: signatures, numbering, links, place, and that it is no shorter than its signed head says. */
export async function verifyChain(
  zone: Zone,
  project: string,
  chain: Chain,
  trusted: ReadonlyMap<string, KeyObject>,
): Promise<VerifiedChain> {
  const { place } = chain;
  const where = placeName(place);
  try {
    const decisions =
      'dataset' in place
        ? openDataChain(chain.envelopes, trusted, { project, dataset: place.dataset })
        : openChain(chain.envelopes, trusted, { project, ...place });
    const envelopes = chain.envelopes as Envelope[];
    const digests = envelopes.map(decisionDigest);
    const signers = envelopes.map((one) => one.signatures.map(({ keyid }) => keyid));
    const key = headKeyOf(project, place);
    const record = await zone.readRecord(key);
    const head = record ? openHead(record.value, trusted, key) : null;
    const problem =
      head && !isSamePlace(head, project, place)
        ? `${key} is the head of another chain`
        : head && headProblem(head, digests, where);
    if (problem) return { place, kind: 'broken', problem };
    return { place, kind: 'whole', decisions, digests, signers, head };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { place, kind: 'broken', problem: `${where}: ${error.message}` };
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
  const keys = chains.flatMap((chain) => [...chain.keys, headKeyOf(project, chain.place)]);
  for (const key of keys) {
    if ((await addSignature(zone, key, trusted, signer)) === 'signed') signed++;
  }
  return { decisions: chains.reduce((sum, { keys: own }) => sum + own.length, 0), signed };
}
