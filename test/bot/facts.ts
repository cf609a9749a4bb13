import type { Facts } from '../../bot/types.ts';
import {
  candidateDigest,
  createEntry,
  type DataDecision,
  type Decision,
  type Digest,
  digestJson,
  emptyLock,
  evidenceDigest,
  judge,
  parseProject,
  planDeployment,
  policyDigest,
  renderLock,
  reviewDigest,
  withEntry,
} from '../../src/index.ts';
import { projectYaml, scoresOf } from './world.ts';

const named = (text: string): Digest => digestJson(text);
const project = parseProject(projectYaml());
const model = project.models.fashion!;

const candidate = {
  model: 'fashion',
  code: named('code'),
  config: named('config'),
  dataset: named('dataset'),
  transform: null,
  checkpoint: named('checkpoint'),
  package: named('package'),
};
const digest = candidateDigest(candidate);
const claim = { v: 1 as const, candidate, version: 7, run: named('run') };

/** What the first gate of the model says of one that gets `right` of 100 items of each class. */
const judged = (right: number) => judge(model.gates.slice(0, 1), scoresOf(right), null, {});

/** Facts of an evaluated change that waits for its first approval; `more` replaces parts. */
export function factsWith(more: Partial<Facts> = {}): Facts {
  const answer: Facts['answer'] = {
    digest: named('evaluation'),
    evaluation: {
      v: 1,
      project: 'fashion',
      model: 'fashion',
      environment: 'production',
      isolation: 'network namespace',
      candidate: digest,
      baseline: null,
      testset: named('testset'),
      ...judged(90),
      scores: scoresOf(90),
      baselineScores: null,
      differences: {},
    },
  };
  const plan = planDeployment({
    project: 'fashion',
    model: 'fashion',
    environment: 'production',
    from: null,
    fromPackage: null,
    to: digest,
    package: candidate.package,
    version: 7,
    bytes: 1000,
    environmentConfig: model.environments.production!,
    resources: model.resources.serve,
  });
  const facts: Facts = {
    project: 'fashion',
    change: {
      id: 12,
      reference: '!12',
      title: 'Better',
      draft: false,
      state: 'open',
      author: { id: '2', username: 'ada', name: 'Ada' },
      sourceBranch: 'exp/a',
      targetBranch: 'main',
      head: 'a'.repeat(40),
      mergeCommit: null,
      fork: false,
      url: 'https://gitlab.example.com/acme/fashion/-/merge_requests/12',
    },
    model: 'fashion',
    environment: 'production',
    isFirst: true,
    defaultBranch: 'main',
    rules: { project, model },
    rulesChanged: [],
    rolloutChanged: [],
    headProject: project,
    pipeline: {
      pipeline: {
        id: '5',
        ref: 'exp/a',
        sha: 'a'.repeat(40),
        source: 'merge_request_event',
        state: 'success',
        url: 'https://gitlab.example.com/acme/fashion/-/pipelines/5',
        createdAt: '2026-03-01T11:00:00.000Z',
      },
      state: 'success',
      jobs: [],
      failed: [],
      said: new Map(),
    },
    claim: { kind: 'verified', claim, digest, source: 'pipeline', recorded: true, bytes: 1000 },
    live: null,
    rollout: null,
    lock: { text: '', baseText: '', problem: null, head: null, base: null },
    question: named('question'),
    answer,
    run: null,
    plan,
    replaces: null,
    review: reviewDigest({ candidate: digest, evaluation: answer.digest, plan: plan.digest }),
    data: null,
    approvals: [],
    lapsed: [],
    withdrawn: [],
    voided: [],
    rejection: null,
    decisions: [],
    returns: null,
    paused: null,
    spending: { spent: { gpuSeconds: 0, jobSeconds: 0 }, over: null, fresh: [] },
    losses: [],
    isolated: true,
    ...more,
  };
  return facts;
}

/** The same with a gate that failed. */
export function failingFacts(more: Partial<Facts> = {}): Facts {
  const facts = factsWith();
  const evaluation = { ...facts.answer!.evaluation, ...judged(60), scores: scoresOf(60) };
  return factsWith({ answer: { digest: facts.answer!.digest, evaluation }, ...more });
}

/** Facts of a change whose data must be approved by `required` people. */
export function factsWithData(required: number, more: Partial<NonNullable<Facts['data']>> = {}): Facts {
  const evidence = {
    dataset: 'clothes',
    version: candidate.dataset,
    verdict: 'pass' as const,
    findings: [{ name: 'at least 100 items', status: 'pass', explanation: '2000 items' }],
    labels: { set: named('labels'), alpha: 0.8125 },
  };
  const rules = {
    project: {
      ...project,
      roles: { ...project.roles, data: ['walt', 'ada'] },
      approvals: { ...project.approvals, data: { required } },
    },
    model,
  };
  const data = {
    evidence,
    review: evidenceDigest(evidence),
    summary: '2000 items in 2 classes meet all rules.',
    refused: null,
    quarantined: [],
    perClass: [
      ['shirt', 1100],
      ['shoe', 900],
    ] as [string, number][],
    required,
    approvals: [],
    ...more,
  };
  return factsWith({ rules, data });
}

/** One person's approval of the facts' data. */
export function dataApprovalOf({ data }: Facts, name: string): DataDecision {
  const { dataset, version, verdict, labels } = data!.evidence;
  return {
    project: 'fashion',
    dataset,
    version,
    evidence: data!.review,
    decision: 'approved',
    approver: { id: `id-${name}`, name, role: 'data' },
    verdict,
    labels,
    policy: named('policy'),
    change: '!12',
    seq: 1,
    prev: null,
    time: '2026-01-01T00:00:00.000Z',
  };
}

/** An approval of the facts' review. */
export function approvalOf(
  facts: Facts,
  username: string,
  override: string | null = null,
): Facts['approvals'][number] {
  return {
    change: facts.change.id,
    model: 'fashion',
    environment: 'production',
    review: facts.review!,
    userId: `id-${username}`,
    username,
    role: 'validator',
    roles: ['validator'],
    override,
    comment: '1',
    at: '2026-01-01T00:00:00.000Z',
  };
}

/** A decision about the facts' candidate. */
export function decisionOf(
  facts: Facts,
  decision: Decision['decision'],
  more: Partial<Decision> = {},
): Decision {
  return {
    candidate: digest,
    evaluation: facts.answer!.digest,
    project: 'fashion',
    model: 'fashion',
    environment: 'production',
    baseline: facts.plan!.from,
    plan: facts.plan!.digest,
    decision,
    approvers: [],
    policy: policyDigest(facts.rules!.project),
    change: '!12',
    seq: 1,
    prev: null,
    time: '2026-01-01T00:00:00.000Z',
    ...more,
  };
}

/** The lock that the bot writes for the facts. */
export function lockOf(facts: Facts): Facts['lock'] {
  const entry = createEntry(candidate, facts.answer!.digest, { version: 7, run: claim.run });
  return {
    text: renderLock(withEntry(emptyLock, 'fashion', 'production', entry)),
    baseText: '',
    problem: null,
    head: entry,
    base: null,
  };
}

/** Rules that ask for so many validators and for one person of operations, who are these. */
export function rulesByRole(validators: number, devops: string[]): NonNullable<Facts['rules']> {
  const required = [
    { role: 'validator' as const, count: validators },
    { role: 'devops' as const, count: 1 },
  ];
  return {
    project: {
      ...project,
      roles: { ...project.roles, devops },
      approvals: { ...project.approvals, required },
    },
    model,
  };
}
