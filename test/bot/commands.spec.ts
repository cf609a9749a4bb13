import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { commandNames, commands } from '../../bot/commands/index.ts';
import { returnable } from '../../bot/commands/reject.ts';
import type { Answer, Deployable, Tools } from '../../bot/commands/types.ts';
import { dataIssue } from '../../bot/data-issue.ts';
import { parseComment } from '../../bot/parse.ts';
import { planChange } from '../../bot/plan.ts';
import { isSamePerson } from '../../bot/roles.ts';
import type { Approval, Facts, Rejection } from '../../bot/types.ts';
import {
  type Change,
  createEntry,
  type Digest,
  digestJson,
  emptyLock,
  entryCandidate,
  type Person,
  parseLock,
  parseProject,
  renderLock,
  selfApproval,
  shortDigest,
  withEntry,
} from '../../src/index.ts';
import { steps } from '../../src/steps/index.ts';
import {
  approvalOf,
  dataApprovalOf,
  factsWith,
  factsWithData,
  failingFacts,
  lockOf,
  rulesByRole,
} from './facts.ts';
import { projectYaml, scoresOf } from './world.ts';

const contentDigest = (name: string): Digest => digestJson(`content of ${name}`);
const golden = (name: string): string => join(import.meta.dirname, '../golden/comments', `${name}.md`);
const people: Record<string, Person> = Object.fromEntries(
  ['ada', 'vera', 'walt', 'eve'].map((name) => [
    name,
    { id: name === 'ada' ? '2' : `id-${name}`, username: name, name: name[0]!.toUpperCase() + name.slice(1) },
  ]),
);

/** When others said something about the same, and version 7 went live. */
const lastWord = '2026-01-01T00:00:00Z';

async function say(
  who: string,
  body: string,
  all: Facts[],
  writers: string[] = ['ada'],
  createdAt = '2026-01-01T01:00:00Z',
) {
  const approvals: Approval[] = [];
  const rejections: Rejection[] = [];
  const done: string[] = [];
  const byId = (id: string) => Object.values(people).find((one) => one.id === id) ?? null;
  const entry = lockOf(factsWith()).head!;
  const tools: Tools = {
    forge: all[0]?.change.reference.startsWith('#') ? 'github' : 'gitlab',
    async member(id) {
      const person = byId(id);
      return person && { person, level: 30 };
    },
    async roleOf(rules, roles, id) {
      const person = byId(id);
      const role = roles.find((one) => person && rules.roles[one].includes(person.username));
      return person && role ? { person, role } : null;
    },
    async rolesOf(rules, roles, id) {
      const person = byId(id);
      return roles.filter((one) => person && rules.roles[one].includes(person.username));
    },
    async conflictOf(rules, change, person) {
      const may = selfApproval(rules);
      if (!may.author && change.author.id === person.id) return 'author';
      return !may.committers && writers.includes(person.username) ? 'committers' : null;
    },
    async setPaused(_change, username, at) {
      done.push(`paused: ${username}`);
      return at >= lastWord;
    },
    contentOf: async ({ model }) => contentDigest(model),
    keep: async (_comment, _name, value) => value,
    askAgain: async ({ run }) => run?.pipeline === '8',
    async editFile(_change, path, edit, message, person) {
      const text = edit(yamlWithHyperparameters);
      done.push(`${person.username} ${path}: ${message}`, text);
      return text === yamlWithHyperparameters ? 'same' : 'pushed';
    },
    refreshLock: async (change) => (change.head.startsWith('b') ? { conflict: ['model.ts'] } : 'pushed'),
    proposalBase: async () => 'c'.repeat(40),
    defaultProject: async () => projectYaml(),
    async propose({ branch, files, title }) {
      done.push(`${branch}: ${title}`, ...Object.values(files));
      return {
        ...factsWith().change,
        id: 13,
        url: 'https://gitlab.example.com/acme/fashion/-/merge_requests/13',
      } satisfies Change;
    },
    lockWith: async (_base, model, environment, one) =>
      renderLock(withEntry(emptyLock, model, environment, one)),
    promoted: async () =>
      [7, 6, 5].map((version) => ({
        version,
        entry: createEntry({ model: 'fashion', ...entry }, entry.evaluation, {
          version,
          run: entry.info.run,
        }),
        liveSince: version === 7 ? lastWord : null,
        isKept: version !== 5,
      })),
    lockedAt: async (_facts, environment) =>
      environment === 'staging' ? { entry, isCurrent: writers.length > 0 } : null,
    registered: async (_facts, wanted) => {
      if ('prefix' in wanted) return { kind: 'several', versions: [5, 6] };
      if (wanted.version === 99) return { kind: 'unknown', known: [5, 6, 7] };
      const what = ['code: model.ts differ', 'config: hyperparameters.epochs is 3 there and 5 here'];
      const { run, version } = entry.info;
      const candidate = entryCandidate('fashion', entry);
      return wanted.version === 6
        ? { kind: 'differs', version: 6, what }
        : { kind: 'fits', claim: { v: 1, candidate, version, run } };
    },
    async setRegistered(_change, _model, claim, { by, at }) {
      done.push(`proposed ${claim.version} by ${by.username}`);
      return at >= lastWord;
    },
    deployable: async ({ paused }) =>
      paused === null ? { kind: 'ready' } : (JSON.parse(paused) as Deployable),
    async startDeployment(key, name, environment) {
      done.push(`deploy ${key} ${name} ${environment}`);
      return { url: 'https://gitlab.example.com/acme/fashion/-/pipelines/11' };
    },
    async evaluationOf(facts, version) {
      if (version > 7) return { kind: 'unknown-version', known: [5, 6] };
      if (version === 5) return { kind: 'never-evaluated' };
      const evaluation = { ...facts.answer!.evaluation, scores: scoresOf(85) };
      return {
        kind: 'found',
        evaluation: version === 6 ? evaluation : { ...evaluation, testset: entry.code },
        paired:
          version === 6
            ? { onlyCandidate: 14, onlyBaseline: 9, p: 0.4049, items: 1000, difference: 0.005, half: 0.0094 }
            : null,
      };
    },
    async openIssue(key, request) {
      done.push(dataIssue({ key, ...request }));
      return { url: 'https://gitlab.example.com/acme/fashion/-/issues/3' };
    },
    addApproval: async (approval) => void approvals.push(approval),
    approveData: async ({ dataset, version, evidence, approver, change }) =>
      void done.push(`data ${dataset} ${version} ${evidence} ${approver.name} ${change}`),
    rejectionBy: async (_change, userId) =>
      all.flatMap(({ rejection }) => rejection ?? []).find((one) => one.userId === userId) ?? null,
    setRejection: async (rejection) => void rejections.push(rejection),
    liftRejection: async (_change, userId) => void done.push(`lifted ${byId(userId)!.username}`),
  };
  const answers: Answer[] = [];
  for (const spoken of parseComment(body, commandNames)) {
    if (spoken.kind === 'typo') continue;
    const command = commands.find((one) => one.name === spoken.name)!;
    const author = people[who] ?? { id: '99', username: who, name: who };
    const comment = { id: '1', thread: 't', author, body, system: false, createdAt, updatedAt: createdAt };
    const models = all.map((facts) => ({ facts, plan: planChange(facts) }));
    const change = (all[0] ?? factsWith()).change;
    answers.push(
      await command.handle({ args: spoken.args, options: spoken.options, comment, change, models }, tools),
    );
  }
  return { answers, approvals, rejections, done };
}

