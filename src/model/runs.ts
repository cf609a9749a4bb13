import { z } from 'zod';
import { type Artifact, digestSchema } from '../core/artifact.ts';
import { type Digest, isDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { tunedSchema } from '../core/lock.ts';
import type { Zone } from '../store/types.ts';

const numbers = z.record(z.string(), z.number());

/** What a training tells of itself (`meta` of a run artifact), as far as people compare it. Times in seconds, ISO 8601. */
export const runFactsSchema = z.object({
  model: z.string(),
  status: z.enum(['done', 'failed']).default('done'),
  /** Why it failed. */
  reason: z.string().nullable().default(null),
  code: digestSchema,
  config: digestSchema,
  hyperparameters: tunedSchema.default({}),
  /** The search that found the hyperparameters. */
  tuning: digestSchema.optional(),
  seed: z.int().nullable().default(null),
  /** Versions of what it ran on. */
  environment: z.record(z.string(), z.string()).default({}),
  items: numbers.default({}),
  epochs: z.array(z.object({ epoch: z.int(), step: z.int(), metrics: numbers })).default([]),
  best_epoch: z.int().nullable().default(null),
  stopped_early: z.boolean().default(false),
  metrics: numbers.default({}),
  resumed: z.boolean().default(false),
  started_at: z.iso.datetime(),
  seconds: z.number().nonnegative(),
  /** That its job asks for: with `seconds`, what it cost. */
  gpus: z.int().nonnegative().default(0),
  /** User name of who started the pipeline. */
  who: z.string().max(255).nullable().default(null),
  pipeline: z.string().nullable().default(null),
  job: z.string().nullable().default(null),
  commit: z.string().nullable().default(null),
});

/** See {@link runFactsSchema}. */
export type RunFacts = z.output<typeof runFactsSchema>;

/** One training: what it told, what it was made of (data version, transform, source) and what it made (checkpoint). */
export interface Run {
  digest: Digest;
  facts: RunFacts;
  dataset: Digest | null;
  transform: Digest | null;
  /** The files it saw of the repository; null for a run older than that they are kept. */
  source: Digest | null;
  checkpoint: Digest | null;
}

/** Key prefix in the work zone of the records that name a project's runs; each is `<prefix><64 digits>.json`. */
export const runPrefix = (project: string): string => `runs/${project}/`;

/** Key in the work zone of the record that says a run is one of a project's. */
export const runRecord = (project: string, run: Digest): string =>
  `${runPrefix(project)}${run.slice(7)}.json`;

/** What a training cost, in seconds of one GPU. */
export const gpuSeconds = ({ gpus, seconds }: Pick<RunFacts, 'gpus' | 'seconds'>): number => gpus * seconds;

/**
 * Records that a run is one of a project's; once is enough. A record that is there is made young, so that nobody who has just
 * found it unused removes it.
 */
export async function noteRun(zone: Zone, project: string, run: Digest): Promise<void> {
  const key = runRecord(project, run);
  while ((await zone.writeRecord(key, { run }, { ifAbsent: true })) !== 'stored')
    if (await zone.touchRecord(key)) return;
}

/** Kinds of artifacts by digest: of many runs, most parents are the same few. */
type Kinds = Map<Digest, Promise<Artifact['kind'] | null>>;

/** An artifact; null for one that is gone or damaged. That a store does not answer says nothing of what it holds. */
async function artifactThere(zone: Zone, digest: Digest): Promise<Artifact | null> {
  try {
    return await zone.getArtifact(digest);
  } catch (error) {
    if (error instanceof UserError && ['artifact-missing', 'artifact-corrupt'].includes(error.code))
      return null;
    throw error;
  }
}

/** A run artifact; null for one that is none (jobs of any branch may write here), or is gone. */
export async function readRun(zone: Zone, digest: Digest, known: Kinds = new Map()): Promise<Run | null> {
  const artifact = await artifactThere(zone, digest);
  const facts = runFactsSchema.safeParse(artifact?.meta);
  if (artifact?.kind !== 'run' || !facts.success) return null;
  const kinds = new Map<string, Digest>();
  await Promise.all(
    artifact.parents.map(async (parent) => {
      const asked = known.get(parent) ?? artifactThere(zone, parent).then((found) => found?.kind ?? null);
      known.set(parent, asked);
      const kind = await asked;
      if (kind) kinds.set(kind, parent);
    }),
  );
  const of = (kind: string) => kinds.get(kind) ?? null;
  return {
    digest,
    facts: facts.data,
    dataset: of('dataset'),
    transform: of('transform'),
    source: of('source'),
    checkpoint: of('checkpoint'),
  };
}

/** How many are read at once. */
const atOnce = 16;

/** The run whose digest begins so. Throws UserError usage for several, and input-missing for none. */
export async function findRun(zone: Zone, project: string, beginning: string): Promise<Run> {
  const digits = beginning.replace(/^sha256:/, '');
  const found: Run[] = [];
  if (/^[0-9a-f]{4,64}$/.test(digits)) {
    for await (const key of zone.listRecordKeys(`${runPrefix(project)}${digits}`)) {
      const digest = `sha256:${key.slice(runPrefix(project).length).replace(/\.json$/, '')}`;
      const run = isDigest(digest) ? await readRun(zone, digest) : null;
      if (run) found.push(run);
    }
  }
  if (found.length > 1) {
    throw new UserError('usage', `${beginning} is the beginning of ${found.length} runs`, 'give more of it');
  }
  if (found[0]) return found[0];
  throw new UserError(
    'input-missing',
    `there is no run ${beginning}`,
    'cdl runs ls tells the beginnings of their digests; v7 is the run of version 7',
  );
}

/** The newest first. */
export function byAge(
  a: { digest: Digest; facts: Pick<RunFacts, 'started_at'> },
  b: { digest: Digest; facts: Pick<RunFacts, 'started_at'> },
): number {
  const [first, second] = [a.facts.started_at, b.facts.started_at];
  // All are in UTC: those of one length sort as texts, and to read ten thousand dates takes a while.
  const order =
    first.length === second.length
      ? Number(second > first) - Number(second < first)
      : Date.parse(second) - Date.parse(first);
  return order || (a.digest < b.digest ? -1 : 1);
}

/** The digests that a project's records name. */
export async function runDigests(zone: Zone, project: string): Promise<Digest[]> {
  const digests: Digest[] = [];
  for await (const key of zone.listRecordKeys(runPrefix(project))) {
    const digest = `sha256:${key.slice(runPrefix(project).length).replace(/\.json$/, '')}`;
    if (isDigest(digest)) digests.push(digest);
  }
  return digests;
}

/** Is told how many runs of how many were read. */
export type ReadProgress = (read: number, of: number) => void;

/** The runs with these digests, some at a time as they are read; those that are none are left out. */
export async function* readRuns(
  zone: Zone,
  digests: readonly Digest[],
  progress?: ReadProgress,
): AsyncGenerator<Run[]> {
  const kinds: Kinds = new Map();
  for (let at = 0; at < digests.length; at += atOnce) {
    const some = digests.slice(at, at + atOnce);
    const read = await Promise.all(some.map((digest) => readRun(zone, digest, kinds)));
    progress?.(at + some.length, digests.length);
    yield read.filter((one) => one !== null);
  }
}

/** Every run of a project (of one model, if given), newest first. */
export async function listRuns(
  zone: Zone,
  project: string,
  model?: string,
  progress?: ReadProgress,
): Promise<Run[]> {
  const runs: Run[] = [];
  for await (const some of readRuns(zone, await runDigests(zone, project), progress)) runs.push(...some);
  return (model === undefined ? runs : runs.filter(({ facts }) => facts.model === model)).sort(byAge);
}
