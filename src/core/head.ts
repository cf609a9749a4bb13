import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { digestSchema } from './artifact.ts';
import { openSigned, type SigningKey, signBytes } from './decision.ts';
import { canonicalJson, type Digest } from './digest.ts';
import { UserError } from './error.ts';

/** DSSE payload type of a chain's head; another one than a decision's, so that neither is taken for the other. */
const payloadType = 'application/vnd.cdl.chain-head+json';

const length = {
  v: z.literal(1),
  project: z.string(),
  /** Number of the newest decision. */
  seq: z.int().positive(),
  /** Its digest. */
  digest: digestSchema,
};

const headSchema = z.union([
  z.strictObject({ ...length, model: z.string(), environment: z.string() }),
  z.strictObject({ ...length, dataset: z.string() }),
]);

/**
 * How long a chain of decisions was when the newest was signed. A chain cannot tell by itself that its end was cut off; its
 * head, kept beside it, can, unless both were put back together: against that an auditor keeps the heads of an earlier
 * look elsewhere.
 */
export type ChainHead = z.infer<typeof headSchema>;

/** Signs the head of a chain. */
export function signHead(head: ChainHead, signer: SigningKey): object {
  return signBytes(payloadType, Buffer.from(canonicalJson(head)), signer);
}

/** Verifies the record of a head. Throws UserError decision-invalid. */
export function openHead(value: unknown, trusted: ReadonlyMap<string, KeyObject>, where: string): ChainHead {
  const body = openSigned(value, payloadType, trusted, where);
  try {
    return headSchema.parse(JSON.parse(body.toString('utf8')));
  } catch (cause) {
    throw new UserError('decision-invalid', `${where} is not the head of a chain`, undefined, { cause });
  }
}

/** Key in the trusted zone of the head of one environment's decisions. */
export function headKey(project: string, model: string, environment: string): string {
  return `decision-heads/${encodeURIComponent(project)}/${model}/${environment}.json`;
}

/** Key in the trusted zone of the head of the decisions about a data set. */
export function dataHeadKey(project: string, dataset: string): string {
  return `data-decision-heads/${encodeURIComponent(project)}/${dataset}.json`;
}

/** Where a chain and what is known of its length part; null when they agree. A head may lag by what was signed since. */
export function headProblem(
  head: Pick<ChainHead, 'seq' | 'digest'>,
  digests: readonly Digest[],
  where: string,
): string | null {
  if (head.seq > digests.length) {
    return `${where} had ${head.seq} decisions and has ${digests.length}: the end was cut off`;
  }
  return digests[head.seq - 1] === head.digest
    ? null
    : `${where}: decision ${head.seq} is another one than it was`;
}
