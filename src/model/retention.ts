import type { Digest } from '../core/digest.ts';

/** How many versions stay whatever else is known of them. */
export interface RetentionPolicy {
  /** The newest versions of a model; at least 1, so that no number is given twice. */
  keep: number;
  /** Versions younger than so many days. */
  days: number;
}

/** A version as far as retention depends on it. `modified`: when it was registered, in milliseconds since 1970. */
export interface Retained {
  version: number;
  candidate: Digest;
  /** Digests of what it consists of: candidate, package, checkpoint, run. */
  digests: readonly Digest[];
  /** See `versionNames`. */
  names: readonly string[];
  modified: number;
}

/** What holds on to versions from outside the registry, as hexadecimal sha256. */
export interface Holders {
  /** What a lock or cdl.yaml of any commit names. */
  git: ReadonlySet<string>;
  /** What decisions and live state name. */
  trusted: ReadonlySet<string>;
  /** Numbers that `from:` of a model in cdl.yaml of any commit names. */
  starts: ReadonlySet<number>;
}

/** A version with every reason why it stays; none: it may go. */
export interface RetentionVerdict {
  version: number;
  reasons: string[];
}

const day = 24 * 60 * 60 * 1000;

/** Which versions of one model stay, and why; in the order given. Pure. */
export function planRetention(
  versions: readonly Retained[],
  holders: Holders,
  policy: RetentionPolicy,
  now: number,
): RetentionVerdict[] {
  const newest = new Set(
    versions
      .map(({ version }) => version)
      .sort((a, b) => b - a)
      .slice(0, Math.max(1, policy.keep)),
  );
  return versions.map(({ version, digests, names, modified }) => {
    const isIn = (set: ReadonlySet<string>) => digests.some((digest) => set.has(digest.slice(7)));
    const reasons = [
      ...names,
      isIn(holders.git) && 'in a lock',
      isIn(holders.trusted) && 'decided about',
      holders.starts.has(version) && 'a model starts from it',
      newest.has(version) && 'among the newest',
      now - modified < policy.days * day && 'young',
    ].filter((one) => typeof one === 'string');
    return { version, reasons };
  });
}
