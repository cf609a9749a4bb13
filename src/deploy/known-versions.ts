import type { KeyObject } from 'node:crypto';
import { candidateDigest } from '../core/candidate.ts';
import type { Decision } from '../core/decision.ts';
import type { Digest } from '../core/digest.ts';
import { isDigest } from '../core/digest.ts';
import {
  type Evaluation,
  evaluationKey,
  evaluationQuestion,
  evaluationRules,
  evaluationSchema,
} from '../core/evaluation.ts';
import { type Lock, lockEntry } from '../core/lock.ts';
import type { Project } from '../core/project.ts';
import { type Standing, versionNames } from '../core/version-names.ts';
import { listVersions, type Version } from '../model/registry.ts';
import { type Run, readRun } from '../model/runs.ts';
import type { Zone } from '../store/types.ts';
import { readChain, readLiveRecord } from './records.ts';

/** Where the registry of models is read from. `trusted` is null where this machine may not read that zone. */
export interface RegistrySources {
  work: Zone;
  trusted: Zone | null;
  keys: ReadonlyMap<string, KeyObject>;
  project: Project;
  lock: Lock;
}

/** One version with its names. */
export interface KnownVersion extends Version {
  /** Identity of `candidate`. */
  digest: Digest;
  /** See `versionNames`. */
  names: string[];
}

/** All versions of one model, oldest first, and what their names follow from. */
export interface KnownModel {
  model: string;
  standings: Standing[];
  versions: KnownVersion[];
}

/** Reads the versions of a model and derives their names. Throws UserError decision-invalid, artifact-corrupt. */
export async function readModel(sources: RegistrySources, model: string): Promise<KnownModel> {
  const { work, trusted, keys, project, lock } = sources;
  const environments = new Set([
    ...Object.keys(project.models[model]?.environments ?? {}),
    ...Object.keys(lock.models[model] ?? {}),
  ]);
  const standings = await Promise.all(
    [...environments].map(async (environment): Promise<Standing> => {
      const entry = lockEntry(lock, model, environment);
      // Without keys nobody's decision counts, and so no name that follows from decisions is told.
      if (!trusted || keys.size === 0) return { environment, entry, trusted: null };
      const [live, chain] = await Promise.all([
        readLiveRecord(trusted, project.project, model, environment),
        readChain(trusted, keys, project.project, model, environment),
      ]);
      return { environment, entry, trusted: { live: live?.state ?? null, decisions: chain.decisions } };
    }),
  );
  const versions = (await listVersions(work, project.project, model)).map((one) => ({
    ...one,
    digest: candidateDigest(one.candidate),
  }));
  const names = versionNames(
    standings,
    versions.map(({ version, digest }) => ({ version, candidate: digest })),
  );
  return {
    model,
    standings,
    versions: versions.map((one) => ({ ...one, names: names.get(one.version) ?? [] })),
  };
}

/** Everything the registry tells of one version. */
export interface VersionDetail extends KnownVersion {
  training: Run | null;
  /** What measured it, by environment: named by decisions and lock, or the answer to what would be asked today. */
  evaluations: { environment: string; digest: Digest; evaluation: Evaluation }[];
  /** What was decided about it, oldest first. */
  decisions: Decision[];
}

async function evaluationsOf(sources: RegistrySources, known: KnownModel, one: KnownVersion) {
  const { trusted, project } = sources;
  const found: VersionDetail['evaluations'] = [];
  if (!trusted) return found;
  const config = project.models[known.model];
  for (const { environment, entry, trusted: standing } of known.standings) {
    const digests = new Set<Digest>();
    for (const decision of standing?.decisions ?? [])
      if (decision.candidate === one.digest) digests.add(decision.evaluation);
    if (entry?.candidate === one.digest) digests.add(entry.evaluation);
    const data = config && project.datasets[config.data];
    if (config && data) {
      const question = evaluationQuestion({
        project: project.project,
        model: known.model,
        environment,
        candidate: one.digest,
        baseline: standing?.live?.current?.candidate ?? null,
        ...evaluationRules(config, data),
      });
      const answer = (await trusted.readRecord(evaluationKey(question)))?.value as { evaluation?: unknown };
      if (isDigest(answer?.evaluation)) digests.add(answer.evaluation);
    }
    for (const digest of digests) {
      const parsed = evaluationSchema.safeParse((await trusted.getArtifact(digest).catch(() => null))?.meta);
      if (parsed.success) found.push({ environment, digest, evaluation: parsed.data });
    }
  }
  return found;
}

/** Reads what is known of one version. */
export async function readVersionDetail(
  sources: RegistrySources,
  known: KnownModel,
  one: KnownVersion,
): Promise<VersionDetail> {
  return {
    ...one,
    training: await readRun(sources.work, one.run),
    evaluations: await evaluationsOf(sources, known, one),
    decisions: known.standings.flatMap(({ trusted }) =>
      (trusted?.decisions ?? []).filter((decision) => decision.candidate === one.digest),
    ),
  };
}
