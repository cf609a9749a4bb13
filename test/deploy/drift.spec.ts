import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Candidate, candidateDigest } from '../../src/core/candidate.ts';
import type { Decision } from '../../src/core/decision.ts';
import { digestJson } from '../../src/core/digest.ts';
import type { LiveState } from '../../src/core/live.ts';
import { createEntry } from '../../src/core/lock.ts';
import { type DriftFacts, driftReport, type EnvironmentFacts, findDrift } from '../../src/deploy/drift.ts';
import { renderMarkdown } from '../../src/report/markdown.ts';

const golden = (name: string): string => join(import.meta.dirname, '../golden/deploy', name);
const named = (text: string) => digestJson(text);
const candidateOf = (text: string): Candidate => ({
  model: 'fashion',
  code: named('code'),
  config: named('config'),
  dataset: named('dataset'),
  transform: null,
  checkpoint: named(text),
  package: named(`package of ${text}`),
});
const candidate = candidateOf('weights');
const digest = candidateDigest(candidate);
const evaluation = named('evaluation');
const entry = createEntry(candidate, evaluation, { version: 7, run: named('run') });
const decision = (what: Decision['decision']): Decision => ({
  candidate: digest,
  evaluation,
  project: 'fashion',
  model: 'fashion',
  environment: 'production',
  baseline: null,
  plan: named('plan'),
  decision: what,
  approvers: [],
  policy: named('policy'),
  change: '!12',
  seq: 1,
  prev: null,
  time: '2026-01-01T00:00:00.000Z',
});
const serving = {
  candidate: digest,
  evaluation,
  package: candidate.package,
  plan: named('plan'),
  version: 7,
  since: '2026-01-01T00:00:00.000Z',
  commit: 'a'.repeat(40),
};
const live: LiveState = { v: 1, current: serving, transition: null, failed: null, endpoint: null };
const whole = (name: string) => ({ name, digest: named(name), presence: 'whole' as const });

function factsWith(more: Partial<EnvironmentFacts> = {}, of: Partial<DriftFacts> = {}): DriftFacts[] {
  return [
    {
      model: 'fashion',
      versions: [{ version: 7, candidate: digest, artifacts: [whole('package')] }],
      strays: [],
      environments: [
        {
          environment: 'production',
          entry,
          live,
          decisions: [decision('approved'), decision('promoted')],
          isRecorded: true,
          artifacts: [whole('package'), whole('evaluation')],
          ...more,
        },
      ],
      ...of,
    },
  ];
}

const said = (facts: DriftFacts[]): string[] => findDrift(facts).map((one) => one.what);

describe('drift', () => {
  it('is nothing while everything agrees, and while nothing was ever deployed', () => {
    expect(findDrift(factsWith())).toEqual([]);
    expect(
      findDrift(
        factsWith(
          { entry: null, live: null, decisions: [], isRecorded: false, artifacts: [] },
          { versions: [] },
        ),
      ),
    ).toEqual([]);
    expect(findDrift(factsWith({ live: { ...live, current: null, transition: serving } }))).toEqual([]);
  });

  it('is found both ways: what the lock names is not there, and what is there the lock does not name', () => {
    const other = candidateDigest(candidateOf('others'));
    expect(said(factsWith({}, { versions: [] }))).toEqual(['version 7 of cdl.lock is not in the registry']);
    expect(said(factsWith({}, { versions: [{ version: 7, candidate: other, artifacts: [] }] }))[0]).toContain(
      'another candidate in the registry',
    );
    expect(said(factsWith({ entry: null }))).toEqual(['version 7 is live and cdl.lock has no entry for it']);
    expect(said(factsWith({ isRecorded: false }))[0]).toContain('is not in the trusted zone');
    expect(said(factsWith({ decisions: [] }))).toEqual(['nobody decided about version 7 of cdl.lock']);
    expect(said(factsWith({ decisions: [decision('promoted'), decision('revoked')] }))).toEqual([
      'version 7 of cdl.lock was revoked',
    ]);
    expect(said(factsWith({ live: null }))).toEqual([
      'version 7 of cdl.lock is to serve, and nothing is live',
    ]);
    expect(said(factsWith({}, { strays: ['staging'] }))[0]).toContain('no such environment');
  });

  it('reads as one table with what to do', async () => {
    const [facts] = factsWith({
      live: {
        ...live,
        current: { ...serving, candidate: named('before'), version: 6 },
        failed: { ...serving, reason: '3.1 % of requests failed at 10 %' },
      },
      decisions: [],
      artifacts: [whole('package'), { name: 'evaluation', digest: evaluation, presence: 'corrupt' }],
    });
    facts!.versions.push({
      version: 8,
      candidate: named('8'),
      artifacts: [{ name: 'checkpoint', digest: named('c8'), presence: 'missing' }],
    });
    const found = findDrift([facts!]);
    const text = renderMarkdown(driftReport('fashion', found, 1));
    await expect(`${text.trimEnd()}\n`).toMatchFileSnapshot(golden('drift.md'));
    const well = renderMarkdown(driftReport('fashion', [], 2));
    await expect(`${well.trimEnd()}\n`).toMatchFileSnapshot(golden('no-drift.md'));
  });
});
