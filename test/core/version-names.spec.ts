import { describe, expect, it } from 'vitest';
import { candidateDigest } from '../../src/core/candidate.ts';
import type { Decision } from '../../src/core/decision.ts';
import { digestBytes } from '../../src/core/digest.ts';
import type { LiveState } from '../../src/core/live.ts';
import { createEntry } from '../../src/core/lock.ts';
import { type Standing, versionNames } from '../../src/core/version-names.ts';

const candidateOf = (version: number) => ({
  model: 'm',
  code: digestBytes(`code ${version}`),
  config: digestBytes('config'),
  dataset: digestBytes('dataset'),
  transform: null,
  checkpoint: digestBytes('checkpoint'),
  package: digestBytes('package'),
});
const id = (version: number) => candidateDigest(candidateOf(version));
const versions = [1, 2, 3, 4].map((version) => ({ version, candidate: id(version) }));
const entry = (version: number) =>
  createEntry(candidateOf(version), digestBytes('evaluation'), { version, run: digestBytes('run') });
const decided = (version: number, decision: Decision['decision']) =>
  ({ candidate: id(version), decision }) as Decision;
const live = (version: number | null, failed: number | null = null) =>
  ({
    current: version === null ? null : { candidate: id(version) },
    failed: failed === null ? null : { candidate: id(failed) },
  }) as LiveState;
const standing = (
  locked: number | null,
  serves: LiveState | null,
  decisions: Decision[],
  environment = 'production',
): Standing => ({
  environment,
  entry: locked === null ? null : entry(locked),
  trusted: { live: serves, decisions },
});
const names = (...standings: Standing[]) => Object.fromEntries(versionNames(standings, versions));

describe('names of versions', () => {
  it('are of none before anything was decided, but for the newest, which is the candidate', () => {
    expect(names(standing(null, null, []))).toEqual({ 4: ['candidate'] });
    expect(versionNames([standing(null, null, [])], []).size).toBe(0);
  });

  it('follow a promotion, a rollback and a revocation', () => {
    const ran = [1, 2].flatMap((one) => [decided(one, 'approved'), decided(one, 'promoted')]);
    expect(names(standing(2, live(2), ran))).toEqual({
      1: ['previous'],
      2: ['production'],
      4: ['candidate'],
    });
    expect(names(standing(1, live(1), [...ran, decided(1, 'promoted')]))).toEqual({
      1: ['production'],
      2: ['previous'],
      4: ['candidate'],
    });
    expect(names(standing(2, live(2), [...ran, decided(1, 'revoked')]))).toEqual({
      2: ['production'],
      4: ['candidate'],
    });
  });

  it('give the candidate to what the lock says and is not live yet, until it is taken back', () => {
    const ran = [decided(1, 'promoted'), decided(3, 'approved')];
    expect(names(standing(3, live(1), ran))).toEqual({ 1: ['production'], 3: ['candidate'] });
    expect(names(standing(3, live(1, 3), ran))).toEqual({ 1: ['production'], 4: ['candidate'] });
    expect(names(standing(3, live(1), [...ran, decided(3, 'revoked')]))).toEqual({
      1: ['production'],
      4: ['candidate'],
    });
  });

  it('tell other environments apart from production', () => {
    expect(
      names(
        standing(2, live(2), [decided(2, 'promoted')], 'staging'),
        standing(1, live(1), [decided(1, 'promoted')]),
      ),
    ).toEqual({ 1: ['production'], 2: ['staging'], 4: ['candidate@staging', 'candidate'] });
  });
});
