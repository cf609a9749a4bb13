import { codeSpan, type Digest, nearest, type Person } from '../../src/index.ts';
import type { Rejection } from '../types.ts';
import type { Answer, Call, Tools } from './types.ts';

/** One model of the change. */
export type Subject = Call['models'][number];

/** Text of a person inside a code span, also in a cell of a table: one line, without what would end either, and short. */
export function quoted(text: string): string {
  return codeSpan([...text].slice(0, 200).join(''));
}

/**
 * A word for the message of a commit, where nothing can be escaped and forges look for people, issues and what closes them:
 * what is no plain word is left out.
 */
export function inMessage(word: string): string {
  return /^[\w.,/=+-]{1,100}$/.test(word) ? word : '…';
}

/** As {@link quoted}, for a line inside a block of code. */
export function inBlock(text: string): string {
  return quoted(text).slice(1, -1);
}

const confused = (text: string): Answer => ({ emoji: 'confused', text });

/** Why there is nothing to say about a change without models. */
export function noModels({ change }: Call): string {
  return change.state === 'closed'
    ? 'This change is closed: opened again, I look at it again.'
    : 'This change has no model of `cdl.yaml`, its `cdl.yaml` cannot be read, or it is not for the default branch.';
}

/**
 * The model a command is about: `--model`, or the only one, or the only one that this change alters. An answer when that
 * cannot be told.
 */
export function subjectOf(call: Call, environment?: string): Subject | { answer: Answer } {
  if (call.models.length === 0) return { answer: confused(noModels(call)) };
  const here = environment ? call.models.filter((one) => one.facts.environment === environment) : call.models;
  const named = call.options.model;
  const names = [...new Set(call.models.map((one) => one.facts.model))];
  if (named !== undefined) {
    const found =
      here.find((one) => one.facts.model === named) ?? call.models.find((one) => one.facts.model === named);
    if (found) return found;
    const guess = nearest(named, names);
    const meant = guess ? ` Did you mean \`${guess}\`?` : '';
    return { answer: confused(`${quoted(named)} is not one of ${names.map(quoted).join(', ')}.${meant}`) };
  }
  const [first, ...others] = names.length === 1 ? [here[0] ?? call.models[0]!] : altered(here);
  if (first && others.length === 0) return first;
  return {
    answer: confused(
      `This change has several models: please say which, with ${names.map((name) => `\`--model ${name}\``).join(' or ')}.`,
    ),
  };
}

/** The models that a change proposes anything for. */
export function altered(models: readonly Subject[]): Subject[] {
  return models.filter(
    ({ plan }) => plan.standing.kind !== 'unchanged' && plan.standing.kind !== 'new-model',
  );
}

/**
 * Milliseconds for which a command that alters the branch is done whatever was pushed meanwhile: two of them in a row are
 * both meant, and one that was heard an hour later is about what its author saw.
 */
export const longHeld = 10 * 60_000;

/** What somebody judges who sends models of a change back: the candidate of each, or what it is made of while there is none. */
async function aboutOf(
  models: readonly Pick<Subject, 'facts'>[],
  tools: Pick<Tools, 'contentOf'>,
): Promise<Digest[]> {
  const all = models.map(({ facts }) =>
    facts.claim.kind === 'verified' ? facts.claim.digest : tools.contentOf(facts),
  );
  return [...new Set(await Promise.all(all))];
}

/** What somebody said of a change before that is not about these models as they are now. */
async function aboutOthers(
  word: Rejection | null,
  models: readonly Pick<Subject, 'facts'>[],
  tools: Pick<Tools, 'contentOf'>,
): Promise<Digest[]> {
  if (!word) return [];
  const [now, made] = await Promise.all([
    aboutOf(models, tools),
    Promise.all(models.map(({ facts }) => tools.contentOf(facts))),
  ]);
  return word.about.filter((one) => !now.includes(one) && !made.includes(one));
}

/** What commands need that send models back, or take that back. */
export type SendingBack = Pick<Tools, 'contentOf' | 'rejectionBy' | 'setRejection'>;

/**
 * Sends models of a change back. A person has one word about a change: what they sent back before stays so with the new one.
 */
export async function sendBack(
  { change, comment }: Call,
  models: readonly Subject[],
  tools: SendingBack,
  said: Pick<Rejection, 'step' | 'reason'> & { person: Person },
): Promise<void> {
  const { id, username } = said.person;
  const before = await tools.rejectionBy(change.id, id);
  const [now, others] = await Promise.all([aboutOf(models, tools), aboutOthers(before, models, tools)]);
  await tools.setRejection({
    change: change.id,
    head: change.head,
    about: [...now, ...others],
    step: said.step,
    reason: said.reason,
    userId: id,
    username,
    at: comment.createdAt,
  });
}

/** Takes back what somebody said against a model of a change, and nothing that they said against others. */
export async function takeBack(
  { change, comment }: Call,
  model: Pick<Subject, 'facts'>,
  tools: SendingBack & Pick<Tools, 'liftRejection'>,
  userId: string,
): Promise<void> {
  const before = await tools.rejectionBy(change.id, userId);
  const others = await aboutOthers(before, [model], tools);
  const at = comment.createdAt;
  if (before && others.length > 0) await tools.setRejection({ ...before, about: others, at });
  else await tools.liftRejection(change.id, userId, at);
}

/** The answer when others keep pushing to the branch. */
export const movedAnswer: Answer = confused(
  'Somebody keeps pushing to this branch; please try again in a moment.',
);

/** Whether a change can still be worked on here; else the answer. */
export function notOpen(call: Call): Answer | null {
  if (call.change.state !== 'open') return confused('This change is not open any more.');
  if (call.change.fork) return confused('The branch is in a fork: I do not write there.');
  return null;
}
