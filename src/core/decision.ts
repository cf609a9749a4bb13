import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { z } from 'zod';
import { digestSchema } from './artifact.ts';
import { canonicalJson, type Digest, digestBytes } from './digest.ts';
import { UserError } from './error.ts';

/** in-toto Statement v1 type (in-toto attestation framework, spec/v1/statement.md). */
export const statementType = 'https://in-toto.io/Statement/v1';
const predicateType = 'https://cdl.dev/decision/v1';
/** DSSE payload type of an in-toto statement. */
const payloadType = 'application/vnd.in-toto+json';

const predicateSchema = z.strictObject({
  project: z.string(),
  model: z.string(),
  environment: z.string(),
  /** The candidate that was live when this was decided, or null. */
  baseline: digestSchema.nullable(),
  plan: digestSchema,
  decision: z.enum(['approved', 'promoted', 'revoked']),
  /** Why a failed gate was overruled. */
  override: z.strictObject({ reason: z.string().min(1) }).optional(),
  approvers: z.array(z.strictObject({ id: z.string(), name: z.string(), role: z.string() })),
  /** Digest of the roles and approval rules that were applied. */
  policy: digestSchema,
  /** The change it was decided on (`!12`), or `system`. */
  change: z.string(),
  seq: z.int().positive(),
  prev: digestSchema.nullable(),
  /** ISO 8601. */
  time: z.string(),
});

/** A digest as in-toto writes it, without the algorithm's name. */
export const hexDigest = z.strictObject({ sha256: z.string().regex(/^[0-9a-f]{64}$/, 'not a sha256') });

const statementSchema = z.strictObject({
  _type: z.literal(statementType),
  subject: z.tuple([
    z.strictObject({ name: z.literal('candidate'), digest: hexDigest }),
    z.strictObject({ name: z.literal('evaluation'), digest: hexDigest }),
  ]),
  predicateType: z.literal(predicateType),
  predicate: predicateSchema,
});

/** The one base64 text of some bytes: other spellings decode alike and would let a signed envelope be altered unseen. */
const base64 = z
  .string()
  .refine((text) => Buffer.from(text, 'base64').toString('base64') === text, 'not canonical base64');

const envelopeSchema = z.strictObject({
  payloadType: z.string(),
  payload: base64,
  signatures: z.array(z.strictObject({ keyid: z.string(), sig: base64 })).min(1),
});

/** A DSSE envelope (secure-systems-lab/dsse, envelope.md). */
export type Envelope = z.infer<typeof envelopeSchema>;

/** What was decided about a candidate and its evaluation; `prev` and `seq` chain the decisions of one environment. */
export interface Decision extends z.infer<typeof predicateSchema> {
  candidate: Digest;
  evaluation: Digest;
}

/** A key that may sign decisions, with the id verifiers know it by. */
export interface SigningKey {
  id: string;
  key: KeyObject;
}

/** sha256 of the public key's DER (SPKI), as hexadecimal digits. */
export function keyId(key: KeyObject): string {
  const spki = (key.type === 'private' ? createPublicKey(key) : key).export({ type: 'spki', format: 'der' });
  return digestBytes(spki).slice(7);
}

/**
 * The public keys of a text in PEM, by their id. `name` is how people know the text. Throws UserError config-invalid when it
 * holds none, or something else.
 */
export function parsePublicKeys(text: string, name: string): ReadonlyMap<string, KeyObject> {
  const hint = 'give public keys as PEM, or the path of a file that holds them';
  const blocks = text.match(/-----BEGIN PUBLIC KEY-----[\s\S]+?-----END PUBLIC KEY-----/g) ?? [];
  if (blocks.length === 0) throw new UserError('config-invalid', `${name} holds no public key`, hint);
  return new Map(
    blocks.map((pem, index) => {
      try {
        const key = createPublicKey(pem);
        return [keyId(key), key] as const;
      } catch (cause) {
        const what = `${name} holds something else than a public key (block ${index + 1})`;
        throw new UserError('config-invalid', what, hint, { cause });
      }
    }),
  );
}

/** Pre-authentication encoding (DSSE protocol.md): what is really signed. */
function preAuthEncoding(type: string, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`DSSEv1 ${Buffer.byteLength(type)} ${type} ${body.length} `), body]);
}

/** Signs bytes of a payload type with Ed25519 (RFC 8032) as a DSSE envelope. */
export function signBytes(type: string, body: Buffer, signer: SigningKey): Envelope {
  const sig = sign(null, preAuthEncoding(type, body), signer.key).toString('base64');
  return { payloadType: type, payload: body.toString('base64'), signatures: [{ keyid: signer.id, sig }] };
}

/** The bytes of an envelope of this payload type, verified. Throws UserError decision-invalid. */
export function openSigned(
  value: unknown,
  type: string,
  trusted: ReadonlyMap<string, KeyObject>,
  where: string,
): Buffer {
  const envelope = envelopeSchema.safeParse(value);
  if (!envelope.success || envelope.data.payloadType !== type) {
    throw new UserError('decision-invalid', `${where} is not a DSSE envelope`);
  }
  const body = Buffer.from(envelope.data.payload, 'base64');
  const message = preAuthEncoding(type, body);
  const valid = envelope.data.signatures.some(({ keyid, sig }) => {
    const key = trusted.get(keyid);
    return key !== undefined && verify(null, message, key, Buffer.from(sig, 'base64'));
  });
  if (!valid) throw new UserError('decision-invalid', `${where} is not signed by a trusted key`);
  return body;
}