const good = factsWith();
const verifiedClaim = ({ claim }: Facts) => {
  if (claim.kind !== 'verified') throw new Error(`the claim is ${claim.kind}`);
  return claim;
};
const digestOf = (facts: Facts): Digest => verifiedClaim(facts).digest;
const unapproved = factsWithData(1);
const dataLine = `cdl /approve-data ${shortDigest(unapproved.data!.review)}`;
const tooLow = "Krippendorff's alpha is 0.512, less than labels.min_agreement 0.8";
const ill = factsWithData(1, { refused: tooLow });
const bad = failingFacts();
const line = `/approve ${shortDigest(good.review!)}`;
const badLine = `/approve ${shortDigest(bad.review!)}`;
const older = { ...approvalOf(good, 'vera'), review: `sha256:${'3f9a2c'.padEnd(64, '0')}` as const };
const waiting = factsWith({
  pipeline: { ...good.pipeline!, state: 'running' },
  claim: { kind: 'none' },
  review: null,
});
const { project, model } = good.rules!;
const two = { project: { ...project, approvals: { ...project.approvals, required: 2 } }, model };

/** Rules that ask for a validator and for somebody of operations. */
const byRole = rulesByRole(1, ['walt', 'olga']);

/** Hyperparameters with comments and layout that must stay. */
const yamlWithHyperparameters = projectYaml().replace(
  '    code: [model.ts]',
  `    code: [model.ts]
    hyperparameters: # ours
      epochs: 3        # few
      learning_rate: 1e-3
      optimizer: "adam"
      width: 8
    tune: { space: { width: { int: [4, 64] } } }`,
);
const tunedProject = parseProject(yamlWithHyperparameters);
const tuned = factsWith({ headProject: tunedProject });
/** As {@link tuned}, in a pipeline that trains without a search. */
const untuned = factsWith({
  headProject: tunedProject,
  pipeline: {
    ...good.pipeline!,
    jobs: ['ingest', 'train fashion', 'fine-tuner'].map((name) => ({
      id: name,
      name,
      state: 'success' as const,
      optional: false,
      reason: null,
      url: good.change.url,
      endedAt: null,
      seconds: 1,
      tags: [],
    })),
  },
});
const unanswered = (pipeline: string): Facts =>
  factsWith({
    answer: null,
    review: null,
    run: {
      question: good.question!,
      pipeline,
      head: good.change.head,
      state: 'failed',
      said: [],
      url: 'https://gitlab.example.com/acme/fashion/-/pipelines/9',
    },
  });
