import { type Candidate, candidateDigest, candidateSchema } from '../core/candidate.ts';
import { candidateKey } from '../core/claim.ts';
import type { Decision } from '../core/decision.ts';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { type Evaluation, evaluationSchema } from '../core/evaluation.ts';
import type { LiveState } from '../core/live.ts';
import { readChain, readLiveRecord } from '../deploy/records.ts';
import type { Zone } from '../store/types.ts';
import type { Ctx } from './types.ts';

/** An environment nothing was ever deployed to. */
export const nothingLive: LiveState = { v: 1, current: null, transition: null, failed: null, endpoint: null };

/** The live state of an environment with the etag to swap it against (null: never written). */
export async function readLive(
  zone: Zone,
  project: string,
  model: string,
  environment: string,
): Promise<{ state: LiveState; etag: string | null }> {
  return (await readLiveRecord(zone, project, model, environment)) ?? { state: nothingLive, etag: null };
}

/** The candidate the bot handed to the trusted zone. Throws UserError artifact-missing, or artifact-corrupt when it is another one. */
export async function readCandidate(zone: Zone, digest: Digest): Promise<Candidate> {
  const record = await zone.readRecord(candidateKey(digest));
  if (!record) {
    throw new UserError('artifact-missing', `candidate ${digest} was not handed over by the bot`);
  }
  const parsed = candidateSchema.safeParse(record.value);
  if (!parsed.success || candidateDigest(parsed.data) !== digest) {
    throw new UserError('artifact-corrupt', `the record of candidate ${digest} is not that candidate`);
  }
  return parsed.data;
}

/** An evaluation artifact, checked. */
export async function readEvaluation(zone: Zone, digest: Digest): Promise<Evaluation> {
  const artifact = await zone.getArtifact(digest);
  const parsed = evaluationSchema.safeParse(artifact.meta);
  if (artifact.kind !== 'evaluation' || !parsed.success) {
    throw new UserError('artifact-corrupt', `${digest} is not an evaluation`);
  }
  return parsed.data;
}

/** The verified decisions of an environment, oldest first. Throws UserError decision-invalid when any of them does not verify. */
export async function readDecisions(
  ctx: Ctx,
  zone: Zone,
  model: string,
  environment: string,
): Promise<Decision[]> {
  return (await readChain(zone, ctx.trustedKeys(), ctx.project.project, model, environment)).decisions;
}
