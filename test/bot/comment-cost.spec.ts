import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { handleComment } from '../../bot/handle.ts';
import { type Database, type Forge, openDatabase } from '../../src/index.ts';
import { type BotWorld, createBotWorld } from './world.ts';

let folder: string;
let database: Database;
let world: BotWorld;
let change: number;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-comment-cost-'));
  database = await openDatabase({ url: null, folder });
  world = await createBotWorld(database);
  await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
  change = await world.openChange('exp/a');
});
afterAll(async () => {
  await world?.close();
  await database?.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
});

/** What the forge was asked while the bot answered a comment, how often, and what the bot said last. */
async function answer(
  who: 'ada' | 'walt' | 'eve',
  body: string,
  level: 30 | null,
): Promise<{ asked: Record<string, number>; text: string }> {
  const { members } = world.project;
  const { id } = world.people[who];
  const comment = await world.say(who, change, body);
  if (level === null) members.delete(id);
  else members.set(id, level);
  const asked: Record<string, number> = {};
  const forge: Forge = new Proxy(world.context.forge, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        asked[String(key)] = (asked[String(key)] ?? 0) + 1;
        return value.apply(target, args) as unknown;
      };
    },
  });
  await handleComment({ ...world.context, forge }, change, comment, false);
  members.set(id, 30);
  await world.sandbox.settled();
  return { asked, text: world.comments(change).at(-1)! };
}

const ten = (line: (at: number) => string) => Array.from({ length: 10 }, (_, at) => line(at)).join('\n');

describe('a comment with ten commands', () => {
  it('by somebody who is no member costs one look at who they are, and a second one to be sure', async () => {
    const commands = ['/train epochs=5', '/reject train "no"', '/retrain', '/lock', '/deploy'];
    const { asked, text } = await answer(
      'walt',
      ten((at) => `cdl ${commands[at % commands.length]}`),
      null,
    );
    expect(text).toContain('Only members of this project who may push to it');
    expect(text).toContain('Only members of this project to whom `cdl.yaml`');
    expect(asked).toEqual({ getComment: 1, self: 1, member: 2, react: 1, ensureReply: 1 });
  });

  it('by a member without the role reads the change once', async () => {
    const { asked, text } = await answer(
      'eve',
      ten(() => '/reject train "no"'),
      30,
    );
    expect(text).toContain('does not have the role');
    expect(asked.getChange).toBe(1);
    // Before reading the change, and then twice for the refusal.
    expect(asked.member).toBe(3);
  });

  it('that only ask reads the change once, and mistyped ones not at all', async () => {
    expect(
      (
        await answer(
          'eve',
          ten(() => '/status'),
          30,
        )
      ).asked.getChange,
    ).toBe(1);
    const { asked, text } = await answer(
      'eve',
      ten(() => '/aprove'),
      30,
    );
    expect(text).toContain('Did you mean');
    expect(asked).toEqual({ getComment: 1, self: 1, react: 1, ensureReply: 1 });
  });

  it('is told what the change says against them only after a second reading', async () => {
    const { asked, text } = await answer('ada', '/train epoch=5', 30);
    expect(text).toContain('is not a hyperparameter');
    expect(asked.getChange).toBe(2);
  });

  it('sees in each command what the one before did', async () => {
    const { text } = await answer('ada', '/pause\n/status', 30);
    expect(text).toContain('paused by ada');
  });
});