const stagedYaml = projectYaml().replace(
  '    gates:',
  '    environments: { staging: {}, production: {} }\n    gates:',
);
const stagedProject = parseProject(stagedYaml);
const staged = factsWith({
  environment: 'staging',
  headProject: stagedProject,
  rules: { project: stagedProject, model: stagedProject.models.fashion! },
});

const manyYaml = projectYaml().replace(
  '    gates:',
  '    environments: { staging: {}, canary: {}, production: {} }\n    gates:',
);
const manyProject = parseProject(manyYaml);
const manyStages = factsWith({
  environment: 'staging',
  headProject: manyProject,
  rules: { project: manyProject, model: manyProject.models.fashion! },
});
const merged = factsWith({ change: { ...good.change, state: 'merged' } });

const stagedWith = (where: Deployable): Facts => ({ ...staged, paused: JSON.stringify(where) });
const spent = factsWith({
  headProject: tunedProject,
  spending: {
    spent: { gpuSeconds: 7200, jobSeconds: 9000 },
    over: {
      scope: 'day',
      unit: 'gpu_seconds',
      used: 7200,
      limit: 7200,
      frees: '2026-01-01T04:00:00.000Z',
    },
    fresh: [],
  },
});

const table: [
  name: string,
  who: string,
  body: string,
  facts: Facts[],
  emoji: Answer['emoji'],
  counts: number,
][] = [
  ['approve', 'vera', line, [good], 'thumbsup', 1],
  ['approve-first-of-two', 'vera', line, [factsWith({ rules: two })], 'thumbsup', 1],
  ['approve-first-role', 'vera', line, [factsWith({ rules: byRole })], 'thumbsup', 1],
  [
    'approve-last-role',
    'walt',
    line,
    [factsWith({ rules: byRole, approvals: [approvalOf(good, 'vera')] })],
    'thumbsup',
    1,
  ],
  ['approve-no-role', 'eve', line, [factsWith({ rules: byRole })], 'no_entry', 0],
  ['approve-bare', 'vera', '/approve', [good], 'confused', 0],
  ['approve-too-short', 'vera', line.slice(0, 13), [good], 'confused', 0],
  ['approve-older', 'vera', '/approve 3f9a2c', [factsWith({ voided: [older] })], 'confused', 0],
  ['approve-unknown', 'vera', '/approve 000000', [good], 'confused', 0],
  ['approve-author', 'ada', line, [good], 'no_entry', 0],
  ['approve-wrong-role', 'eve', line, [good], 'no_entry', 0],
  ['approve-stranger', 'mallory', line, [good], 'no_entry', 0],
  ['approve-nothing-yet', 'vera', line, [waiting], 'confused', 0],
  [
    'approve-merged',
    'vera',
    line,
    [factsWith({ change: { ...good.change, state: 'merged' } })],
    'confused',
    0,
  ],
  ['approve-no-model', 'vera', line, [], 'confused', 0],
  ['approve-new-model', 'vera', line, [factsWith({ rules: null })], 'confused', 0],
  ['approve-gate-failed', 'vera', badLine, [bad], 'no_entry', 0],
  ['approve-override-empty', 'vera', `${badLine} --override`, [bad], 'no_entry', 0],
  ['approve-override', 'vera', `${badLine} --override "rare class"`, [bad], 'thumbsup', 1],
  ['approve-draft', 'vera', line, [factsWith({ change: { ...good.change, draft: true } })], 'thumbsup', 1],
  ['approve-without-data', 'vera', line, [unapproved], 'no_entry', 0],
  ['approve-refused-data', 'vera', line, [ill], 'no_entry', 0],
  [
    'approve-with-data',
    'vera',
    line,
    [factsWithData(1, { approvals: [dataApprovalOf(unapproved, 'walt')] })],
    'thumbsup',
    1,
  ],
  ['approve-data', 'walt', dataLine, [unapproved], 'thumbsup', 0],
  [
    'approve-data-version',
    'walt',
    `/approve-data ${unapproved.data!.evidence.version}`,
    [factsWithData(2)],
    'thumbsup',
    0,
  ],
  ['approve-data-not-asked', 'walt', dataLine, [factsWithData(0)], 'thumbsup', 0],
  ['approve-data-bare', 'walt', '/approve-data', [unapproved], 'confused', 0],
  ['approve-data-unknown', 'walt', '/approve-data 000000', [unapproved], 'confused', 0],
  ['approve-data-author', 'ada', dataLine, [unapproved], 'no_entry', 0],
  ['approve-data-wrong-role', 'vera', dataLine, [unapproved], 'no_entry', 0],
  ['approve-data-refused', 'walt', dataLine, [ill], 'no_entry', 0],
  ['approve-data-nothing-yet', 'walt', '/approve-data', [waiting], 'confused', 0],
  ['reject', 'vera', '/reject train "more epochs"', [good], 'thumbsup', 0],
  ['reject-unknown-step', 'vera', '/reject trian "more epochs"', [good], 'confused', 0],
  ['reject-without-reason', 'vera', '/reject train', [good], 'confused', 0],
  ['reject-wrong-role', 'eve', '/reject train "no"', [good], 'no_entry', 0],
  ['status', 'eve', '/status', [good], 'eyes', 0],
  ['status-failed', 'eve', '/status', [bad], 'eyes', 0],
  [
    'status-roles',
    'eve',
    '/status',
    [factsWith({ rules: byRole, approvals: [approvalOf(good, 'vera')] })],
    'eyes',
    0,
  ],
  ['status-no-model', 'eve', '/status', [], 'eyes', 0],
  ['status-two-models', 'eve', '/status', [good, { ...waiting, model: 'second' }], 'eyes', 0],
  ['help', 'eve', '/help', [good], 'eyes', 0],
  ['help-train', 'eve', '/help train', [good], 'eyes', 0],
  ['train', 'eve', '/train learning_rate=0.0005 epochs=5', [tuned], 'thumbsup', 0],
  ['train-same', 'eve', '/train epochs=3', [tuned], 'eyes', 0],
  ['train-bare', 'eve', '/train', [tuned], 'confused', 0],
  ['train-bare-none', 'eve', '/train', [good], 'confused', 0],
  ['train-unknown', 'eve', '/train epoch=5', [tuned], 'confused', 0],
  ['train-wrong-type', 'eve', '/train epochs=many', [tuned], 'confused', 0],
  ['train-stranger', 'mallory', '/train epochs=5', [tuned], 'no_entry', 0],
  ['evaluate-judged', 'eve', '/evaluate', [good], 'eyes', 0],
  ['evaluate-again', 'eve', '/evaluate', [unanswered('8')], 'thumbsup', 0],
  ['evaluate-twice', 'eve', '/evaluate', [unanswered('9')], 'confused', 0],
  ['evaluate-nothing', 'eve', '/evaluate', [waiting], 'confused', 0],
  ['compare', 'eve', '/compare 6', [good], 'eyes', 0],
  ['compare-other-testset', 'eve', '/compare v4', [good], 'eyes', 0],
  ['compare-never', 'eve', '/compare 5', [good], 'eyes', 0],
  ['compare-unknown', 'eve', '/compare 99', [good], 'confused', 0],
  ['compare-bare', 'eve', '/compare', [good], 'confused', 0],
  ['explain', 'eve', '/explain accuracy', [bad], 'eyes', 0],
  ['explain-number', 'eve', '/explain 2', [good], 'eyes', 0],
  ['explain-unknown', 'eve', '/explain acuracy', [good], 'confused', 0],
  ['lock-refresh', 'eve', 'cdl /lock refresh', [good], 'thumbsup', 0],
  [
    'lock-conflict',
    'eve',
    'cdl /lock refresh',
    [factsWith({ change: { ...good.change, head: 'b'.repeat(40) } })],
    'confused',
    0,
  ],
  ['lock-bare', 'eve', 'cdl /lock', [good], 'confused', 0],
  ['lock-stranger', 'mallory', 'cdl /lock refresh', [good], 'no_entry', 0],
  ['lock-merged', 'eve', 'cdl /lock refresh', [merged], 'confused', 0],
  ['pause-stranger', 'mallory', '/pause', [good], 'no_entry', 0],
  ['pause-merged', 'eve', '/pause', [merged], 'confused', 0],
  ['resume-stranger', 'mallory', '/resume', [factsWith({ paused: 'vera' })], 'no_entry', 0],
  ['resume-nothing', 'eve', '/resume', [good], 'thumbsup', 0],
  ['retrain-stranger', 'mallory', '/retrain', [good], 'no_entry', 0],
  ['retrain-over-budget', 'eve', '/retrain', [spent], 'no_entry', 0],
  ['evaluate-stranger', 'mallory', '/evaluate', [unanswered('8')], 'no_entry', 0],
  ['evaluate-merged', 'eve', '/evaluate', [merged], 'confused', 0],
  [
    'evaluate-over-budget',
    'eve',
    '/evaluate',
    [{ ...unanswered('8'), spending: spent.spending }],
    'no_entry',
    0,
  ],
  ['request-data-wrong-role', 'eve', '/request-data "more shoes"', [good], 'no_entry', 0],
  ['request-data-stranger', 'mallory', '/request-data "more shoes"', [good], 'no_entry', 0],
  ['request-data-merged', 'vera', '/request-data "more shoes"', [merged], 'confused', 0],
  ['pause', 'eve', '/pause', [good], 'thumbsup', 0],
  ['resume', 'eve', '/resume', [factsWith({ paused: 'vera' })], 'thumbsup', 0],
  ['rollback', 'vera', '/rollback', [good], 'thumbsup', 0],
  ['rollback-live', 'vera', '/rollback 7', [good], 'confused', 0],
  ['rollback-unknown', 'vera', '/rollback 3', [good], 'confused', 0],
  ['rollback-gone', 'vera', '/rollback 5', [good], 'confused', 0],
  ['rollback-wrong-role', 'eve', '/rollback', [good], 'no_entry', 0],
  ['promote', 'vera', '/promote production', [staged], 'thumbsup', 0],
  ['promote-bare', 'vera', '/promote', [manyStages], 'confused', 0],
  ['promote-bare-one-way', 'vera', '/promote', [staged], 'thumbsup', 0],
  ['promote-bare-nowhere', 'vera', '/promote', [good], 'confused', 0],
  ['promote-unknown', 'vera', '/promote prodction', [staged], 'confused', 0],
  ['promote-same', 'vera', '/promote staging', [staged], 'confused', 0],
  ['promote-wrong-role', 'eve', '/promote production', [staged], 'no_entry', 0],
  ['promote-stranger', 'mallory', '/promote production', [staged], 'no_entry', 0],
  ['promote-nothing', 'vera', '/promote staging --from production', [staged], 'confused', 0],
  ['tune-nothing', 'eve', '/tune', [good], 'confused', 0],
  ['tune', 'eve', '/tune', [tuned], 'thumbsup', 0],
  ['tune-no-job', 'eve', '/tune', [untuned], 'confused', 0],
  [
    'tune-no-job-github',
    'eve',
    '/tune',
    [{ ...untuned, change: { ...untuned.change, reference: '#12' } }],
    'confused',
    0,
  ],
  ['tune-stranger', 'mallory', '/tune', [tuned], 'no_entry', 0],
  ['train-searched', 'eve', '/train width=9', [tuned], 'confused', 0],
  ['retrain', 'eve', '/retrain', [good], 'thumbsup', 0],
  ['register', 'eve', '/register 7', [good], 'thumbsup', 0],
  ['register-bare', 'eve', '/register', [good], 'confused', 0],
  ['register-differs', 'eve', '/register v6', [good], 'confused', 0],
  ['register-unknown', 'eve', '/register 99', [good], 'confused', 0],
  ['register-several', 'eve', '/register sha256:3F9A2C41B7D6', [good], 'confused', 0],
  ['register-stranger', 'mallory', '/register 7', [good], 'no_entry', 0],
  ['deploy', 'vera', '/deploy staging', [staged], 'thumbsup', 0],
  ['deploy-bare', 'vera', '/deploy', [staged], 'confused', 0],
  ['deploy-unknown', 'vera', '/deploy stagign', [staged], 'confused', 0],
  ['deploy-nothing', 'vera', '/deploy production', [staged], 'confused', 0],
  ['deploy-wrong-role', 'eve', '/deploy staging', [staged], 'no_entry', 0],
  ['deploy-live', 'vera', '/deploy staging', [stagedWith({ kind: 'live' })], 'eyes', 0],
  [
    'deploy-under-way',
    'vera',
    '/deploy staging',
    [stagedWith({ kind: 'under-way', since: '2026-01-01T00:00:00Z' })],
    'eyes',
    0,
  ],
  [
    'deploy-revoked',
    'vera',
    '/deploy staging',
    [stagedWith({ kind: 'not-approved', revoked: true })],
    'no_entry',
    0,
  ],
  ['over-budget', 'eve', '/train epochs=5', [spent], 'no_entry', 0],
  ['request-data', 'vera', '/request-data "more shoes with laces"', [good], 'thumbsup', 0],
  ['request-data-bare', 'vera', '/request-data', [good], 'confused', 0],
];

