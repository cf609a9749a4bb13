import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { digestSchema } from './artifact.ts';
import {
  type Envelope,
  followChain,
  hexDigest,
  openStatement,
  type SigningKey,
  signStatement,
  statementType,
} from './decision.ts';
import { type Digest, digestJson } from './digest.ts';
import { UserError } from './error.ts';

/** Another predicate than a candidate's decision, so that neither is taken for the other. */
const predicateType = 'https://cdl.dev/data-decision/v1';

const predicateSchema = z.strictObject({
  project: z.string(),
  dataset: z.string(),
  decision: z.literal('approved'),
  approver: z.strictObject({ id: z.string(), name: z.string(), role: z.string() }),
  /** What the rules of the default branch said of amount and quality. */
  verdict: z.enum(['pass', 'warn', 'fail']),
  /** The label set the version was labelled with and Krippendorff's alpha; null for labels of the source. */
  labels: z.strictObject({ set: digestSchema, alpha: z.number().nullable() }).nullable(),
  /** Digest of the roles and approval rules that were applied. */
  policy: digestSchema,
  /** The change it was decided on (`!12`). */
  change: z.string(),
  seq: z.int().positive(),
  prev: digestSchema.nullable(),
  /** ISO 8601. */
  time: z.string(),
});

const statementSchema = z.strictObject({
  _type: z.literal(statementType),
  subject: z.tuple([
    z.strictObject({ name: z.literal('dataset'), digest: hexDigest }),
    z.strictObject({ name: z.literal('evidence'), digest: hexDigest }),
  ]),
  predicateType: z.literal(predicateType),
  predicate: predicateSchema,
});

/** One person's approval of a data version on the evidence that was shown; `prev` and `seq` chain those of one data set. */
export interface DataDecision extends z.infer<typeof predicateSchema> {
  /** The data version. */
  version: Digest;
  /** See {@link evidenceDigest}. */
  evidence: Digest;
}

/** What a data version is approved on: its amount and quality by the rules of the default branch, and its labels. */
export interface DataEvidence {
  dataset: string;
  version: Digest;
  verdict: DataDecision['verdict'];
  findings: readonly { name: string; status: string; explanation: string }[];
  labels: DataDecision['labels'];
}

/** The digest that `/approve-data` names: the data version, and everything that was said of it. */
export function evidenceDigest({ dataset, version, verdict, findings, labels }: DataEvidence): Digest {
  const said = findings.map(({ name, status, explanation }) => ({ name, status, explanation }));
  return digestJson({ v: 1, dataset, version, verdict, findings: said, labels });
}

/** Signs a decision about a data version. */
export function signDataDecision(decision: DataDecision, signer: SigningKey): Envelope {
  const { version, evidence, ...predicate } = decision;
  const subject = [
    { name: 'dataset', digest: { sha256: version.slice(7) } },
    { name: 'evidence', digest: { sha256: evidence.slice(7) } },
  ];
  return signStatement({ _type: statementType, subject, predicateType, predicate }, signer);
}

/** Verifies the decisions about a data set as `openChain` does those about a candidate. Throws UserError decision-invalid. */
export function openDataChain(
  envelopes: readonly unknown[],
  trusted: ReadonlyMap<string, KeyObject>,
  scope: Pick<DataDecision, 'project' | 'dataset'>,
): DataDecision[] {
  return followChain(envelopes, (value, where) => {
    const { subject, predicate } = openStatement(value, trusted, where, statementSchema);
    for (const field of ['project', 'dataset'] as const) {
      if (predicate[field] === scope[field]) continue;
      throw new UserError(
        'decision-invalid',
        `${where} is about ${field} ${predicate[field]}, not ${scope[field]}`,
      );
    }
    return {
      version: digestSchema.parse(`sha256:${subject[0].digest.sha256}`),
      evidence: digestSchema.parse(`sha256:${subject[1].digest.sha256}`),
      ...predicate,
    };
  });
}

/** Key prefix in the trusted zone of the decisions about one data set; each is `<prefix><seq, eight digits>.json`. */
export function dataDecisionPrefix(project: string, dataset: string): string {
  return `data-decisions/${encodeURIComponent(project)}/${dataset}/`;
}

/** The key of decision number `seq`; written if-absent, so that two writers cannot both be next. */
export function dataDecisionKey(project: string, dataset: string, seq: number): string {
  return `${dataDecisionPrefix(project, dataset)}${String(seq).padStart(8, '0')}.json`;
}
