import { describe, expect, it } from 'vitest';
import { isOverruled, planChange } from '../../bot/plan.ts';
import { planPromotion } from '../../bot/promote.ts';
import type { Facts } from '../../bot/types.ts';
import { type Decision, digestJson, type LiveState } from '../../src/index.ts';
import { approvalOf, decisionOf, factsWith, failingFacts, lockOf } from './facts.ts';

const good = factsWith();
const bad = failingFacts();
const open = good.change;
const running = { ...good.pipeline!, state: 'running' as const };
const failed = { ...good.pipeline!, state: 'failed' as const };
const asked = { question: good.question!, pipeline: '9', url: '' };
const live = (candidate: Facts['review']): LiveState => ({
  v: 1,
  current: {
    candidate: candidate!,
    evaluation: good.answer!.digest,
    package: good.plan!.package,
    plan: good.plan!.digest,
    version: 7,
    since: '2026-01-02T00:00:00.000Z',
    commit: '',
  },
  transition: null,
  failed: null,
  endpoint: null,
});
const verified = good.claim.kind === 'verified' ? good.claim : null;
const rejection = {
  change: 12,
  head: open.head,
  about: [],
  step: 'train',
  reason: 'more epochs',
  userId: '3',
  username: 'vera',
  at: '',
};

type Row = [
  name: string,
  facts: Facts,
  standing: string,
  status: string,
  does: ('record' | 'evaluate' | 'lock' | 'decision')[],
];

const table: Row[] = [
  ['of a fork', factsWith({ change: { ...open, fork: true } }), 'fork', 'pending', []],
  ['with a model main does not know', factsWith({ rules: null }), 'new-model', 'success', []],
  [
    'with a new model and a lock entry',
    factsWith({ rules: null, lock: lockOf(good) }),
    'new-model',
    'failed',
    [],
  ],
  [
    'whose pipeline runs',
    factsWith({ pipeline: running, claim: { kind: 'none' } }),
    'waiting',
    'pending',
    [],
  ],
  ['without a pipeline', factsWith({ pipeline: null, claim: { kind: 'none' } }), 'waiting', 'pending', []],
  ['whose pipeline failed', factsWith({ pipeline: failed }), 'broken', 'failed', []],
  ['that registered nothing', factsWith({ claim: { kind: 'none' } }), 'unclaimed', 'failed', []],
  ['with a false claim', factsWith({ claim: { kind: 'wrong', problems: ['x'] } }), 'wrong', 'failed', []],
  [
    'that makes what is live',
    factsWith({ live: live(verified!.digest), lock: { ...lockOf(good), base: lockOf(good).head } }),
    'unchanged',
    'success',
    [],
  ],
  [
    'not evaluated yet',
    factsWith({ answer: null, review: null, claim: { ...verified!, recorded: false } }),
    'evaluating',
    'pending',
    ['record', 'evaluate'],
  ],
  [
    'under evaluation',
    factsWith({ answer: null, review: null, run: { ...asked, head: 'b', said: [], state: 'running' } }),
    'evaluating',
    'pending',
    [],
  ],
  [
    'whose evaluation failed at this head',
    factsWith({ answer: null, review: null, run: { ...asked, head: open.head, said: [], state: 'failed' } }),
    'unanswered',
    'failed',
    [],
  ],
  [
    'whose evaluation failed before the last push',
    factsWith({ answer: null, review: null, run: { ...asked, head: 'b', said: [], state: 'failed' } }),
    'evaluating',
    'pending',
    ['evaluate'],
  ],
  ['that passed', good, 'judged', 'pending', ['lock']],
  ['that passed, a draft', factsWith({ change: { ...open, draft: true } }), 'judged', 'pending', []],
  ['that passed, locked', factsWith({ lock: lockOf(good) }), 'judged', 'pending', []],
  [
    'that passed, locked by hand',
    factsWith({ lock: { ...lockOf(good), text: '{', problem: 'odd' } }),
    'judged',
    'pending',
    ['lock'],
  ],
  ['that was sent back', factsWith({ rejection }), 'judged', 'failed', []],
  [
    'enough people approved',
    factsWith({ approvals: [approvalOf(good, 'vera')] }),
    'judged',
    'success',
    ['lock', 'decision'],
  ],
  [
    'enough people approved, and one sent back',
    factsWith({ approvals: [approvalOf(good, 'vera')], rejection }),
    'judged',
    'failed',
    [],
  ],
  [
    'decided already',
    factsWith({
      approvals: [approvalOf(good, 'vera')],
      decisions: [decisionOf(good, 'approved')],
      lock: lockOf(good),
    }),
    'judged',
    'success',
    [],
  ],
  [
    'decided and revoked',
    factsWith({ decisions: [decisionOf(good, 'approved'), decisionOf(good, 'revoked')], lock: lockOf(good) }),
    'judged',
    'pending',
    [],
  ],
  [
    'decided for another plan',
    factsWith({
      decisions: [decisionOf(good, 'approved', { plan: digestJson('other') })],
      lock: lockOf(good),
    }),
    'judged',
    'pending',
    [],
  ],
  [
    'decided against another baseline',
    factsWith({
      decisions: [decisionOf(good, 'approved', { baseline: digestJson('other') })],
      lock: lockOf(good),
    }),
    'judged',
    'pending',
    [],
  ],
  ['a gate refused', bad, 'judged', 'failed', []],
  [
    'a gate refused, approved without a reason',
    failingFacts({ approvals: [approvalOf(bad, 'vera')] }),
    'judged',
    'failed',
    [],
  ],
  [
    'a gate refused, overruled',
    failingFacts({ approvals: [approvalOf(bad, 'vera', 'rare')] }),
    'judged',
    'success',
    ['lock', 'decision'],
  ],
  [
    'merged before its decision',
    factsWith({ change: { ...open, state: 'merged' }, approvals: [approvalOf(good, 'vera')] }),
    'judged',
    'success',
    ['decision'],
  ],
];

