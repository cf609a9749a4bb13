import { z } from 'zod';
import { type Change, type Comment, digestJson, UpstreamError } from '../src/index.ts';
import { changedSince } from './changed-since.ts';
import { commandNames, commands } from './commands/index.ts';
import { refuseOutsider } from './commands/permission.ts';
import type { Answer, Call, Tools } from './commands/types.ts';
import { parseComment, type Spoken } from './parse.ts';
import { planChange } from './plan.ts';
import { readChange } from './read.ts';
import { createTools } from './tools.ts';
import type { BotContext } from './types.ts';

const strongest = ['no_entry', 'confused', 'thumbsup', 'eyes'] as const;

function answerTypo({ name, suggestion }: Extract<Spoken, { kind: 'typo' }>): Answer {
  const meant = suggestion ? `Did you mean \`/${suggestion}\`?` : '`/help` lists what I know.';
  return { emoji: 'confused', text: `I do not know \`/${name}\`. ${meant}` };
}

/** The change as it was read, and the tools with what they have looked up of people meanwhile. */
interface Reading {
  call: Pick<Call, 'change' | 'models'>;
  tools: Tools;
  /** A refusal of the author was given twice, looked up anew the second time. */
  isSure: boolean;
}

/**
 * Whether a refusal is worth saying: who was told on this change that something is unknown or forbidden is told it once, and
 * sees a reaction the next time.
 */
async function isNews(
  { state }: BotContext,
  change: number,
  comment: Comment,
  text: string,
): Promise<boolean> {
  const name = `told/${change}/${comment.author.id}/${digestJson(text).slice(7, 23)}`;
  const told = await state.cursor(name);
  if (told !== null) return told === comment.id;
  await state.setCursor(name, comment.id);
  return true;
}

/** What is to be said about a comment: the commands in it were carried out. */
const saidSchema = z.object({
  emoji: z.enum(strongest),
  text: z.string(),
  /** The texts are no news to somebody who was told them before. */
  refusal: z.boolean(),
  converge: z.boolean(),
});
type Said = z.infer<typeof saidSchema>;

const isRefusal = ({ emoji }: Answer): boolean => emoji === 'no_entry' || emoji === 'confused';

/** Forges count time in seconds, or note the last change a little after the first. */
const atOnce = 1000;

/**
 * Whether a comment is not what its author wrote at first. Whoever administers a project (GitLab) or may write to it (GitHub)
 * can edit the comments of others, who would be taken by a word they never said.
 */
const isEdited = ({ createdAt, updatedAt }: Comment): boolean =>
  Date.parse(updatedAt) - Date.parse(createdAt) > atOnce;

/** The answer to a command about what a change was made of before. */
const outdated = ({ head }: Change): Answer => ({
  emoji: 'confused',
  text: `I read this when code, configuration or data of the change were others already (by now it is at \`${head.slice(0, 12)}\`): nothing was done. If it still holds, please write it again.`,
});

/** The answer to an edited comment. */
const edited: Said = {
  emoji: 'confused',
  text: 'This comment was changed before I read it, and others can change a comment too: I do nothing it says. Please write it again as a new one.',
  refusal: true,
  converge: false,
};

