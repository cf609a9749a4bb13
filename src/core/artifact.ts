import { z } from 'zod';
import { canonicalJson, type Digest, digestBytes, isDigest } from './digest.ts';
import { UserError } from './error.ts';
import { isInsidePath } from './path.ts';

export { isInsidePath } from './path.ts';

/** A digest as zod sees it. */
export const digestSchema = z.custom<Digest>(isDigest, 'not a digest (sha256: and 64 hexadecimal digits)');

/** What artifacts there are. Each is made by the step of a like name, a folder version by `cdl data add`. */
export const artifactKinds = [
  'dataset',
  'transform',
  'run',
  'source',
  'checkpoint',
  'package',
  'sbom',
  'evaluation',
  'delta',
  'folder',
] as const;

/** One of {@link artifactKinds}. */
export type ArtifactKind = (typeof artifactKinds)[number];

const relativePath = z
  .string()
  .min(1)
  .max(1024)
  .refine(
    isInsidePath,
    'not a relative path inside the artifact (no "..", no leading "/", no backslash or NUL)',
  );

/** A manifest: what moves between steps. Its identity is the sha256 of its canonical JSON. */
export const artifactSchema = z.strictObject({
  kind: z.enum(artifactKinds),
  name: z.string().min(1).max(200),
  files: z.array(z.strictObject({ path: relativePath, digest: digestSchema, size: z.int().nonnegative() })),
  parents: z.array(digestSchema),
  meta: z.record(z.string(), z.json()),
});

/** A content-addressed manifest: `files` sorted by path, sizes in bytes, `parents` sorted and unique. */
export type Artifact = z.infer<typeof artifactSchema>;

/** Puts a manifest into its one canonical order. Throws a UserError when two files share a path. */
export function normalizeArtifact(artifact: Artifact): Artifact {
  const files = [...artifact.files].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  const twice = files.find((file, index) => files[index + 1]?.path === file.path);
  if (twice)
    throw new UserError('artifact-corrupt', `artifact ${artifact.name} lists the file ${twice.path} twice`);
  return { ...artifact, files, parents: [...new Set(artifact.parents)].sort() };
}

/** The canonical bytes of a manifest, as stored. */
export function encodeArtifact(artifact: Artifact): string {
  return canonicalJson(normalizeArtifact(artifact));
}

/** The identity of a manifest. */
export function artifactDigest(artifact: Artifact): Digest {
  return digestBytes(encodeArtifact(artifact));
}

/**
 * Reads a stored manifest. Throws a UserError (artifact-corrupt) when the bytes are not what `expected` names, or are no
 * manifest in its one canonical form: two files under one path would let readers disagree about what it holds.
 */
export function decodeArtifact(text: string, expected: Digest): Artifact {
  const actual = digestBytes(text);
  if (actual !== expected) {
    throw new UserError('artifact-corrupt', `artifact ${expected} has the content of ${actual}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new UserError('artifact-corrupt', `artifact ${expected} is not JSON`, undefined, { cause });
  }
  const parsed = artifactSchema.safeParse(value);
  if (!parsed.success) {
    throw new UserError('artifact-corrupt', `artifact ${expected}: ${z.prettifyError(parsed.error)}`);
  }
  if (encodeArtifact(parsed.data) !== text) {
    throw new UserError('artifact-corrupt', `artifact ${expected} is not in canonical form`);
  }
  return parsed.data;
}
