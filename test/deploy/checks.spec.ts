import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { DataDecision } from '../../src/core/data-decision.ts';
import type { Decision } from '../../src/core/decision.ts';
import { type Digest, digestBytes } from '../../src/core/digest.ts';
import { UserError } from '../../src/core/error.ts';
import type { Evaluation } from '../../src/core/evaluation.ts';
import type { LiveState } from '../../src/core/live.ts';
import { createEntry, type LockEntry } from '../../src/core/lock.ts';
import { checkDeployment, type DeploymentFacts } from '../../src/deploy/checks.ts';
import { planDeployment } from '../../src/deploy/plan.ts';

const d = (text: string): Digest => digestBytes(text);

function entryOf(name: string): LockEntry {
  return createEntry(
    {
      model: 'fashion',
      code: d(`${name} code`),
      config: d(`${name} config`),
      dataset: d('dataset'),
      transform: null,
      checkpoint: d(`${name} checkpoint`),
      package: d(`${name} package`),
    },
    d(`${name} evaluation`),
    { version: 9, run: d('run') },
  );
}

const fresh = entryOf('new');
const old = entryOf('old');

function planTo(entry: LockEntry, from: Digest | null) {
  return planDeployment({
    project: 'shop',
    model: 'fashion',
    environment: 'production',
    from,
    fromPackage: null,
    to: entry.candidate,
    package: entry.package,
    version: 9,
    bytes: 100,
    environmentConfig: { target: 'local', replicas: 1, traffic: [20, 100], max_error_rate: 0.01 },
    resources: null,
  });
}

function decision(entry: LockEntry, seq: number, more: Partial<Decision> = {}): Decision {
  return {
    candidate: entry.candidate,
    evaluation: entry.evaluation,
    project: 'shop',
    model: 'fashion',
    environment: 'production',
    baseline: old.candidate,
    plan: planTo(entry, old.candidate).digest,
    decision: 'approved',
    approvers: [],
    policy: d('policy'),
    change: '!1',
    seq,
    prev: null,
    time: '2024-01-01T00:00:00Z',
    ...more,
  };
}

function evaluationOf(entry: LockEntry, more: Partial<Evaluation> = {}): DeploymentFacts['evaluation'] {
  return {
    digest: entry.evaluation,
    content: {
      v: 1,
      project: 'shop',
      model: 'fashion',
      environment: 'production',
      isolation: 'network namespace',
      candidate: entry.candidate,
      baseline: old.candidate,
      testset: d('testset'),
      gates: [],
      verdict: 'pass',
      scores: { count: 0, classes: [], metrics: {}, perClass: [], confusion: [] },
      baselineScores: null,
      differences: {},
      ...more,
    },
  };
}

function liveOf(entry: LockEntry): NonNullable<LiveState['current']> {
  return {
    candidate: entry.candidate,
    evaluation: entry.evaluation,
    package: entry.package,
    plan: d('plan'),
    version: 8,
    since: '2024-01-01T00:00:00Z',
    commit: 'abc',
  };
}

function state(more: Partial<LiveState> = {}): LiveState {
  return { v: 1, current: liveOf(old), transition: null, failed: null, endpoint: null, ...more };
}

const promotedOld = decision(old, 1, { decision: 'promoted', baseline: null });

/** Approvals of the data version of the entries by these people; `on` is the evidence that each of them saw. */
function dataOf(required: number, ids: string[] = [], on: string[] = [], version = d('dataset')) {
  const value = ids.map(
    (id, at): DataDecision => ({
      project: 'shop',
      dataset: 'clothes',
      version,
      evidence: d(on[at] ?? 'evidence'),
      decision: 'approved',
      approver: { id, name: id, role: 'data' },
      verdict: 'pass',
      labels: null,
      policy: d('policy'),
      change: '!1',
      seq: at + 1,
      prev: null,
      time: '2024-01-01T00:00:00Z',
    }),
  );
  return { dataset: 'clothes', required, decisions: { kind: 'ok' as const, value } };
}

/** A deployment with nothing wrong: the old version is live, the new one approved. */
function facts(more: Partial<DeploymentFacts> = {}): DeploymentFacts {
  return {
    project: 'shop',
    model: 'fashion',
    environment: 'production',
    ref: { name: 'main', isProtected: true },
    entry: { kind: 'ok', value: fresh },
    tip: fresh,
    package: { kind: 'ok', value: fresh.package },
    live: state(),
    decisions: { kind: 'ok', value: [promotedOld, decision(fresh, 2)] },
    data: dataOf(0),
    recomputed: { code: fresh.code, config: fresh.config },
    evaluation: evaluationOf(fresh),
    plan: planTo(fresh, old.candidate),
    ...more,
  };
}

const chain = (...value: Decision[]): DeploymentFacts['decisions'] => ({ kind: 'ok', value });
const failed = (error: UserError) => ({ kind: 'failed' as const, error });