describe('the plan for a change', () => {
  it.each(table)('%s', (_name, facts, standing, status, does) => {
    const plan = planChange(facts);
    expect(plan.standing.kind).toBe(standing);
    expect(plan.status.state).toBe(status);
    const done = [
      plan.record && 'record',
      plan.evaluate && 'evaluate',
      plan.lock && 'lock',
      plan.decision && 'decision',
    ].filter(Boolean);
    expect(done).toEqual(does);
  });

  it('asks on the default branch, naming candidate and question', () => {
    const facts = factsWith({ answer: null, review: null });
    const { evaluate } = planChange(facts);
    expect(evaluate).toMatchObject({
      ref: 'main',
      inputs: {
        cdl_task: 'evaluate',
        cdl_model: 'fashion',
        cdl_environment: 'production',
        cdl_candidate: verified!.digest,
        cdl_change: '12',
        cdl_question: good.question,
      },
    });
  });

  it('takes a signed approval back when the change is sent back, the rules change, or who approved may no longer', () => {
    const approval = approvalOf(good, 'vera');
    const first = planChange(factsWith({ approvals: [approval] })).decision!;
    const signed = { ...first, seq: 1, prev: null, time: '2026-01-01T00:00:00.000Z' };
    const approved = { approvals: [approval], decisions: [signed] };
    const of = (more: Partial<Facts>) => planChange(factsWith({ ...approved, ...more }));
    expect(of({})).toMatchObject({ decision: null, status: { state: 'success' } });

    expect(of({ rejection })).toMatchObject({
      decision: { decision: 'revoked' },
      status: { state: 'failed' },
    });
    const demoted = of({ approvals: [], lapsed: [{ approval, why: 'has the role no more' }] });
    expect(demoted).toMatchObject({ decision: { decision: 'revoked' }, status: { state: 'pending' } });
    const { project, model } = good.rules!;
    const stricter = { project: { ...project, approvals: { ...project.approvals, required: 2 } }, model };
    expect(of({ rules: stricter }).decision).toMatchObject({
      decision: 'revoked',
      candidate: signed.candidate,
      approvers: [],
    });

    // What was merged is live or about to be: only a change of its own takes it back.
    expect(of({ rejection, change: { ...open, state: 'merged' } }).decision).toBeNull();
  });

  it('does not count who approved before a deployment of it was taken back, and counts who does after', () => {
    const { candidate, evaluation } = decisionOf(good, 'approved');
    const approvers = [{ id: '3', name: 'vera', role: 'validator' as const }];
    const taken = decisionOf(good, 'revoked', { approvers, time: '2026-01-02T00:00:00.000Z' });
    const counts = (at: string, decisions: Decision[]) =>
      !isOverruled({ at }, decisions, { candidate, evaluation });
    expect(counts('2026-01-01T00:00:00.000Z', [taken])).toBe(false);
    expect(counts('2026-01-02T00:00:00.000Z', [taken])).toBe(false);
    expect(counts('2026-01-02T00:00:00.001Z', [taken])).toBe(true);
    expect(counts('2026-01-01T00:00:00.000Z', [{ ...taken, approvers: [] }])).toBe(true);
    expect(counts('2026-01-01T00:00:00.000Z', [{ ...taken, evaluation: candidate }])).toBe(true);
  });

  it('once carried out is not made again', () => {
    const facts = factsWith({ approvals: [approvalOf(good, 'vera')] });
    const { decision, lock } = planChange(facts);
    const after = factsWith({
      ...facts,
      lock: { baseText: '', text: lock!.text, problem: null, head: lock!.entry, base: null },
      decisions: [{ ...decision!, seq: 1, prev: null, time: '2026-01-01T00:00:00.000Z' }],
    });
    expect(planChange(after)).toMatchObject({ lock: null, decision: null, status: { state: 'success' } });
  });
});

