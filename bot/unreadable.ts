import { type Change, digestJson, type LineProblem, type Report, type Status } from '../src/index.ts';
import { isQuiet } from './quiet.ts';
import type { ReadChange } from './read.ts';
import { sayStatus } from './status-writer.ts';
import type { BotContext } from './types.ts';

const statusName = 'cdl';
const commentKey = 'report';

/** What was said of a change that could not be read: '' nothing, `status`, or `comment` when there is one too. */
const saidCursor = (change: number): string => `unreadable/${change}`;

/** The lines `FILE:LINE:COLUMN  what is wrong` of a message. */
function lineProblems(text: string): LineProblem[] {
  return [...text.matchAll(/^(\S+?):(\d+):\d+\s+(.+)$/gm)].map(([, path, line, message]) => ({
    path: path!,
    line: Number(line),
    message: message!,
  }));
}

/** Threads at the lines of cdl.yaml that are wrong; resolved with the mistake. Nobody is asked while there never were any. */
async function keepLineThreads(
  context: BotContext,
  change: Change,
  problems: readonly LineProblem[],
): Promise<void> {
  const name = `lines/${change.id}`;
  const before = (await context.state.cursor(name)) ?? '';
  const now =
    problems.length === 0 ? '' : `${change.head} ${digestJson(problems.map((one) => ({ ...one })))}`;
  if (before === now) return;
  await context.effects.lineThreads(change.id, problems);
  await context.effects.setCursor(name, now);
}

type Unreadable = Extract<ReadChange, { kind: 'unreadable' }>;

const forkReport: Report = {
  key: commentKey,
  title: 'A branch of a fork',
  verdict: 'warn',
  summary:
    'The branch is in a fork: nothing is run or evaluated for it here. A member can bring it into this project.',
  blocks: [],
};

/** The comment and the status about a cdl.yaml that cannot be read: the change's own, or the default branch's. */
function wordsOf(read: Exclude<Unreadable, { why: 'fork' }>): {
  report: Report;
  status: Pick<Status, 'state' | 'description' | 'problems'>;
} {
  const code = { kind: 'code', language: 'text', text: read.problem } as const;
  if (read.why === 'change') {
    return {
      report: {
        key: commentKey,
        title: 'cdl.yaml',
        verdict: 'fail',
        summary: 'cdl.yaml cannot be read, so nothing else was looked at.',
        blocks: [code],
      },
      status: {
        state: 'failed',
        description: 'cdl.yaml cannot be read',
        problems: lineProblems(read.problem),
      },
    };
  }
  const { branch, mends } = read;
  return {
    report: {
      key: commentKey,
      title: `cdl.yaml of ${branch}`,
      verdict: 'warn',
      summary: `cdl.yaml of ${branch} cannot be read, and the rules that judge a change stand there: ${
        mends
          ? 'merging this change mends it. Nothing is judged until then.'
          : 'nothing is judged until a change that mends it is merged.'
      }`,
      blocks: [code],
    },
    status: mends
      ? {
          state: 'success',
          description: `mends cdl.yaml of ${branch}; nothing is judged until it is merged`,
        }
      : {
          state: 'pending',
          description: `cdl.yaml of ${branch} cannot be read; nothing is judged until it is mended`,
        },
  };
}

/**
 * Says of a change that it cannot be read, and why: a status, and unless it is a draft a comment, with threads at the lines
 * of its own file. Throws UpstreamError (try again later) and UserError.
 */
export async function tellUnreadable(context: BotContext, read: Unreadable): Promise<void> {
  const { effects, state } = context;
  const { change } = read;
  const quiet = isQuiet(change);
  if (read.why === 'fork') {
    if (!quiet) await effects.comment(change.id, commentKey, forkReport);
    return;
  }
  // The rules of a merged change are those it was merged by: what the branch became since says nothing about it.
  if (read.why === 'branch' && change.state !== 'open') return;
  const { report, status } = wordsOf(read);
  const before = (await state.cursor(saidCursor(change.id))) ?? '';
  const now = quiet && before !== 'comment' ? 'status' : 'comment';
  // Noted first: what was said has to be taken back also when the bot was killed on the way.
  if (before !== now) await effects.setCursor(saidCursor(change.id), now);
  if (!quiet) await effects.comment(change.id, commentKey, report);
  await keepLineThreads(context, change, quiet ? [] : (status.problems ?? []));
  await sayStatus(context, change, { name: statusName, url: null, pipeline: null, ...status });
}

/** Takes back what {@link tellUnreadable} said, once, now that the change can be read. Throws as that does. */
export async function takeBackUnreadable(context: BotContext, change: Change): Promise<void> {
  const { effects, state } = context;
  await keepLineThreads(context, change, []);
  const said = (await state.cursor(saidCursor(change.id))) ?? '';
  if (said === '') return;
  if (said === 'comment') {
    await effects.comment(change.id, commentKey, {
      key: commentKey,
      title: 'cdl.yaml',
      verdict: 'pass',
      summary: 'cdl.yaml was read again: all is well.',
      blocks: [],
    });
  }
  await sayStatus(context, change, {
    name: statusName,
    state: 'success',
    description: 'cdl.yaml was read again: all is well',
    url: null,
    pipeline: null,
  });
  await effects.setCursor(saidCursor(change.id), '');
}