/** Carries out what somebody said. */
async function carryOut(
  context: BotContext,
  changeId: number,
  comment: Comment,
  spoken: readonly Spoken[],
  isolated: boolean,
): Promise<Said> {
  const look = async (): Promise<Reading> => {
    const read = await readChange(context, changeId, isolated);
    const change = read.kind === 'ignored' ? await context.forge.getChange(changeId) : read.change;
    if (!change) {
      // Its comment was there a moment ago.
      throw new UpstreamError('forge', `change ${changeId} is not to be seen`, { retryable: true });
    }
    const models =
      read.kind === 'read' ? read.models.map((facts) => ({ facts, plan: planChange(facts, read.base) })) : [];
    return { call: { change, models }, tools: createTools(context), isSure: false };
  };
  const member = () => context.forge.member(comment.author.id);
  let isLookedUpTwice = false;
  let author: { member: Awaited<ReturnType<typeof member>> } | null = null;
  let reading: Reading | null = null;
  const answers: Answer[] = [];
  const writtenAt = Date.parse(comment.createdAt);
  // Found out once: what the commands of this comment alter is no reason against the next of them.
  let isOutdated: boolean | null = null;
  for (const one of spoken) {
    if (one.kind === 'typo') {
      answers.push(answerTypo(one));
      continue;
    }
    const command = commands.find(({ name }) => name === one.name)!;
    // Whoever may do nothing here costs no reading of the change, however many commands they write.
    if (command.role !== 'anyone') {
      author ??= { member: await member() };
      if (refuseOutsider(command.role, author.member) && !isLookedUpTwice) {
        author = { member: await member() };
        isLookedUpTwice = true;
      }
      const refused = refuseOutsider(command.role, author.member);
      if (refused) {
        answers.push(refused);
        continue;
      }
    }
    const handle = ({ call, tools }: Reading) =>
      command.handle({ ...call, comment, args: one.args, options: one.options }, tools);
    reading ??= await look();
    if (command.holds !== undefined && context.now().getTime() - writtenAt >= command.holds) {
      isOutdated ??= await changedSince(
        context,
        reading.call.change,
        reading.call.models.map(({ facts }) => facts),
        comment.createdAt,
      );
      if (isOutdated) {
        answers.push(outdated(reading.call.change));
        continue;
      }
    }
    let answer = await handle(reading);
    // The bot acts on a comment once, so a no is final: not one that a bad moment of the forge or a push in between made.
    if (isRefusal(answer) && answer.about !== 'person') {
      reading = await look();
      answer = await handle(reading);
    } else if (isRefusal(answer) && !reading.isSure) {
      reading = { ...reading, tools: createTools(context), isSure: true };
      answer = await handle(reading);
    }
    answers.push(answer);
    // The next command of the comment sees what this one did.
    if (!isRefusal(answer) && command.role !== 'anyone') reading = null;
  }
  return {
    emoji: strongest.find((name) => answers.some((one) => one.emoji === name)) ?? 'eyes',
    text: [...new Set(answers.map((one) => one.text))].join('\n\n'),
    refusal: answers.every(isRefusal),
    converge: answers.some((one) => one.converge === true),
  };
}

/**
 * Acts on a comment once: the commands in it, one reaction and one answer in its thread. Comments of the bot itself and of
 * the forge are left alone, and one that was edited before it was read is only answered. May fail or be killed and run again at any point: what was carried out is not carried out on a
 * later state of the change again, only said. Throws UpstreamError (try again later) and UserError.
 */
export async function handleComment(
  context: BotContext,
  changeId: number,
  commentId: string,
  isolated: boolean,
): Promise<void> {
  const { forge, state, effects } = context;
  if (await state.isHandled(commentId)) return;
  const [comment, self] = await Promise.all([forge.getComment(changeId, commentId), forge.self()]);
  // Deleted, or not to be seen just now: then reconciling brings it again.
  if (!comment) return;
  const isTalk = comment.system || comment.author.id === self.id;
  const spoken = isTalk ? [] : parseComment(comment.body, commandNames);
  if (spoken.length > 0) {
    const name = `said/${commentId}`;
    const before = await state.cursor(name);
    const said = before
      ? saidSchema.parse(JSON.parse(before))
      : isEdited(comment)
        ? edited
        : await carryOut(context, changeId, comment, spoken, isolated);
    if (!before) await state.setCursor(name, JSON.stringify(said));
    if (said.converge) await effects.enqueue({ kind: 'change', change: changeId });
    await forge.react(changeId, commentId, said.emoji);
    if (!said.refusal || (await isNews(context, changeId, comment, said.text))) {
      await forge.ensureReply(changeId, comment, `reply:${commentId}`, said.text);
    }
    await state.setHandled(commentId);
    await state.setCursor(name, '');
    return;
  }
  await state.setHandled(commentId);
}