describe('the bot’s answers', () => {
  it.each([
    ['pause-late', '/pause', [good], 'eyes'],
    ['resume-late', '/resume', [good], 'eyes'],
    ['register-late', '/register 7', [good], 'eyes'],
    ['rollback-late', '/rollback', [staged], 'confused'],
  ] as const)('%s', async (name, body, facts, emoji) => {
    const { answers } = await say('vera', body, [...facts], ['ada'], '2025-12-31T23:59:59Z');
    expect(answers.map((one) => one.emoji)).toEqual([emoji]);
    await expect(`${answers[0]!.text}\n`).toMatchFileSnapshot(golden(name));
  });

  it('to a rollback to a named version are the same however late it is heard', async () => {
    const [late, now] = await Promise.all(
      ['2025-12-31T23:59:59Z', undefined].map((at) => say('vera', '/rollback 6', [staged], ['ada'], at)),
    );
    expect(late!.answers).toEqual(now!.answers);
    expect(late!.answers[0]!.emoji).toBe('thumbsup');
  });

  it.each(table)('%s', async (name, who, body, facts, emoji, counts) => {
    const { answers, approvals } = await say(who, body, facts);
    expect(answers).toHaveLength(1);
    expect(answers[0]!.emoji).toBe(emoji);
    expect(approvals).toHaveLength(counts);
    await expect(`${answers[0]!.text}\n`).toMatchFileSnapshot(golden(name));
  });

  it('tell of each command by itself how it is written, who may, and an example', async () => {
    const texts: string[] = [];
    for (const name of commandNames) texts.push((await say('eve', `/help ${name}`, [good])).answers[0]!.text);
    await expect(`${texts.join('\n\n---\n\n')}\n`).toMatchFileSnapshot(golden('help-each'));
  });

  it('never let who wrote a commit approve, also when somebody else opened the change', async () => {
    const { answers, approvals } = await say('walt', line, [good], ['ada', 'walt']);
    expect(answers[0]!.text).toContain('You are an author');
    expect(approvals).toEqual([]);
    const lax = { project: { ...project, approvals: { ...project.approvals, self_approval: true } }, model };
    expect((await say('walt', line, [factsWith({ rules: lax })], ['walt'])).approvals).toHaveLength(1);
  });

  it('write hyperparameters into cdl.yaml and leave every other character as it is', async () => {
    const { done } = await say('eve', '/train learning_rate=0.0005 epochs=5 optimizer=sgd', [tuned]);
    expect(done).toEqual([
      'eve cdl.yaml: train(fashion): learning_rate=0.0005 epochs=5 optimizer=sgd',
      yamlWithHyperparameters
        .replace('epochs: 3 ', 'epochs: 5 ')
        .replace('1e-3', '0.0005')
        .replace('"adam"', 'sgd'),
    ]);
  });

  it('never write what cdl.yaml would not take, and no YAML beside the value', async () => {
    for (const words of ['epochs=0x10', 'epochs=.nan', 'epochs=2.5', 'optimizer=', 'seed=9', '__proto__=1']) {
      expect((await say('eve', `/train ${words}`, [tuned])).done, words).toEqual([]);
    }
    const { done } = await say('eve', '/train "optimizer=adam\\n    seed: 9" ', [tuned]);
    for (const text of done.slice(1)) expect(parseProject(text).models.fashion!.seed).toBe(1);
  });

  it('put the next seed and the entry of an earlier version into a change of their own', async () => {
    const { done } = await say('eve', '/retrain', [good]);
    expect(done[0]).toBe('cdl/retrain-fashion-seed-2: train(fashion): seed 2');
    expect(parseProject(done[1]!).models.fashion!.seed).toBe(2);
    const back = await say('vera', '/rollback', [good]);
    expect(back.done[0]).toBe(
      'cdl/rollback-fashion-production-v6: rollback(fashion): version 6 in production',
    );
    expect(parseLock(back.done[1]!).models.fashion!.production!.info.version).toBe(6);
  });

  it('bind an approval to exactly the review that was current', async () => {
    const { approvals } = await say('vera', line.toUpperCase().replace('/APPROVE', '/approve'), [good]);
    expect(approvals[0]).toMatchObject({
      review: good.review,
      userId: 'id-vera',
      role: 'validator',
      override: null,
    });
  });

  it('bind an approval of data to the evidence that was shown, once for two models of the same data', async () => {
    const { done } = await say('walt', dataLine, [unapproved, { ...unapproved, model: 'second' }]);
    const { evidence, review } = unapproved.data!;
    expect(done).toEqual([`data clothes ${evidence.version} ${review} walt !12`]);
  });

  it('open an issue for data that says who asked, by which role, and for whom, and notifies nobody', async () => {
    const roles = { ...project.roles, data: ['eve', '@acme/data'] };
    const rules = { project: { ...project, roles }, model };
    for (const [who, name] of [
      ['vera', 'request-data-issue'],
      ['eve', 'request-data-issue-by-data'],
    ] as const) {
      const { done } = await say(who, '/request-data "more shoes for @all"', [factsWith({ rules })]);
      expect(done[0]).not.toMatch(/@[a-z]/);
      await expect(done[0]).toMatchFileSnapshot(golden(name));
    }
  });

  it('send a change back only to steps that there are', () => {
    const names = steps.map(({ name }) => name);
    expect(returnable.filter((step) => !names.includes(step))).toEqual([]);
  });

  it('and the reports show every command so that it is understood when copied', () => {
    const folder = join(import.meta.dirname, '../golden/comments');
    let reports = 0;
    for (const file of readdirSync(folder)) {
      const text = readFileSync(join(folder, file), 'utf8');
      for (const [, block] of text.matchAll(/^```[a-z]*\n([\s\S]*?)\n```$/gm)) {
        const shown = block!.split('\n').filter((line) => /^\s*(cdl +)?\/[a-z]/.test(line));
        const kinds = parseComment(block!, commandNames).map(({ kind }) => kind);
        expect(kinds, `${file}: ${block}`).toEqual(shown.map(() => 'command'));
        if (file.startsWith('report-')) reports += shown.length;
      }
    }
    expect(reports).toBeGreaterThan(5);
  });

  it('keep with a rejection which candidate it was about', async () => {
    const { rejections } = await say('vera', '/reject train "more epochs"', [good]);
    expect(rejections[0]).toMatchObject({ step: 'train', reason: 'more epochs', head: good.change.head });
    expect(rejections[0]!.about).toEqual([digestOf(good)]);
    // What it is made of stands in only while nothing was made of it.
    const early = await say('vera', '/reject train "more epochs"', [factsWith({ claim: { kind: 'none' } })]);
    expect(early.rejections[0]!.about).toEqual([contentDigest('fashion')]);
  });

  it('send back the models that the change alters, or the one that is named', async () => {
    const other = (name: string, candidate: Digest, more: Partial<Facts> = {}): Facts => ({
      ...good,
      model: name,
      claim: { ...verifiedClaim(good), digest: candidate },
      ...more,
    });
    const [second, third] = [digestJson('second'), digestJson('third')];
    const entry = { ...lockOf(factsWith()).head!, candidate: third };
    const untouched = other('third', third, {
      live: { current: { candidate: third } } as Facts['live'],
      lock: { ...good.lock, base: entry },
    });
    const unmade = other('fourth', second, { claim: { kind: 'none' } });
    const all = [good, other('second', second), untouched, unmade];
    expect(planChange(untouched).standing.kind).toBe('unchanged');
    const alone = await say('vera', '/reject train "more epochs"', all);
    const about = alone.rejections[0]!.about;
    expect(about).toEqual([digestOf(good), second, contentDigest('fourth')]);
    expect(alone.answers[0]!.text).toContain(
      'Sent **fashion** and **second** and **fourth** back to **train**. The status of **fashion** and **second** and **fourth** is failed until they change',
    );
    const named = await say('vera', '/reject train "more epochs" --model second', all);
    expect(named.rejections[0]!.about).toContain(second);
    expect(named.rejections[0]!.about).not.toContain(digestOf(good));
    expect(named.answers[0]!.text).toContain(
      'Sent **second** back to **train**. The status of **second** is failed until it changes',
    );
    const unknown = await say('vera', '/reject train "more epochs" --model secnd', all);
    expect(unknown.answers[0]!.text).toContain('Did you mean `second`?');
    expect(unknown.rejections).toEqual([]);
    // One word of a person about a change: what they sent back before stays sent back.
    const again = { ...good, rejection: alone.rejections[0]! };
    const both = await say('vera', '/reject train "that too" --model second', [again, ...all.slice(1)]);
    expect(both.rejections[0]!.about).toEqual(expect.arrayContaining([digestOf(good), second]));
  });

  it('take back with an approval what its author said against that candidate, and nothing else', async () => {
    const staged = digestJson('staged');
    const { rejections } = await say('vera', '/reject train "more epochs"', [good]);
    const rejection = { ...rejections[0]!, about: [digestOf(good), staged] };
    const sentBack = factsWith({ rejection });
    const staging: Facts = {
      ...sentBack,
      environment: 'staging',
      review: digestJson('another report'),
      claim: { ...verifiedClaim(good), digest: staged },
    };
    const one = await say('vera', line, [sentBack, staging]);
    expect(one.approvals).toHaveLength(1);
    expect(one.rejections).toEqual([{ ...rejection, about: [staged] }]);
    // Nothing is left to say, and the word of another stays theirs.
    const alone = factsWith({ rejection: rejections[0]! });
    expect(await say('vera', line, [alone])).toMatchObject({ rejections: [], done: ['lifted vera'] });
    expect(await say('walt', line, [sentBack, staging])).toMatchObject({
      rejections: [],
      done: ['lifted walt'],
    });
  });

  it('date an approval by when it was written, and not by when it was heard', async () => {
    const { approvals } = await say('vera', line, [good], ['ada'], '2025-12-31T23:00:00Z');
    expect(approvals[0]!.at).toBe('2025-12-31T23:00:00Z');
  });
});

