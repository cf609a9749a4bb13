import { type Comment, digestJson } from '../src/index.ts';
import { commandNames, commands } from './commands/index.ts';
import type { Answer } from './commands/types.ts';
import { parseComment, type Spoken } from './parse.ts';
import { planChange } from './plan.ts';
import { readChange } from './read.ts';
import { createTools } from './tools.ts';
import type { BotContext } from './types.ts';

const strongest = ['no_entry', 'confused', 'thumbsup', 'eyes'] as const;

async function answerOne(
  context: BotContext,
  spoken: Spoken,
  call: Omit<Parameters<(typeof commands)[number]['handle']>[0], 'args' | 'options'>,
): Promise<Answer> {
  if (spoken.kind === 'typo') {
    const meant = spoken.suggestion
      ? `Did you mean \`/${spoken.suggestion}\`?`
      : '`/help` lists what I know.';
    return { emoji: 'confused', text: `I do not know \`/${spoken.name}\`. ${meant}` };
  }
  const command = commands.find((one) => one.name === spoken.name)!;
  return command.handle({ ...call, args: spoken.args, options: spoken.options }, createTools(context));
}

/**
 * Whether an answer is worth saying: who was told on this change that something is unknown or forbidden is told it once, and
 * sees a reaction the next time.
 */
async function isNews(
  { state }: BotContext,
  change: number,
  comment: Comment,
  answers: readonly Answer[],
  text: string,
): Promise<boolean> {
  if (answers.some((answer) => answer.emoji !== 'no_entry' && answer.emoji !== 'confused')) return true;
  const name = `told/${change}/${comment.author.id}/${digestJson(text).slice(7, 23)}`;
  const told = await state.cursor(name);
  if (told !== null) return told === comment.id;
  await state.setCursor(name, comment.id);
  return true;
}

/**
 * Acts on a comment once: the commands in it, one reaction and one answer in its thread. Comments of the bot itself and of
 * the forge are left alone. Throws UpstreamError (try again later) and UserError.
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
  const spoken =
    comment && !comment.system && comment.author.id !== self.id
      ? parseComment(comment.body, commandNames)
      : [];
  if (comment && spoken.length > 0) {
    let converge = false;
    const answers: Answer[] = [];
    for (const one of spoken) {
      // Read again for each: the second command of a comment sees what the first did.
      const read = await readChange(context, changeId, isolated);
      const change = read.kind === 'ignored' ? await forge.getChange(changeId) : read.change;
      if (!change) break;
      const models =
        read.kind === 'read'
          ? read.models.map((facts) => ({ facts, plan: planChange(facts, read.base) }))
          : [];
      const answer = await answerOne(context, one, { comment, change, models });
      answers.push(answer);
      converge ||= answer.converge === true;
    }
    const emoji = strongest.find((name) => answers.some((answer) => answer.emoji === name)) ?? 'eyes';
    if (converge) await effects.enqueue({ kind: 'change', change: changeId });
    await forge.react(changeId, commentId, emoji);
    const text = [...new Set(answers.map((answer) => answer.text))].join('\n\n');
    if (await isNews(context, changeId, comment, answers, text)) {
      await forge.ensureReply(changeId, comment, `reply:${commentId}`, text);
    }
  }
  await state.setHandled(commentId);
}