/**
 * An envelope with a further signature over the same payload (which its digest, and so the chain, does not cover). Only
 * one that verifies is signed again. Throws UserError decision-invalid.
 */
export function signAgain(
  value: unknown,
  trusted: ReadonlyMap<string, KeyObject>,
  signer: SigningKey,
  where: string,
): Envelope {
  const envelope = envelopeSchema.safeParse(value);
  if (!envelope.success) throw new UserError('decision-invalid', `${where} is not a DSSE envelope`);
  const { payloadType: type, payload, signatures } = envelope.data;
  const again = signBytes(type, openSigned(value, type, trusted, where), signer);
  const kept = signatures.filter(({ keyid }) => keyid !== signer.id && trusted.has(keyid));
  return { payloadType: type, payload, signatures: [...kept, ...again.signatures] };
}

/** Signs an in-toto statement. */
export function signStatement(statement: Readonly<Record<string, unknown>>, signer: SigningKey): Envelope {
  return signBytes(payloadType, Buffer.from(canonicalJson(statement)), signer);
}

/** Signs a decision with Ed25519 (RFC 8032). */
export function signDecision(decision: Decision, signer: SigningKey): Envelope {
  const { candidate, evaluation, ...predicate } = decision;
  const subject = [
    { name: 'candidate', digest: { sha256: candidate.slice(7) } },
    { name: 'evaluation', digest: { sha256: evaluation.slice(7) } },
  ];
  return signStatement({ _type: statementType, subject, predicateType, predicate }, signer);
}

/** The value of a JSON text, or undefined (which no schema takes for a statement). */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The statement of an envelope, verified and of this schema. Throws UserError decision-invalid. */
export function openStatement<T>(
  value: unknown,
  trusted: ReadonlyMap<string, KeyObject>,
  where: string,
  schema: z.ZodType<T>,
): T {
  const body = openSigned(value, payloadType, trusted, where);
  const statement = schema.safeParse(parseJson(body.toString('utf8')));
  if (statement.success) return statement.data;
  throw new UserError('decision-invalid', `${where}: ${z.prettifyError(statement.error)}`);
}

/**
 * Verifies an envelope against the trusted keys and returns its decision. Throws UserError decision-invalid for an
 * unknown key, a wrong signature or a malformed statement.
 */
export function openDecision(
  value: unknown,
  trusted: ReadonlyMap<string, KeyObject>,
  where = 'decision',
): Decision {
  const { subject, predicate } = openStatement(value, trusted, where, statementSchema);
  const [candidate, evaluation] = subject;
  return {
    candidate: digestSchema.parse(`sha256:${candidate.digest.sha256}`),
    evaluation: digestSchema.parse(`sha256:${evaluation.digest.sha256}`),
    ...predicate,
  };
}

/** The link to the next decision: digest of the signed payload, independent of who signed (so that keys can rotate). */
export function decisionDigest(envelope: Envelope): Digest {
  return digestBytes(Buffer.from(envelope.payload, 'base64'));
}

/**
 * The links of a chain in order, each opened by `open`: numbered from 1 without gaps, each `prev` the digest of the one
 * before. Throws UserError decision-invalid.
 */
export function followChain<T extends { seq: number; prev: Digest | null }>(
  envelopes: readonly unknown[],
  open: (value: unknown, where: string) => T,
): T[] {
  let prev: Digest | null = null;
  return envelopes.map((value, index) => {
    const link = open(value, `decision ${index + 1}`);
    if (link.seq !== index + 1 || link.prev !== prev) {
      throw new UserError('decision-invalid', `decision ${index + 1} does not follow the one before it`);
    }
    prev = decisionDigest(envelopeSchema.parse(value));
    return link;
  });
}

/**
 * Verifies a whole chain in order of `seq`: signatures, numbering from 1 without gaps, each `prev` the digest of the one
 * before, all of one project, model and environment (those of `scope` when given; a valid chain copied from another
 * environment would verify otherwise). Returns the decisions, oldest first. That the newest was not cut off, no chain
 * can say: readers list the store. `open` may keep what it verified. Throws UserError decision-invalid.
 */
export function openChain(
  envelopes: readonly unknown[],
  trusted: ReadonlyMap<string, KeyObject>,
  scope?: Pick<Decision, 'project' | 'model' | 'environment'>,
  open: typeof openDecision = openDecision,
): Decision[] {
  const decisions = followChain(envelopes, (value, where) => open(value, trusted, where));
  const of = scope ?? decisions[0];
  for (const [index, decision] of decisions.entries()) {
    for (const field of ['project', 'model', 'environment'] as const) {
      if (!of || decision[field] === of[field]) continue;
      throw new UserError(
        'decision-invalid',
        `decision ${index + 1} is about ${field} ${decision[field]}, not ${of[field]}`,
      );
    }
  }
  return decisions;
}

/** Key prefix in the trusted zone of one environment's decisions; each is `<prefix><seq, eight digits>.json`. */
export function decisionPrefix(project: string, model: string, environment: string): string {
  return `decisions/${encodeURIComponent(project)}/${model}/${environment}/`;
}

/** The key of decision number `seq`; written if-absent, so that two writers cannot both be next. */
export function decisionKey(project: string, model: string, environment: string, seq: number): string {
  return `${decisionPrefix(project, model, environment)}${String(seq).padStart(8, '0')}.json`;
}
