import type { Decision } from './decision.ts';
import type { Digest } from './digest.ts';
import type { LiveState } from './live.ts';
import type { LockEntry } from './lock.ts';

/** What is known of one environment of a model. */
export interface Standing {
  environment: string;
  entry: LockEntry | null;
  /** Null where the trusted zone cannot be read: then the lock alone says what serves. */
  trusted: { live: LiveState | null; decisions: readonly Decision[] } | null;
}

/** A version as far as its names depend on it. */
export interface Numbered {
  version: number;
  candidate: Digest;
}

const isRevoked = (decisions: readonly Decision[], candidate: Digest): boolean =>
  decisions.findLast((one) => one.candidate === candidate)?.decision === 'revoked';

/** What serves, by the live state, or by the lock where that is all there is to see. */
function servingOf({ entry, trusted }: Standing): Digest | null {
  return trusted ? (trusted.live?.current?.candidate ?? null) : (entry?.candidate ?? null);
}

/** What was promoted last before that which serves, and not revoked since: where a rollback goes. */
function previousOf(standing: Standing, serving: Digest | null): Digest | null {
  const decisions = standing.trusted?.decisions ?? [];
  const before = decisions.findLast(
    (one) => one.decision === 'promoted' && one.candidate !== serving && !isRevoked(decisions, one.candidate),
  );
  return before?.candidate ?? null;
}

/** What is to serve next: the lock's entry that is not live yet, or the newest version that nobody decided about. */
function candidateOf(
  standing: Standing,
  serving: Digest | null,
  versions: readonly Numbered[],
): Digest | null {
  const { entry, trusted } = standing;
  const decisions = trusted?.decisions ?? [];
  const isTakenBack = entry !== null && trusted?.live?.failed?.candidate === entry.candidate;
  if (entry && entry.candidate !== serving && !isTakenBack && !isRevoked(decisions, entry.candidate)) {
    return entry.candidate;
  }
  const decided = new Set(decisions.map((one) => one.candidate));
  const from = versions.find((one) => one.candidate === serving)?.version ?? 0;
  const open = versions.filter((one) => one.version > from && !decided.has(one.candidate));
  return (
    open.reduce<Numbered | null>((newest, one) => (one.version > (newest?.version ?? 0) ? one : newest), null)
      ?.candidate ?? null
  );
}

/**
 * The names of a model's versions, by number: what serves an environment has the name of that environment; `previous` is
 * where a rollback goes, `candidate` what is to serve next. The two are those of `production` (or the only, or first,
 * environment); of others they are told apart as `candidate@staging`. Nobody sets a name: all follow from lock, decisions
 * and live state. Pure.
 */
export function versionNames(
  standings: readonly Standing[],
  versions: readonly Numbered[],
): Map<number, string[]> {
  const names = new Map<number, string[]>();
  const main = (standings.find((one) => one.environment === 'production') ?? standings[0])?.environment;
  const numbers = new Map(versions.map((one) => [one.candidate, one.version]));
  for (const standing of standings) {
    const { environment } = standing;
    const suffix = environment === main ? '' : `@${environment}`;
    const serving = servingOf(standing);
    const named: [string, Digest | null][] = [
      [environment, serving],
      [`previous${suffix}`, previousOf(standing, serving)],
      [`candidate${suffix}`, candidateOf(standing, serving, versions)],
    ];
    for (const [name, candidate] of named) {
      const version = candidate === null ? undefined : numbers.get(candidate);
      if (version !== undefined) names.set(version, [...(names.get(version) ?? []), name]);
    }
  }
  return names;
}