describe('the plan for an environment', () => {
  const candidate = verified!.digest;
  const approved = decisionOf(good, 'approved');
  const failedAt = (since: string): LiveState => ({
    ...live(candidate),
    current: null,
    failed: { ...live(candidate).current!, since, reason: 'errors' },
  });
  const locked = lockOf(good).head;
  const kinds = (decisions: Parameters<typeof planPromotion>[0], state: LiveState | null) =>
    planPromotion(decisions, state, locked).decisions.map((one) => one.decision);

  it('promotes what is approved and live, once', () => {
    expect(kinds([approved], live(candidate))).toEqual(['promoted']);
    expect(kinds([approved, decisionOf(good, 'promoted', { seq: 2 })], live(candidate))).toEqual([]);
    expect(kinds([], live(candidate))).toEqual([]);
    expect(kinds([approved], null)).toEqual([]);
  });

  it('revokes what was taken back, once, and not a new approval of it', () => {
    const later = failedAt('2026-01-02T00:00:00.000Z');
    const plan = planPromotion([approved], later, locked);
    expect(plan.decisions.map((one) => one.decision)).toEqual(['revoked']);
    expect(plan.revert).toMatchObject({ candidate, to: null, reason: 'errors' });
    expect(plan.changes).toEqual([12]);
    const revoked = decisionOf(good, 'revoked', { seq: 2 });
    expect(planPromotion([approved, revoked], later, locked)).toMatchObject({
      decisions: [],
      revert: { candidate },
    });
    expect(planPromotion([approved, revoked], later, null).revert).toBeNull();
    const again = decisionOf(good, 'approved', { seq: 3, time: '2026-01-03T00:00:00.000Z' });
    expect(planPromotion([approved, revoked, again], later, locked)).toMatchObject({
      decisions: [],
      revert: null,
    });
  });
});

describe('an entry of the lock that names the live candidate', () => {
  const { head } = lockOf(good);
  const { info } = head!;
  const hand = (edited: typeof info) =>
    factsWith({
      live: live(verified!.digest),
      lock: { ...lockOf(good), base: head, head: { ...head!, info: edited } },
    });

  it.each<[what: string, edited: typeof info]>([
    ['version', { ...info, version: info.version + 1 }],
    ['run', { ...info, run: head!.candidate }],
    ['hyperparameters that a search found', { ...info, tuned: { epochs: 3 } }],
  ])('and another %s is a hand edit', (_what, edited) => {
    const { status, standing } = planChange(hand(edited));
    expect(standing.kind).toBe('unchanged');
    expect(status).toMatchObject({ state: 'failed', description: expect.stringContaining('edited by hand') });
    expect(planChange(hand(info)).status.state).toBe('success');
  });
});