describe('the next step', () => {
  const pipeline = good.pipeline!;
  const over = spent.spending;
  const rejection: Rejection = {
    change: 12,
    head: good.change.head,
    about: [],
    step: 'train',
    reason: 'more epochs',
    userId: '3',
    username: 'vera',
    at: '2026-01-01T00:00:00Z',
  };
  const draft = { ...good.change, draft: true };
  const approved = { approvals: [approvalOf(good, 'vera')] };
  const live = { candidate: good.claim.kind === 'verified' ? good.claim.digest : '', version: 7 };
  const places: [name: string, facts: Facts][] = [
    ['a fork', factsWith({ change: { ...good.change, fork: true } })],
    ['a new model', factsWith({ rules: null })],
    ['a way back', factsWith({ returns: { candidate: null, version: null } })],
    ['a pipeline that runs', waiting],
    ['no pipeline', factsWith({ pipeline: null, claim: { kind: 'none' }, review: null })],
    ['a pipeline that failed', factsWith({ pipeline: { ...pipeline, state: 'failed' } })],
    ['a pipeline without a claim', factsWith({ claim: { kind: 'none' } })],
    ['a wrong claim', factsWith({ claim: { kind: 'wrong', problems: ['code'] } })],
    ['an evaluation that runs', factsWith({ answer: null })],
    ['an evaluation that failed', unanswered('9')],
    ['no approval yet', good],
    ['an approval of two roles', factsWith({ rules: byRole, ...approved })],
    ['a gate that failed', bad],
    ['data nobody approved', unapproved],
    ['data that cannot be approved', ill],
    ['an approval', factsWith(approved)],
    ['an approved draft', factsWith({ change: draft, ...approved })],
    ['somebody who paused it', factsWith({ paused: 'vera' })],
    ['somebody who sent it back', factsWith({ rejection })],
    ['a budget of the day', factsWith({ answer: null, spending: over })],
    [
      'a budget of the change',
      factsWith({
        answer: null,
        spending: { ...over, over: { ...over.over!, scope: 'change', frees: null } },
      }),
    ],
    ['a closed change', factsWith({ change: { ...good.change, state: 'closed' } })],
    ['a merged change', merged],
    ['a merged change that serves', { ...merged, live: { current: live } as Facts['live'] }],
    ['a merged change on its way', { ...merged, live: { transition: live } as Facts['live'] }],
  ];

  it('is told with who can take it, wherever a change stands', async () => {
    const lines: string[] = [];
    for (const [name, facts] of places) {
      const { answers } = await say('eve', '/status', [facts]);
      lines.push(`### ${name}\n\n${answers[0]!.text}\n`);
    }
    expect(new Set(places.map(([, facts]) => planChange(facts).standing.kind)).size).toBe(10);
    await expect(lines.join('\n')).toMatchFileSnapshot(golden('status-next-steps'));
  });
});

describe('the author of a commit', () => {
  it('is known by name, user name or address', () => {
    const ada = people.ada!;
    for (const author of [
      { name: 'Ada', email: 'x@example.com' },
      { name: 'ada ', email: 'x@example.com' },
      { name: 'x', email: 'ADA@example.com' },
      { name: 'x', email: '12-ada@users.noreply.gitlab.com' },
      { name: 'x', email: '12+ada@users.noreply.github.com' },
    ]) {
      expect(isSamePerson(author, ada), JSON.stringify(author)).toBe(true);
    }
    expect(isSamePerson({ name: 'Vera', email: 'vera@example.com' }, ada)).toBe(false);
  });
});
