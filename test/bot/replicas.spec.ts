import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convergeChange } from '../../bot/converge.ts';
import { createEffects } from '../../bot/effects.ts';
import { handleComment } from '../../bot/handle.ts';
import { convergeBranch } from '../../bot/promote.ts';
import { readChange, readDecisions } from '../../bot/read.ts';
import { createBotState } from '../../bot/state.ts';
import type { BotContext } from '../../bot/types.ts';
import {
  type Database,
  digestJson,
  openDatabase,
  openForge,
  openMirror,
  shortDigest,
} from '../../src/index.ts';
import { liveAs } from './story.ts';
import { type BotWorld, createBotWorld } from './world.ts';

let folder: string;
let database: Database;
let world: BotWorld;
/** Two bots on one database, each with its own connection to the forge and its own mirror. */
let both: BotContext[];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-replicas-'));
  database = await openDatabase({
    url: null,
    folder: join(folder, 'database'),
  });
  world = await createBotWorld(database);
  const other = await openForge({
    kind: 'gitlab',
    url: world.sandbox.url,
    project: world.context.forge.project,
    token: world.people.bot.token,
    evaluationToken: world.people.evaluator.token,
  });
  const mirror = await openMirror({
    folder: join(folder, 'mirror'),
    access: other.git(),
    path: process.env.PATH ?? '',
  });
  const context = { ...world.context, forge: other, mirror };
  both = [world.context, { ...context, effects: createEffects(context, async () => undefined) }];
});
afterAll(async () => {
  const { violations, problems } = world.sandbox;
  await world.close();
  await database.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
  expect(violations).toEqual([]);
  expect(problems).toEqual([]);
});

/** The same task at the same moment, three times over. */
async function twice(work: (bot: BotContext) => Promise<unknown>): Promise<void> {
  for (let round = 0; round < 3; round++) {
    await Promise.all([...both, both[0]!].map(work));
    await world.sandbox.settled();
  }
}

describe('two bots that do the same task at the same moment', () => {
  it('show a picture that both uploaded under one address', async () => {
    const states = [0, 1].map(() => createBotState(database, 'acme/pictures'));
    const key = digestJson('picture');
    const kept = await Promise.all(states.map((state, at) => state.keepPicture(key, `![p](/uploads/${at})`)));
    expect(new Set(kept).size).toBe(1);
    states.push(createBotState(database, 'acme/pictures'));
    for (const state of states) expect(await state.picture(key)).toBe(kept[0]);
    expect(await states[0]!.keepPicture(key, '![p](/uploads/2)')).toBe(kept[0]);
  });

  it('say, start, commit and sign everything once', async () => {
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    const change = await world.openChange('exp/a');
    await twice((bot) => convergeChange(bot, change, false));
    const facts = async () => {
      const read = await readChange(world.context, change, false);
      if (read.kind !== 'read') throw new Error(`change is ${read.kind}`);
      return read.models[0]!;
    };
    const marked = (marker: string) =>
      world.comments(change).filter((body) => body.includes(`<!-- cdl:${marker}`)).length;
    const evaluations = [...world.project.pipelines.values()].filter((one) => one.inputs.cdl_question);
    expect(evaluations).toHaveLength(1);
    expect(marked('report:fashion')).toBe(1);
    const authors = await world.context.forge.commitAuthors(change);
    expect(authors.map((one) => one.name).sort()).toEqual(['Ada', 'CDL']);

    const note = await world.say('vera', change, `/approve ${shortDigest((await facts()).review!)}\n/status`);
    await twice((bot) => handleComment(bot, change, note, false));
    await twice((bot) => convergeChange(bot, change, false));
    expect(marked('reply:')).toBe(1);
    const { emoji } = world.project.mergeRequests.get(change)!.notes.find((one) => String(one.id) === note)!;
    expect(emoji).toHaveLength(1);
    const decisions = async () =>
      (await readDecisions(world.context, 'fashion', 'fashion', 'production')).decisions;
    const [approved] = await decisions();
    await world.setLive(liveAs(approved!, await facts(), 1));
    await twice((bot) => convergeBranch(bot));
    expect((await decisions()).map((one) => one.decision)).toEqual(['approved', 'promoted']);
    expect([...world.project.releases.keys()]).toEqual(['model/fashion/v1']);
    expect(world.statuses(change)['cdl/fashion']).toMatch(/^success/);
  });
});
