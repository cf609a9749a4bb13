import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { planChange } from '../../bot/plan.ts';
import { buildReport } from '../../bot/report.ts';
import type { Facts } from '../../bot/types.ts';
import { type Evaluation, judge, renderMarkdown } from '../../src/index.ts';
import {
  approvalOf,
  dataApprovalOf,
  decisionOf,
  factsWith,
  factsWithData,
  failingFacts,
  lockOf,
  rulesByRole,
} from './facts.ts';
import { scoresOf } from './world.ts';

const good = factsWith();
const render = (facts: Facts): string => renderMarkdown(buildReport(facts, planChange(facts)));
const golden = (name: string): string => join(import.meta.dirname, '../golden/comments', `report-${name}.md`);
const job = {
  id: '1',
  name: 'train: [fashion]',
  state: 'failed' as const,
  optional: false,
  url: 'https://gitlab.example.com/-/jobs/1',
  reason: 'script_failure',
  seconds: 4,
  endedAt: '2026-01-01T00:00:00Z',
  tags: [],
};
const merged = { ...good.change, state: 'merged' as const };
const candidateOf = ({ claim }: Facts) => (claim.kind === 'verified' ? claim.digest : other);
const other = `sha256:${'3f9a2c'.padEnd(64, '0')}` as const;
const rejection = {
  change: 12,
  head: good.change.head,
  about: [],
  step: 'train',
  reason: 'more epochs',
  userId: '3',
  username: 'vera',
  at: '',
};

const byRole = rulesByRole(2, ['walt', '@acme/ops']);

/** Worse than production, by the gate on the value and by the one on the difference. */
function worseFacts(): Facts {
  const { answer, rules } = failingFacts();
  const drop = { value: -0.3, low: -0.36, high: -0.24 };
  const differences = { accuracy: drop };
  const [scores, baselineScores] = [scoresOf(60), scoresOf(90)];
  const evaluation: Evaluation = {
    ...answer!.evaluation,
    ...judge(rules!.model.gates, scores, baselineScores, differences),
    scores,
    baselineScores,
    differences,
  };
  return factsWith({ answer: { ...answer!, evaluation } });
}

const table: [name: string, facts: Facts][] = [
  ['good', good],
  ['refused', failingFacts()],
  ['worse', worseFacts()],
  [
    'overruled',
    failingFacts({ approvals: [approvalOf(failingFacts(), 'vera', 'rare class')], lock: lockOf(good) }),
  ],
  ['roles', factsWith({ rules: byRole, approvals: [approvalOf(good, 'vera')] })],
  [
    'broken',
    factsWith({
      pipeline: {
        ...good.pipeline!,
        state: 'failed',
        failed: [job],
        said: new Map([
          [
            '1',
            {
              v: 1,
              step: 'train',
              message: 'loss became NaN after 12 steps\n```\n@all <img src=x>',
              hint: 'lower learning_rate',
            },
          ],
        ]),
      },
    }),
  ],
  [
    'wrong',
    factsWith({
      claim: { kind: 'wrong', problems: ['code: the claim names other files than the commit has'] },
    }),
  ],
  [
    'promoted',
    factsWith({ change: merged, decisions: [decisionOf(good, 'approved'), decisionOf(good, 'promoted')] }),
  ],
  [
    'rollout',
    factsWith({
      change: merged,
      decisions: [decisionOf(good, 'approved')],
      rollout: {
        v: 1,
        candidate: candidateOf(good),
        version: 7,
        state: 'running',
        reason: null,
        steps: [
          { at: '2026-01-01T00:00:00Z', traffic: 0, text: 'started beside version 6' },
          { at: '2026-01-01T00:01:00Z', traffic: 10, text: '0 of 240 requests failed' },
        ],
      },
    }),
  ],
  ['data-unapproved', factsWithData(2, { approvals: [dataApprovalOf(factsWithData(2), 'walt')] })],
  [
    'data-refused',
    factsWithData(1, { refused: 'Krippendorff’s alpha is 0.512, less than labels.min_agreement 0.8' }),
  ],
  [
    'data-quarantined',
    factsWithData(0, {
      quarantined: [
        ['fewer than 200 characters', 12],
        ['not UTF-8', 3],
      ],
    }),
  ],
  ['hand-edited', factsWith({ rules: null, lock: { ...lockOf(good), base: null } })],
  ['bypassed', factsWith({ change: merged })],
  [
    'warned',
    factsWith({
      isolated: false,
      rulesChanged: ['gates'],
      rolloutChanged: ['max_error_rate: 1 (was 0.01)'],
      voided: [{ ...approvalOf(good, 'vera'), review: other }, approvalOf(good, 'walt')],
    }),
  ],
];

describe('the report about a change', () => {
  it.each(table)('%s', async (name, facts) => {
    await expect(render(facts)).toMatchFileSnapshot(golden(name));
  });

  it('ends the way to a decision with the line to copy, and only while one is due', () => {
    const line = /\/approve [0-9a-f]{12}/;
    expect(render(good)).toMatch(line);
    expect(render(failingFacts())).toMatch(/\/approve [0-9a-f]{12} --override/);
    expect(render(factsWith({ approvals: [approvalOf(good, 'vera')] }))).not.toMatch(line);
    expect(render(factsWith({ change: merged }))).not.toMatch(line);
    expect(render(factsWith({ claim: { kind: 'none' } }))).not.toMatch(line);
    const sentBack = render(factsWith({ rejection }));
    expect(sentBack).not.toMatch(line);
    expect(sentBack).toContain('vera can take that back');
  });

  it('warns of an entry that names the candidate and is otherwise not the bot’s', () => {
    const lock = lockOf(good);
    const forged = { ...lock.head!, info: { ...lock.head!.info, version: 8 } };
    const hand = /not the one for this candidate/;
    expect(render(factsWith({ lock }))).not.toMatch(hand);
    expect(render(factsWith({ lock: { ...lock, head: forged } }))).toMatch(hand);
  });

  it('lets no text of the change speak for the bot', () => {
    const reason = '</details>\n/approve 123456 <!-- cdl:report:fashion --> @all [x](http://evil.example)';
    const text = render(factsWith({ rejection: { ...rejection, reason } }));
    expect(text).not.toContain('<!-- cdl');
    expect(text).not.toMatch(/^\/approve 123456/m);
    expect(text).not.toContain('](http://evil.example)');
  });
});
