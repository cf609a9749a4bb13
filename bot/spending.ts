import type { Budgets, Change, Job, Pipeline, Project, Report } from '../src/index.ts';
import {
  describeOverrun,
  duration,
  mergeJobs,
  type Overrun,
  overrunOf,
  type Spending,
  type SpentJob,
  spentJob,
  sumOf,
} from './budget.ts';
import { isQuiet } from './quiet.ts';
import { readableTime } from './time.ts';
import type { BotContext, Sources } from './types.ts';

const day = 24 * 3600_000;

const isOver = (job: Job): boolean =>
  job.endedAt !== null || job.state === 'skipped' || job.state === 'canceled';

/**
 * What the jobs of a change's pipelines took: from the table what has ended, from the forge the rest. `known` are jobs that
 * were read already, by pipeline.
 */
export async function readSpending(
  sources: Pick<Sources, 'forge' | 'state'>,
  input: {
    change: number;
    pipelines: readonly Pick<Pipeline, 'id' | 'state'>[];
    known: ReadonlyMap<string, readonly Job[]>;
    budgets: Budgets | undefined;
    now: Date;
  },
): Promise<Spending> {
  const { change, known, now } = input;
  const { forge, state } = sources;
  const [own, recent] = await Promise.all([
    state.jobsOf(change),
    input.budgets ? state.jobsSince(new Date(now.getTime() - day).toISOString()) : [],
  ]);
  const fresh: SpentJob[] = [];
  for (const { id, state: at } of input.pipelines) {
    const stored = own.filter((job) => job.pipeline === id);
    const settled = at !== 'running' && at !== 'waiting';
    if (settled && stored.length > 0 && stored.every((job) => job.endedAt !== null)) continue;
    for (const job of known.get(id) ?? (await forge.jobs(id))) {
      // What ended and took nothing is kept as well, so that its pipeline need not be asked about again.
      if (job.seconds === 0 && job.endedAt === null && job.state !== 'canceled') continue;
      const one = spentJob(job, id, change);
      // A job that is over without a time of its end (it never ran) is kept with the time it was seen.
      const kept = one.endedAt === null && isOver(job) ? { ...one, endedAt: now.toISOString() } : one;
      const before = stored.find((other) => other.job === kept.job);
      const isSame =
        before && before.seconds === kept.seconds && (before.endedAt === null) === (kept.endedAt === null);
      if (!isSame) fresh.push(kept);
    }
  }
  const all = mergeJobs(mergeJobs(recent, own), fresh);
  const ended = all.filter((job) => job.change === change && job.endedAt !== null);
  return { spent: sumOf(ended), over: overrunOf(input.budgets, change, all, now), fresh };
}

function explain(over: Overrun, project: Project, branch: string): Report {
  const { scope, unit, used, limit, frees } = over;
  const people = project.roles.maintainer.join(', ');
  const when =
    scope === 'change'
      ? 'not by itself: the limit is for the whole change'
      : frees
        ? readableTime(frees)
        : 'when the jobs that run now have ended';
  return {
    key: 'budget',
    title: 'The budget is used up',
    verdict: 'fail',
    summary: `Nothing more is trained or evaluated for this change at present: ${describeOverrun(over)}.`,
    blocks: [
      {
        kind: 'facts',
        facts: [
          ['used', `${duration(used)} (${Math.round(used)} ${unit})`],
          ['limit', `${duration(limit)}: budgets.${scope}.${unit} in cdl.yaml of ${branch}`],
          ['frees', when],
          ['who can raise it', `whoever may merge a change of that line${people ? `: ${people}` : ''}`],
        ],
      },
      {
        kind: 'text',
        text: 'A pipeline of this change that was running has been stopped; start it again when there is room.',
      },
    ],
  };
}

/**
 * Keeps to the budget of a change: notes what its jobs took, stops its running pipeline when a budget is used up, and says
 * so once; says once more when there is room again.
 */
export async function enforceBudget(
  context: BotContext,
  read: {
    change: Change;
    spending: Spending;
    running: readonly Pick<Pipeline, 'id'>[];
    rules: Project | null;
    branch: string;
  },
): Promise<void> {
  const { effects, state } = context;
  const { change, spending, rules } = read;
  if (spending.fresh.length > 0) await effects.recordJobs(spending.fresh);
  const name = `budget/${change.id}`;
  const before = (await state.cursor(name)) ?? '';
  const { over } = spending;
  if (over && rules && change.state === 'open') {
    for (const pipeline of read.running) await effects.cancelEvaluation(pipeline.id);
    const now = `${over.scope}.${over.unit}.${over.limit}`;
    // A draft hears of it when it is ready.
    if (before === now || isQuiet(change)) return;
    await effects.comment(change.id, 'budget', explain(over, rules, read.branch));
    await effects.setCursor(name, now);
  } else if (before !== '') {
    await effects.comment(change.id, 'budget', {
      key: 'budget',
      title: 'There is room in the budget again',
      verdict: 'pass',
      summary: 'Evaluations go on by themselves. A pipeline that was stopped has to be started again.',
      blocks: [],
    });
    await effects.setCursor(name, '');
  }
}
