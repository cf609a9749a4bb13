import type { KeyObject } from 'node:crypto';
import { type Candidate, candidateDigest } from '../core/candidate.ts';
import { candidateKey } from '../core/claim.ts';
import type { Decision } from '../core/decision.ts';
import { type Digest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { LiveState } from '../core/live.ts';
import { type Lock, type LockEntry, lockEntry } from '../core/lock.ts';
import { plural } from '../core/plural.ts';
import type { Project } from '../core/project.ts';
import type { Report } from '../core/report.ts';
import { listVersions } from '../model/registry.ts';
import type { Zone } from '../store/types.ts';
import { readChain, readLiveRecord } from './records.ts';

/** Whether an artifact can be used. */
export type Presence = 'whole' | 'missing' | 'corrupt';

/** What registry, lock, store and decisions say about one environment of a model. Plain data. */
export interface EnvironmentFacts {
  environment: string;
  entry: LockEntry | null;
  live: LiveState | null;
  decisions: Decision[];
  /** The candidate of the entry was handed to the trusted zone. */
  isRecorded: boolean;
  /** The artifacts that the entry names and a deployment or an audit needs. */
  artifacts: { name: string; digest: Digest; presence: Presence }[];
}

/** All that is compared about one model. Plain data. */
export interface DriftFacts {
  model: string;
  versions: {
    version: number;
    candidate: Digest;
    artifacts: { name: string; digest: Digest; presence: Presence }[];
  }[];
  environments: EnvironmentFacts[];
  /** Environments of the lock that cdl.yaml does not have. */
  strays: string[];
}

/** One thing that does not agree, and what to do about it. `environment` is null when it is the registry's. */
export interface Drift {
  model: string;
  environment: string | null;
  what: string;
  next: string;
}

const readBack = 'restore the object from a backup of the store, or roll back to a version that is whole';

function environmentDrift(model: string, facts: EnvironmentFacts, versions: DriftFacts['versions']): Drift[] {
  const { environment, entry, live, decisions } = facts;
  const found: Drift[] = [];
  const say = (what: string, next: string) => void found.push({ model, environment, what, next });
  const current = live?.current ?? null;
  if (!entry) {
    if (current)
      say(
        `version ${current.version} is live and cdl.lock has no entry for it`,
        'merge the change that the bot opens, or roll back',
      );
    return found;
  }
  const label = `version ${entry.info.version} of cdl.lock`;
  const registered = versions.find((one) => one.version === entry.info.version);
  if (!registered)
    say(
      `${label} is not in the registry`,
      'restore the record below versions/ of the work zone from a backup',
    );
  else if (registered.candidate !== entry.candidate) {
    say(
      `${label} is another candidate in the registry (${shortDigest(registered.candidate)})`,
      'find out who wrote the record; the lock is what counts',
    );
  }
  if (!facts.isRecorded)
    say(`${label}: its candidate ${shortDigest(entry.candidate)} is not in the trusted zone`, readBack);
  for (const { name, digest, presence } of facts.artifacts) {
    if (presence !== 'whole') say(`${label}: its ${name} ${shortDigest(digest)} is ${presence}`, readBack);
  }
  const about = decisions.filter((one) => one.candidate === entry.candidate);
  const last = about.at(-1);
  if (!about.some((one) => one.decision !== 'revoked'))
    say(
      `nobody decided about ${label}`,
      'deploying refuses it: roll back, or propose it in a change and approve it there',
    );
  else if (last?.decision === 'revoked')
    say(`${label} was revoked`, 'merge the change that takes it out of cdl.lock');
  if (current?.candidate !== entry.candidate && live?.transition?.candidate !== entry.candidate) {
    const serves = current ? `version ${current.version} is live` : 'nothing is live';
    const why = live?.failed?.candidate === entry.candidate ? ` (${live.failed.reason})` : '';
    say(
      `${label} is to serve, and ${serves}${why}`,
      `comment cdl /deploy ${environment} on any change, or cdl /rollback to go back`,
    );
  }
  return found;
}

/** Everything that does not agree, both ways: what the lock names is not there, and what is there no lock names. Pure. */
export function findDrift(all: readonly DriftFacts[]): Drift[] {
  return all.flatMap(({ model, versions, environments, strays }) => [
    ...strays.map((environment) => ({
      model,
      environment,
      what: 'cdl.lock has an entry, and cdl.yaml no such environment',
      next: 'take the entry out in a change, or put the environment back into cdl.yaml',
    })),
    ...environments.flatMap((facts) => environmentDrift(model, facts, versions)),
    ...versions.flatMap(({ version, artifacts }) =>
      artifacts
        .filter((one) => one.presence !== 'whole')
        .map(({ name, digest, presence }) => ({
          model,
          environment: null,
          what: `version ${version} of the registry: its ${name} ${shortDigest(digest)} is ${presence}`,
          next: 'train the commit again, which makes the same object, or restore it from a backup',
        })),
    ),
  ]);
}

/** The report about drift. Pure. */
export function driftReport(project: string, found: readonly Drift[], models: number): Report {
  return {
    key: 'drift',
    title: `${project}: registry, lock and what is live`,
    verdict: found.length === 0 ? 'pass' : 'fail',
    summary:
      found.length === 0
        ? `Registry, cdl.lock, decisions and what is live agree about ${plural(models, 'model')}.`
        : `${plural(found.length, 'thing does', 'things do')} not agree.`,
    blocks:
      found.length === 0
        ? []
        : [
            {
              kind: 'table',
              head: ['model', 'environment', 'what', 'what to do'],
              align: ['left', 'left', 'left', 'left'],
              rows: found.map(({ model, environment, what, next }) => [
                model,
                environment ?? '–',
                what,
                next,
              ]),
            },
          ],
  };
}

async function presenceOf(zone: Zone, digest: Digest): Promise<Presence> {
  try {
    if (await zone.hasArtifact(digest)) return 'whole';
    // Not whole: a manifest that is there tells a lost or shortened file from an artifact that never was.
    await zone.getArtifact(digest);
    return 'corrupt';
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return error.code === 'artifact-missing' ? 'missing' : 'corrupt';
  }
}

/** Newest versions of the registry whose artifacts are looked at: older ones may be pruned. */
const mostVersions = 20;

/** Reads what {@link findDrift} compares. Sizes are compared and bytes not read. Throws UserError decision-invalid, UpstreamError. */
export async function readDrift(sources: {
  work: Zone;
  trusted: Zone;
  keys: ReadonlyMap<string, KeyObject>;
  project: Project;
  lock: Lock;
}): Promise<DriftFacts[]> {
  const { work, trusted, keys, project, lock } = sources;
  const name = project.project;
  const all: DriftFacts[] = [];
  for (const model of new Set([...Object.keys(project.models), ...Object.keys(lock.models)])) {
    const wanted = Object.keys(project.models[model]?.environments ?? {});
    const versions: DriftFacts['versions'] = [];
    const registered = await listVersions(work, name, model);
    for (const [index, { version, candidate }] of registered.entries()) {
      const isRecent = index >= registered.length - mostVersions;
      versions.push({
        version,
        candidate: candidateDigest(candidate),
        artifacts: isRecent ? await presences(work, candidate, ['package', 'checkpoint', 'dataset']) : [],
      });
    }
    const environments: EnvironmentFacts[] = [];
    for (const environment of wanted) {
      const entry = lockEntry(lock, model, environment);
      const [live, chain] = await Promise.all([
        readLiveRecord(trusted, name, model, environment),
        readChain(trusted, keys, name, model, environment),
      ]);
      environments.push({
        environment,
        entry,
        live: live?.state ?? null,
        decisions: chain.decisions,
        isRecorded: entry ? (await trusted.readRecord(candidateKey(entry.candidate))) !== null : false,
        artifacts: entry
          ? [
              { name: 'package', digest: entry.package, presence: await presenceOf(trusted, entry.package) },
              {
                name: 'evaluation',
                digest: entry.evaluation,
                presence: await presenceOf(trusted, entry.evaluation),
              },
            ]
          : [],
      });
    }
    const strays = Object.keys(lock.models[model] ?? {}).filter((one) => !wanted.includes(one));
    all.push({ model, versions, environments, strays });
  }
  return all;
}

async function presences(
  zone: Zone,
  candidate: Candidate,
  names: readonly ('package' | 'checkpoint' | 'dataset')[],
): Promise<{ name: string; digest: Digest; presence: Presence }[]> {
  return Promise.all(
    names.map(async (name) => ({
      name,
      digest: candidate[name],
      presence: await presenceOf(zone, candidate[name]),
    })),
  );
}