describe('a deployment goes ahead', () => {
  test('forward when everything agrees', () => {
    expect(checkDeployment(facts())).toEqual({ kind: 'apply', mode: 'forward', override: null });
  });

  test('forward with the approvals of its data that are asked for', () => {
    const data = dataOf(2, ['7', '8', '7'], ['now', 'now', 'before']);
    expect(checkDeployment(facts({ data }))).toMatchObject({ kind: 'apply', mode: 'forward' });
  });

  test('forward as the first version of all', () => {
    const first = facts({
      live: null,
      plan: planTo(fresh, null),
      decisions: chain(decision(fresh, 1, { baseline: null, plan: planTo(fresh, null).digest })),
      evaluation: evaluationOf(fresh, { baseline: null }),
    });
    expect(checkDeployment(first)).toEqual({ kind: 'apply', mode: 'forward', override: null });
  });

  test('forward over a failed gate with the reason somebody gave', () => {
    const override = { reason: 'the old one is broken' };
    const verdict = checkDeployment(
      facts({
        evaluation: evaluationOf(fresh, { verdict: 'fail' }),
        decisions: chain(promotedOld, decision(fresh, 2, { override })),
      }),
    );
    expect(verdict).toEqual({ kind: 'apply', mode: 'forward', override });
  });

  test('as a return, without looking at code, evaluation, baseline or plan again', () => {
    const returning = facts({
      entry: { kind: 'ok', value: old },
      tip: old,
      package: { kind: 'ok', value: old.package },
      live: state({ current: liveOf(fresh) }),
      decisions: chain(promotedOld, decision(fresh, 2), decision(fresh, 3, { decision: 'promoted' })),
      evaluation: null,
      recomputed: { code: d('other'), config: d('other') },
    });
    expect(checkDeployment(returning)).toEqual({ kind: 'apply', mode: 'return', override: null });
  });

  test('as a resumption when an earlier job began it', () => {
    expect(checkDeployment(facts({ live: state({ transition: liveOf(fresh) }) }))).toEqual({
      kind: 'resume',
      mode: 'forward',
      override: null,
    });
  });

  test('as a resumption when the earlier job was killed after the signature', () => {
    const verdict = checkDeployment(
      facts({
        live: state({ transition: liveOf(fresh) }),
        decisions: chain(promotedOld, decision(fresh, 2), decision(fresh, 3, { decision: 'promoted' })),
      }),
    );
    expect(verdict).toEqual({ kind: 'resume', mode: 'return', override: null });
  });

  test('anew when what was under way is another candidate', () => {
    expect(checkDeployment(facts({ live: state({ transition: liveOf(entryOf('lost')) }) })).kind).toBe(
      'apply',
    );
  });

  test('back to what is live when another candidate was left halfway', () => {
    const verdict = checkDeployment(
      facts({
        entry: { kind: 'ok', value: old },
        tip: old,
        package: { kind: 'ok', value: old.package },
        live: state({ transition: liveOf(fresh) }),
      }),
    );
    expect(verdict).toEqual({ kind: 'apply', mode: 'return', override: null });
  });

  test('when it was revoked and then approved and evaluated again', () => {
    const verdict = checkDeployment(
      facts({
        decisions: chain(promotedOld, decision(fresh, 2, { decision: 'revoked' }), decision(fresh, 3)),
      }),
    );
    expect(verdict.kind).toBe('apply');
  });
});

describe('a deployment is done', () => {
  test.each([
    ['the tip names another candidate', { tip: old }],
    ['the tip names another evaluation', { tip: { ...fresh, evaluation: d('later') } }],
    ['the tip has no entry any more', { tip: null }],
    ['this commit had no entry and the tip has', { entry: { kind: 'ok' as const, value: null } }],
  ])('superseded: %s', (_name, more) => {
    expect(checkDeployment(facts(more))).toEqual({ kind: 'done', why: 'superseded' });
  });

  test('already live', () => {
    expect(checkDeployment(facts({ live: state({ current: liveOf(fresh) }) }))).toEqual({
      kind: 'done',
      why: 'already-live',
    });
  });
});

