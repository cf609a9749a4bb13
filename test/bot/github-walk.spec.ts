import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readChange, readDecisions } from '../../bot/read.ts';
import type { Task } from '../../bot/types.ts';
import { parseLock, shortDigest } from '../../src/index.ts';
import { useDatabase } from './database.ts';
import { createGithubWorld, type GithubWorld, githubDescription } from './github-world.ts';
import { type Death, deathsOf, drain, mortal, part } from './mortal.ts';
import { liveAs } from './story.ts';

/** Far more than it takes, on machines that do other things. */
const timeout = 3_600_000;

describe.skipIf(!githubDescription)(`on GitHub, a bot that is killed between any two calls (${part})`, () => {
  const database = useDatabase();
  let world: GithubWorld;
  beforeAll(async () => {
    world = await createGithubWorld(database(), githubDescription!);
  });
  afterAll(async () => {
    await world?.close();
    expect(world?.fake.violations).toEqual([]);
  });

  const decisionsOf = async (change: number) =>
    (await readDecisions(world.context, 'fashion', 'fashion', 'production')).decisions.filter(
      (one) => one.change === `#${change}`,
    );

  let stories = 0;

  /** A change from push to promotion; what a person would see in the end, in words that are the same for every change. */
  async function story(death: Death | null, calls: string[]): Promise<object> {
    const branch = `story-${++stories}`;
    const tasks: Task[] = [];
    const { effects: _own, ...ports } = world.context;
    const bot = {
      current: mortal(ports, tasks, calls, death),
      restarts: 0,
      restart() {
        bot.restarts++;
        bot.current = mortal(ports, tasks, [], null);
      },
    };
    const hear = async (task: Task) => {
      tasks.push(task);
      await drain(tasks, bot, database(), () => world.fake.settled());
    };
    const { fake } = world;
    await world.push('ada', branch, { 'model.ts': `${branch}\n` });
    const change = await world.openChange(branch);
    const pull = fake.state.pulls.find((one) => one.number === change)!;
    const facts = async () => {
      const read = await readChange(world.context, change, false);
      if (read.kind !== 'read') throw new Error(`change is ${read.kind}`);
      return read.models[0]!;
    };
    // As often as webhooks tell of it: the evaluation ends, the commit of the lock has a run of its own.
    for (let look = 0; look < 3; look++) await hear({ kind: 'change', change });
    const { review } = await facts();
    if (!review) throw new Error(`nothing to approve: ${world.check(change)}`);
    const comment = await world.say('vera', change, `/approve ${shortDigest(review)}`);
    await hear({ kind: 'comment', change, comment });
    const end = await facts();
    const [approved] = await decisionsOf(change);
    if (!approved) throw new Error('nothing was approved');
    await world.setLive(liveAs(approved, end, stories));
    await hear({ kind: 'branch' });
    // What is live asks every open change anew. A bot that was killed after asking may have read the answer already.
    for (let look = 0; look < 2; look++) await hear({ kind: 'change', change });
    if (bot.restarts !== (death ? 1 : 0)) throw new Error(`died ${bot.restarts} times`);
    const now = await facts();
    const text = await world.context.forge.readFile('cdl.lock', now.change.head);
    const entry = text === null ? null : parseLock(text).models.fashion?.production;
    const comments = world.comments(change);
    const kinds = (marker: string) => comments.filter((body) => body.includes(`<!-- cdl:${marker}`)).length;
    const state = {
      check: world.check(change),
      checks: fake.state.checks.filter((one) => one.sha === pull.head && one.name === 'cdl/fashion').length,
      lock: entry?.candidate === approved.candidate && entry.evaluation === now.answer?.digest,
      decisions: (await decisionsOf(change)).map((one) => one.decision),
      reports: kinds('report:fashion'),
      replies: kinds('reply:'),
      comments: comments.length,
      reactions: fake.state.comments.find((one) => String(one.id) === comment)!.reactions.length,
      evaluations: fake.state.runs.filter((run) => run.inputs.cdl_change === String(change)).length,
      commits: (await world.context.forge.commitAuthors(change)).map((one) => one.name).sort(),
      releases: fake.state.releases.filter((one) => one.tag.endsWith(`/v${stories}`)).length,
    };
    pull.state = 'closed';
    return state;
  }

  it('comes to the same end, whichever they are', { timeout }, async () => {
    // The first one had nothing live before it.
    await story(null, []);
    const calls: string[] = [];
    const undisturbed = await story(null, calls);
    expect(undisturbed).toMatchObject({
      reports: 1,
      replies: 1,
      decisions: ['approved', 'promoted'],
      checks: 1,
    });
    for (const death of deathsOf(calls)) {
      const what = `killed ${death.when} call ${death.at}, ${calls[death.at]}`;
      const state = await story(death, []).catch((error: unknown) => ({ [what]: String(error) }));
      expect(state, what).toEqual(undisturbed);
    }
  });
});
