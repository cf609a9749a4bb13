import { z } from 'zod';
import { digestSchema } from './artifact.ts';
import { candidateSchema } from './candidate.ts';
import { type LockEntry, tunedSchema } from './lock.ts';

/**
 * What a merge-request pipeline says it made: the `register` job's artifact `.cdl/<model>.candidate.json`. It is a claim:
 * the bot recomputes code and config from git and checks the artifacts in the store before it believes anything.
 */
export const claimSchema = z.strictObject({
  v: z.literal(1),
  candidate: candidateSchema,
  version: z.int().positive(),
  run: digestSchema,
  /** Hyperparameters that a search found, for people to read in the lock. */
  tuned: tunedSchema.optional(),
});

/** See {@link claimSchema}. */
export type Claim = z.infer<typeof claimSchema>;

/** What the lock tells people of a claim. */
export function claimInfo({ version, run, tuned }: Claim): LockEntry['info'] {
  return { version, run, ...(tuned && { tuned }) };
}

/** Path of the claim among the artifacts of the `register` job. */
export function claimPath(model: string): string {
  return `.cdl/${model}.candidate.json`;
}

/** Key of the registry record that gave a candidate its version number. */
export function versionKey(project: string, model: string, version: number): string {
  return `versions/${encodeURIComponent(project)}/${model}/${String(version).padStart(8, '0')}.json`;
}

/** Key in the trusted zone under which the bot hands a verified candidate to the evaluation. */
export function candidateKey(candidate: string): string {
  return `candidates/${candidate.replace('sha256:', '')}.json`;
}

/** Key in the trusted zone of the first verified claim of a candidate: which version it is, and the run that made it. */
export function claimKey(candidate: string): string {
  return `claims/${candidate.replace('sha256:', '')}.json`;
}