const refusals: [string, number, string, Partial<DeploymentFacts>][] = [
  ['data that nobody approved', 7, 'not-approved', { data: dataOf(1) }],
  ['one approval of the data twice', 7, 'not-approved', { data: dataOf(2, ['7', '7']) }],
  ['approvals of its data on two evidences', 7, 'not-approved', { data: dataOf(2, ['7', '8'], ['a', 'b']) }],
  ['the approval of other data', 7, 'not-approved', { data: dataOf(1, ['7'], [], d('other data')) }],
  [
    'decisions about data that do not verify',
    7,
    'decision-invalid',
    {
      data: { ...dataOf(1, ['7']), decisions: failed(new UserError('decision-invalid', 'no such key')) },
    },
  ],
  ['an unprotected ref', 1, 'not-protected', { ref: { name: 'experiment', isProtected: false } }],
  [
    'a lock that does not parse',
    2,
    'lock-conflict',
    { entry: failed(new UserError('lock-conflict', 'markers')) },
  ],
  ['no entry anywhere', 2, 'input-missing', { entry: { kind: 'ok', value: null }, tip: null }],
  [
    'an entry edited by hand',
    2,
    'lock-invalid',
    {
      entry: { kind: 'ok', value: { ...fresh, package: old.package } },
      tip: { ...fresh, package: old.package },
    },
  ],
  [
    'a damaged package',
    2,
    'artifact-corrupt',
    { package: failed(new UserError('artifact-corrupt', 'damaged')) },
  ],
  [
    'another package than the entry names',
    2,
    'artifact-corrupt',
    { package: { kind: 'ok', value: old.package } },
  ],
  [
    'a chain that does not verify',
    4,
    'decision-invalid',
    { decisions: failed(new UserError('decision-invalid', 'forged')) },
  ],
  [
    'decisions of another project',
    4,
    'decision-invalid',
    { decisions: chain(decision(fresh, 1, { project: 'x' })) },
  ],
  [
    'decisions of another model',
    4,
    'decision-invalid',
    { decisions: chain(decision(fresh, 1, { model: 'x' })) },
  ],
  [
    'decisions of another environment',
    4,
    'decision-invalid',
    { decisions: chain(decision(fresh, 1, { environment: 'staging' })) },
  ],
  [
    'a revoked candidate',
    4,
    'not-approved',
    { decisions: chain(decision(fresh, 1), decision(fresh, 2, { decision: 'revoked' })) },
  ],
  [
    'a candidate that was promoted and then revoked',
    4,
    'not-approved',
    {
      decisions: chain(
        decision(fresh, 1),
        decision(fresh, 2, { decision: 'promoted' }),
        decision(fresh, 3, { decision: 'revoked' }),
      ),
    },
  ],
  ['other code', 6, 'lock-invalid', { recomputed: { code: d('x'), config: fresh.config } }],
  ['another configuration', 6, 'lock-invalid', { recomputed: { code: fresh.code, config: d('x') } }],
  ['no decision at all', 7, 'not-approved', { decisions: chain() }],
  ['an approval of another candidate only', 7, 'not-approved', { decisions: chain(decision(old, 1)) }],
  [
    'an approval of another evaluation',
    7,
    'not-approved',
    { decisions: chain(decision(fresh, 1, { evaluation: d('other') })) },
  ],
  ['an evaluation that is gone', 8, 'artifact-corrupt', { evaluation: null }],
  [
    'another evaluation than the entry names',
    8,
    'artifact-corrupt',
    { evaluation: { ...evaluationOf(fresh)!, digest: d('x') } },
  ],
  [
    'an evaluation of another candidate',
    8,
    'artifact-corrupt',
    { evaluation: evaluationOf(fresh, { candidate: old.candidate }) },
  ],
  [
    'an evaluation of another model',
    8,
    'artifact-corrupt',
    { evaluation: evaluationOf(fresh, { model: 'x' }) },
  ],
  [
    'an evaluation of another project',
    8,
    'artifact-corrupt',
    { evaluation: evaluationOf(fresh, { project: 'x' }) },
  ],
  [
    'an evaluation for another environment',
    8,
    'artifact-corrupt',
    { evaluation: evaluationOf(fresh, { environment: 'staging' }) },
  ],
  [
    'a failed gate nobody overruled',
    8,
    'gate-refused',
    { evaluation: evaluationOf(fresh, { verdict: 'fail' }) },
  ],
  ['a baseline that moved', 9, 'baseline-moved', { live: state({ current: liveOf(entryOf('hotfix')) }) }],
  [
    'an evaluation against another baseline',
    9,
    'baseline-moved',
    { evaluation: evaluationOf(fresh, { baseline: d('x') }) },
  ],
  ['a plan from somewhere else', 9, 'baseline-moved', { plan: planTo(fresh, null) }],
  [
    'a plan that was not approved',
    9,
    'not-approved',
    { decisions: chain(decision(fresh, 1, { plan: d('other plan') })) },
  ],
];

describe('a deployment is refused', () => {
  test.each(refusals)('%s (check %i, %s)', (_name, check, code, more) => {
    const verdict = checkDeployment(facts(more));
    expect(verdict).toMatchObject({ kind: 'refuse', check, error: { code } });
  });

  test('by the earliest check, whatever else is wrong too', () => {
    // The facts of check 2 replace each other, so each number is taken once.
    const byCheck = new Map(refusals.map(([, check, , more]) => [check, more]));
    fc.assert(
      fc.property(
        fc.subarray(
          [...byCheck.keys()].filter((check) => check !== 2),
          { minLength: 1 },
        ),
        (checks) => {
          // Of facts that several checks read, the earliest check's version counts.
          const wrong: Partial<DeploymentFacts> = {};
          for (const check of [...checks].sort((x, y) => y - x)) Object.assign(wrong, byCheck.get(check));
          const verdict = checkDeployment(facts(wrong));
          expect(verdict.kind === 'refuse' && verdict.check).toBe(Math.min(...checks));
        },
      ),
    );
  });
});
