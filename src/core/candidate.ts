import { z } from 'zod';
import { digestSchema } from './artifact.ts';
import { type Digest, digestJson } from './digest.ts';
import { UserError } from './error.ts';

/** One file as a step sees it. `mode` is git's: 100644 or 100755 (links and submodules are not code). */
export interface CodeFile {
  path: string;
  mode: '100644' | '100755';
  digest: Digest;
}

/** What a change proposes to run: content only, never commits, runs, version numbers or times. */
export const candidateSchema = z.strictObject({
  model: z.string().min(1).max(100),
  code: digestSchema,
  config: digestSchema,
  dataset: digestSchema,
  transform: digestSchema.nullable(),
  checkpoint: digestSchema,
  package: digestSchema,
});

/** See {@link candidateSchema}. `transform` is null when the preprocessing ships with the code alone. */
export type Candidate = z.infer<typeof candidateSchema>;

/**
 * H(sorted [path, mode, sha256(bytes)]): the same for the same files, in whatever order or commit they come. Throws
 * UserError code-invalid when two files share a path.
 */
export function codeDigest(files: readonly CodeFile[]): Digest {
  const sorted = files
    .map((file) => [file.path, file.mode, file.digest] as const)
    .sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  const twice = sorted.find((file, index) => sorted[index + 1]?.[0] === file[0]);
  if (twice) throw new UserError('code-invalid', `the file ${twice[0]} is listed twice`);
  return digestJson(sorted);
}

/** H(JCS{v:1, …}): the identity that approvals are about. */
export function candidateDigest(candidate: Candidate): Digest {
  const { model, code, config, dataset, transform, checkpoint, package: packaged } = candidate;
  return digestJson({ v: 1, model, code, config, dataset, transform, checkpoint, package: packaged });
}

/**
 * What a validator saw: the candidate, its evaluation (with baseline and gates) and the deployment plan, in one digest.
 * Its first digits are the argument of `/approve`.
 */
export function reviewDigest(seen: { candidate: Digest; evaluation: Digest; plan: Digest }): Digest {
  return digestJson({ v: 1, candidate: seen.candidate, evaluation: seen.evaluation, plan: seen.plan });
}
