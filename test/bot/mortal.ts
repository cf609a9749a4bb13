import { createEffects } from '../../bot/effects.ts';
import { createMetrics } from '../../bot/metrics.ts';
import type { BotContext, Task } from '../../bot/types.ts';
import { doTask } from '../../bot/work.ts';
import { type Database, UpstreamError } from '../../src/index.ts';

/** The end of a process, as far as the rest of the test can tell. */
class Killed extends Error {}

/** Where to die; calls are counted from 0 over the whole story. */
export interface Death {
  at: number;
  when: 'before' | 'after';
}

/** Calls of every port of a bot, which dies at one of them: from then on nothing it does has any effect. */
export function mortal(
  base: Omit<BotContext, 'effects'>,
  tasks: Task[],
  calls: string[],
  death: Death | null,
): BotContext {
  let dead = false;
  const die = () => {
    dead = true;
    throw new Killed();
  };
  const watched = <T extends object>(port: T, name: string): T =>
    new Proxy(port, {
      get(target, key) {
        const value: unknown = Reflect.get(target, key);
        // What only hands something on is no call of another service.
        if (typeof value !== 'function' || key === 'listRecords' || key === 'git') return value;
        return async (...args: unknown[]) => {
          if (dead) throw new Killed();
          const index = calls.push(`${name}.${String(key)}`) - 1;
          if (index === death?.at && death.when === 'before') die();
          const result: unknown = await value.apply(target, args);
          if (index === death?.at && death.when === 'after') die();
          return result;
        };
      },
    });
  const context = {
    ...base,
    forge: watched(base.forge, 'forge'),
    mirror: watched(base.mirror, 'mirror'),
    work: watched(base.work, 'work'),
    trusted: watched(base.trusted, 'trusted'),
    state: watched(base.state, 'state'),
  };
  return { ...context, effects: createEffects(context, enqueueTo(tasks)) };
}

/** As the queue does: a waiting task that says the same is one task. */
const enqueueTo = (tasks: Task[]) => async (task: Task) => {
  const same = JSON.stringify(task);
  if (!tasks.slice(1).some((one) => JSON.stringify(one) === same)) tasks.push(task);
};

const options = {
  isolated: false,
  metrics: createMetrics({ process: false }),
  log: { info: () => undefined, warn: () => undefined, error: () => undefined } as never,
};

/** How the queue treats tasks: each until it succeeds, also when the bot had to be started again. */
export async function drain(
  tasks: Task[],
  bot: { current: BotContext; restart(): void },
  database: Database,
  settled: () => Promise<void>,
): Promise<void> {
  for (let round = 0; tasks.length > 0; round++) {
    if (round > 60) throw new Error(`does not settle: ${JSON.stringify(tasks)}`);
    const task = tasks[0]!;
    try {
      await doTask(bot.current.forge.project, bot.current, task, { ...options, database });
      tasks.shift();
    } catch (error) {
      if (error instanceof Killed) bot.restart();
      else if (!(error instanceof UpstreamError && error.retryable)) throw error;
    }
    await settled();
  }
}

/** Every `stride`-th, beginning anywhere: what one run leaves out another one takes. */
export function sample<T>(all: readonly T[], stride: number): T[] {
  const start = Math.floor(Math.random() * stride);
  return all.filter((_, index) => index % stride === start);
}

/** 0: a handful of places; otherwise every so-manieth place of all. */
export const stride = Number(process.env.CDL_WALK ?? 0);

/** What part of the walk is gone, for the names of tests. */
export const part =
  stride === 1
    ? 'all of them'
    : stride > 1
      ? `every ${stride}th of them; CDL_WALK=1 takes all`
      : 'a few of the writes; the walk is skipped: CDL_WALK is not set';
const writing =
  /\.(ensure|set|add|react|upload|runPipeline|fastForward|writeRecord|putArtifact|remember|withdraw|lift)/;

/** Where to die in a story that makes these calls. */
export function deathsOf(calls: readonly string[]): Death[] {
  const writes = calls.flatMap((name, at) => (writing.test(name) ? [at] : []));
  if (writes.length <= 15) throw new Error(`the story writes ${writes.length} times only`);
  return stride > 0
    ? sample([...calls.keys()], stride).map((at) => ({ at, when: 'before' }))
    : sample(writes, Math.ceil(writes.length / 4)).map((at) => ({ at, when: 'after' }));
}
