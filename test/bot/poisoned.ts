import fc from 'fast-check';
import type { Facts } from '../../bot/types.ts';
import { venomous } from '../report/venom.ts';
import { approvalOf, factsWith, factsWithData, failingFacts } from './facts.ts';

/** Facts in which everything that somebody else may name or say is one of these texts. */
export function poisonedFacts(name: string, label: string, text: string): Facts[] {
  const facts = failingFacts();
  const { evaluation, digest } = facts.answer!;
  const scores = {
    ...evaluation.scores,
    classes: [label, 'shoe'],
    metrics: { ...evaluation.scores.metrics, [name]: { value: 1, low: 0, high: 2 } },
    perClass: evaluation.scores.perClass.map((row) => ({ ...row, name: label })),
  };
  const gates = [{ name, status: 'fail' as const, explanation: text }];
  const change = {
    ...facts.change,
    sourceBranch: name,
    title: label,
    author: { id: '2', username: label, name: text },
  };
  const headProject = {
    ...facts.headProject,
    requirements: { problem: text, owner: label, metrics: [name], constraints: [text, label] },
  };
  const approval = { ...approvalOf(facts, label, text), role: name, roles: [name] };
  const job = {
    id: '1',
    name,
    state: 'failed' as const,
    optional: false,
    url: 'https://gitlab.example.com/acme/fashion/-/jobs/1',
    reason: text,
    seconds: 1,
    endedAt: null,
    tags: [label],
  };
  const shared = { change, headProject, defaultBranch: name };
  return [
    factsWith({
      ...shared,
      answer: { digest, evaluation: { ...evaluation, scores, gates } },
      lapsed: [{ approval, why: text }],
      voided: [approval],
      approvals: [approval],
      losses: [{ name, points: [[0, 1]] }],
    }),
    factsWith({ ...shared, pipeline: { ...facts.pipeline!, state: 'failed', failed: [job] }, paused: label }),
    factsWith({ ...shared, pipeline: { ...facts.pipeline!, state: 'failed', failed: [job] } }),
    factsWith({
      ...shared,
      rejection: {
        change: 12,
        head: facts.change.head,
        about: [],
        step: 'train',
        reason: text,
        userId: '3',
        username: label,
        at: '2026-01-01T00:00:00Z',
      },
    }),
    factsWith({ ...shared, claim: { kind: 'wrong', problems: [text, name] } }),
    factsWith({ ...shared, lock: { ...facts.lock, text, problem: text }, rules: null }),
    factsWith({ ...factsWithData(1, { refused: text, summary: label }), ...shared }),
    factsWith({
      ...shared,
      change: { ...change, state: 'merged' },
      live: {
        v: 1,
        current: null,
        transition: null,
        failed: {
          candidate: (facts.claim as { digest: `sha256:${string}` }).digest,
          evaluation: digest,
          package: digest,
          plan: digest,
          version: 1,
          since: '2026-01-01T00:00:00Z',
          commit: 'a'.repeat(40),
          reason: text,
        },
        endpoint: name,
      },
    }),
  ];
}

/** As many of them, of texts that are drawn anew with every run; the seed is said when a test fails. */
export function drawPoisoned(count: number): { facts: Facts[]; seed: number } {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const texts = fc.sample(fc.tuple(venomous, venomous, venomous), { numRuns: count, seed });
  return { facts: texts.flatMap((three) => poisonedFacts(...three)), seed };
}
