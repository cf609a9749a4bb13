import { convergeChange } from '../../bot/converge.ts';
import { handleComment } from '../../bot/handle.ts';
import { convergeBranch } from '../../bot/promote.ts';
import { readChange, readDecisions } from '../../bot/read.ts';
import type { Facts } from '../../bot/types.ts';
import { type Decision, type Live, liveKey, parseLock, shortDigest } from '../../src/index.ts';
import type { BotWorld } from './world.ts';

/** People of a world who write. */
export type Name = 'ada' | 'vera' | 'walt' | 'eve';

/** What the deploy job leaves when it brought what was approved to the environment. */
export function liveAs(approved: Decision, { plan, change }: Facts, version: number): { current: Live } {
  const { candidate, evaluation, plan: digest } = approved;
  const since = new Date().toISOString();
  return {
    current: {
      candidate,
      evaluation,
      package: plan!.package,
      plan: digest,
      version,
      since,
      commit: change.head,
    },
  };
}

/** What people and their bot do with changes of a world, each until nothing is left to do. */
export function tell(world: BotWorld) {
  const { context } = world;

  async function factsOf(change: number): Promise<Facts> {
    const read = await readChange(context, change, false);
    if (read.kind !== 'read' || !read.models[0]) throw new Error(`change is ${read.kind}`);
    return read.models[0];
  }

  async function settle(change: number): Promise<void> {
    for (let pass = 0; pass < 8; pass++) {
      const before = world.tasks.length;
      const done = await convergeChange(context, change, false);
      await world.sandbox.settled();
      if (world.tasks.length === before && done.every((one) => one.standing !== 'evaluating')) return;
    }
    throw new Error('does not settle');
  }

  async function hear(change: number, id: string): Promise<void> {
    await handleComment(context, change, id, false);
    await world.sandbox.settled();
  }

  async function say(who: Name, change: number, body: string): Promise<string> {
    const id = await world.say(who, change, body);
    await hear(change, id);
    return id;
  }

  /** The bot's newest answer. */
  const answer = async (who: Name, change: number, body: string): Promise<string> => {
    await say(who, change, body);
    return world.comments(change).at(-1)!;
  };

  async function propose(text: string, branch = 'exp/a', more: Record<string, string> = {}): Promise<number> {
    await world.push('ada', branch, { 'model.ts': text, ...more });
    const change = await world.openChange(branch);
    await settle(change);
    return change;
  }

  async function merge(change: number): Promise<void> {
    const { head } = (await context.forge.getChange(change))!;
    const url = `${world.sandbox.url}/api/v4/projects/${world.project.id}/merge_requests/${change}/merge`;
    const done = await fetch(url, {
      method: 'PUT',
      headers: { 'private-token': world.people.evaluator.token, 'content-type': 'application/json' },
      body: JSON.stringify({ sha: head }),
    });
    if (!done.ok) throw new Error(`merge: ${done.status}`);
    await world.sandbox.settled();
  }

  /** What deploying the lock's entry of the default branch leaves. */
  async function deploy(): Promise<void> {
    const tip = (await context.mirror.head('main'))!;
    const lock = parseLock((await context.mirror.readFile(tip, 'cdl.lock'))!);
    const entry = lock.models.fashion!.production!;
    const current: Live = {
      candidate: entry.candidate,
      evaluation: entry.evaluation,
      package: entry.package,
      plan: entry.code,
      version: entry.info.version,
      since: new Date().toISOString(),
      commit: tip,
    };
    const key = liveKey('fashion', 'fashion', 'production');
    const record = await world.trusted.readRecord(key);
    await world.trusted.writeRecord(
      key,
      { v: 1, current, transition: null, failed: null, endpoint: null },
      record ? { ifMatch: record.etag } : { ifAbsent: true },
    );
    await world.trusted.copyArtifact(world.work, entry.package);
    await convergeBranch(context);
  }

  const decisions = async (): Promise<Decision[]> =>
    (await readDecisions(context, 'fashion', 'fashion', 'production')).decisions;

  return {
    factsOf,
    settle,
    hear,
    say,
    answer,
    propose,
    merge,
    deploy,
    decisions,
    approveLine: async (change: number) => `/approve ${shortDigest((await factsOf(change)).review!)}`,
    status: (change: number) => world.statuses(change)['cdl/fashion'],
    emoji: (change: number, id: string) =>
      world.project.mergeRequests
        .get(change)!
        .notes.find((note) => String(note.id) === id)!
        .emoji.filter((one) => one.userId === world.people.bot.id)
        .map((one) => one.name),
  };
}
