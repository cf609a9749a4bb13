import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { commandNames, commands } from '../../bot/commands/index.ts';
import type { Answer, Tools } from '../../bot/commands/types.ts';
import { isSamePerson } from '../../bot/handle.ts';
import { parseComment } from '../../bot/parse.ts';
import { planChange } from '../../bot/plan.ts';
import type { Approval, Facts, Rejection } from '../../bot/types.ts';
import { type Person, shortDigest } from '../../src/index.ts';
import { approvalOf, factsWith, failingFacts } from './facts.ts';

const golden = (name: string): string => join(import.meta.dirname, '../golden/comments', `${name}.md`);
const people: Record<string, Person> = Object.fromEntries(
  ['ada', 'vera', 'walt', 'eve'].map((name) => [
    name,
    { id: name === 'ada' ? '2' : `id-${name}`, username: name, name: name[0]!.toUpperCase() + name.slice(1) },
  ]),
);

async function say(who: string, body: string, all: Facts[], writers: string[] = ['ada']) {
  const approvals: Approval[] = [];
  const rejections: Rejection[] = [];
  const tools: Tools = {
    member: async (id) => Object.values(people).find((one) => one.id === id) ?? null,
    wroteCommits: async (_change, person) => writers.includes(person.username),
    addApproval: async (approval) => void approvals.push(approval),
    setRejection: async (rejection) => void rejections.push(rejection),
    liftRejection: async () => {},
    now: () => new Date('2026-01-01T00:00:00Z'),
  };
  const answers: Answer[] = [];
  for (const spoken of parseComment(body, commandNames)) {
    if (spoken.kind === 'typo') continue;
    const command = commands.find((one) => one.name === spoken.name)!;
    const author = people[who] ?? { id: '99', username: who, name: who };
    const comment = { id: '1', thread: 't', author, body, system: false, createdAt: '' };
    const models = all.map((facts) => ({ facts, plan: planChange(facts) }));
    const change = (all[0] ?? factsWith()).change;
    answers.push(
      await command.handle({ args: spoken.args, options: spoken.options, comment, change, models }, tools),
    );
  }
  return { answers, approvals, rejections };
}

const good = factsWith();
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
  ['reject', 'vera', '/reject train "more epochs"', [good], 'thumbsup', 0],
  ['reject-unknown-step', 'vera', '/reject trian "more epochs"', [good], 'confused', 0],
  ['reject-without-reason', 'vera', '/reject train', [good], 'confused', 0],
  ['reject-wrong-role', 'eve', '/reject train "no"', [good], 'no_entry', 0],
  ['status', 'eve', '/status', [good], 'eyes', 0],
  ['status-failed', 'eve', '/status', [bad], 'eyes', 0],
  ['status-no-model', 'eve', '/status', [], 'eyes', 0],
  ['help', 'eve', '/help', [good], 'eyes', 0],
];

describe('the bot’s answers', () => {
  it.each(table)('%s', async (name, who, body, facts, emoji, counts) => {
    const { answers, approvals } = await say(who, body, facts);
    expect(answers).toHaveLength(1);
    expect(answers[0]!.emoji).toBe(emoji);
    expect(approvals).toHaveLength(counts);
    await expect(`${answers[0]!.text}\n`).toMatchFileSnapshot(golden(name));
  });

  it('never let who wrote a commit approve, also when somebody else opened the change', async () => {
    const { answers, approvals } = await say('walt', line, [good], ['ada', 'walt']);
    expect(answers[0]!.text).toContain('You are an author');
    expect(approvals).toEqual([]);
    const lax = { project: { ...project, approvals: { ...project.approvals, self_approval: true } }, model };
    expect((await say('walt', line, [factsWith({ rules: lax })], ['walt'])).approvals).toHaveLength(1);
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

  it('keep with a rejection which candidate it was about', async () => {
    const { rejections } = await say('vera', '/reject train "more epochs"', [good]);
    expect(rejections[0]).toMatchObject({ step: 'train', reason: 'more epochs', head: good.change.head });
    expect(rejections[0]!.candidates).toHaveLength(1);
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
