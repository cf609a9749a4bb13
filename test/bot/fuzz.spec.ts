import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { commandNames } from '../../bot/commands/index.ts';
import { handleComment } from '../../bot/handle.ts';
import { parseComment } from '../../bot/parse.ts';
import type { BotContext } from '../../bot/types.ts';
import { type Database, openDatabase } from '../../src/index.ts';
import { expectHarmless } from '../report/harmless.ts';
import { venom } from '../report/venom.ts';
import { tell } from './story.ts';
import { type BotWorld, createBotWorld } from './world.ts';

const digest = '3f9a2c41b7d6';
const line = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...venom) },
  { weight: 2, arbitrary: fc.string({ unit: 'binary', maxLength: 60 }) },
  { weight: 1, arbitrary: fc.string({ unit: 'grapheme', maxLength: 60 }) },
  {
    weight: 4,
    arbitrary: fc
      .tuple(
        fc.constantFrom('', '', ' ', '\t', '> ', '> > > ', '    ', '`', '- ', '\u202e', '\u200b', 'cdl '),
        fc.constantFrom('/', '/', '/cdl ', '/cdl /', '\uff0f', '\\/'),
        fc.constantFrom(...commandNames, 'aprove', 'merge', 'APPROVE', '__proto__', 'constructor'),
        fc.array(
          fc.oneof(
            fc.constantFrom(digest, '--override', '"', '“why”', '\\"', '--', '--=', '=', '2', 'production'),
            fc.constantFrom('epochs=9', '--model=fashion', '--model', 'train', 'refresh', '\u0000', '\ud800'),
            fc.string({ unit: 'binary', maxLength: 20 }),
          ),
          { maxLength: 5 },
        ),
      )
      .map(([before, slash, name, words]) => `${before}${slash}${name} ${words.join(' ')}`),
  },
  { weight: 1, arbitrary: fc.constantFrom('```', '~~~~', '```yaml', '<!--', '-->', '<details>', '>>>', '') },
);
const ends = fc.constantFrom('\n', '\n', '\n', '\r\n', '\r', '\n\n');
const bodyOf = (lines: number) =>
  fc.array(fc.tuple(line, ends), { minLength: 1, maxLength: lines }).map((all) => all.flat().join(''));
const body = bodyOf(8);
const huge = fc
  .tuple(body, fc.constantFrom('"', '> ', '`', '<!--', '/approve ', '\u202e', '\\', '“'), body)
  .map(([before, one, after]) => `${before}\n${one.repeat(200_000 / one.length)}\n${after}`);

describe('ten thousand comments', () => {
  it('are read without an exception: commands that there are, options that are text, ten at most', () => {
    fc.assert(
      fc.property(fc.oneof({ weight: 99, arbitrary: body }, { weight: 1, arbitrary: huge }), (text) => {
        const found = parseComment(text, commandNames);
        if (found.length > 10) expect.fail(`${found.length} commands`);
        for (const one of found) {
          if (one.kind === 'typo') {
            if (!/^[a-z-]+$/.test(one.name)) expect.fail(one.name);
            continue;
          }
          const words = [...one.args, ...Object.values(one.options)];
          if (!commandNames.includes(one.name)) expect.fail(one.name);
          if (words.some((word) => typeof word !== 'string' || /[\n\r\0]/.test(word))) expect.fail(text);
        }
      }),
      { numRuns: 10_000 },
    );
  }, 60_000);
});

/** What is asked about the comments themselves; everything else stays as it is while nobody has any effect. */
const fresh = new Set(['getComment', 'listComments', 'ensureReply', 'react']);

/** A bot that asks forge and git once for what cannot change here, so that two thousand comments take seconds. */
function remembering(context: BotContext): BotContext {
  const remember = <T extends object>(port: T): T => {
    const known = new Map<string, unknown>();
    return new Proxy(port, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== 'function' || fresh.has(String(name))) return value;
        return (...args: unknown[]) => {
          const key = JSON.stringify([String(name), args]);
          if (!known.has(key)) known.set(key, Reflect.apply(value, target, args));
          return known.get(key);
        };
      },
    });
  };
  return { ...context, forge: remember(context.forge), mirror: remember(context.mirror) };
}

describe('a thousand comments on a change', () => {
  let folder: string;
  let database: Database;
  let world: BotWorld;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cdl-bot-fuzz-'));
    database = await openDatabase({ url: null, folder });
    world = await createBotWorld(database);
  });
  afterAll(async () => {
    await world?.close();
    await database?.close();
    await rm(folder, { recursive: true, force: true, maxRetries: 10 });
  });

  it('of people who may nothing, or hidden in code and quotes, do nothing, and none is answered twice', {
    // Far more time than it takes, on machines that do other things.
    timeout: 300_000,
  }, async () => {
    const story = tell(world);
    const change = await story.propose('good\n');
    const approve = await story.approveLine(change);
    // A reporter, who may talk, and somebody who is no member at all.
    world.project.members.set(world.people.eve.id, 20);
    world.project.members.delete(world.people.walt.id);
    const context = remembering(world.context);
    const mr = world.project.mergeRequests.get(change)!;
    const stateOf = async () => ({
      head: mr.sha,
      state: mr.state,
      changes: world.project.mergeRequests.size,
      issues: world.project.issues.size,
      pipelines: world.project.pipelines.size,
      approvals: await world.context.state.approvals(change),
      rejections: await world.context.state.rejections(change),
      paused: await world.context.state.cursor(`paused/${change}`),
      decisions: await story.decisions(),
    });
    const before = await stateOf();
    const body = bodyOf(4);
    const strangers = fc.constantFrom('eve' as const, 'walt' as const);
    const talk = fc.oneof(
      { weight: 60, arbitrary: fc.tuple(strangers, body) },
      { weight: 1, arbitrary: fc.tuple(strangers, huge) },
      {
        weight: 6,
        arbitrary: fc.tuple(
          strangers,
          body.map((text) => `${approve}\n${text}`),
        ),
      },
      // A validator's word, but not as her own: all of these only show what somebody could say.
      {
        weight: 33,
        arbitrary: fc.tuple(
          fc.constant<'vera'>('vera'),
          fc
            .constantFrom(
              (text: string) => `\`\`\`\n${text.replaceAll('```', '')}\n\`\`\``,
              (text: string) => `~~~~~\n${text.replaceAll('~~~~~', '')}\n~~~~~`,
              (text: string) => text.replace(/^/gm, '> ').replaceAll('\r', ' '),
              (text: string) => text.replace(/^/gm, '> > > ').replaceAll('\r', ' '),
              (text: string) => `<!--\n${text.replaceAll('-->', '')}`,
              (text: string) => text.replace(/^/gm, '    ').replaceAll('\r', ' '),
              (text: string) => text.replace(/[/\uff0f]/g, 'word /'),
            )
            .chain((hide) => body.map((text) => hide(`${approve}\n${text}`))),
        ),
      },
    );
    const kept = mr.notes.length;
    let answered = 0;
    const check = async ([who, text]: ['eve' | 'walt' | 'vera', string]) => {
      if (text.trim() === '') return;
      const id = await world.say(who === 'vera' ? 'vera' : 'eve', change, text);
      // Strangers may write where a project is public, which this forge's are not.
      mr.notes.at(-1)!.authorId = world.people[who].id;
      for (let i = 0; i < 2; i++) await handleComment(context, change, id, false);
      const said = mr.notes.slice(kept).filter((one) => one.authorId === world.people.bot.id);
      if (said.length > 1) expect.fail(`${said.length} answers`);
      for (const one of said) expectHarmless(one.body, [world.sandbox.url]);
      if (who === 'vera') expect(said).toEqual([]);
      answered += said.length;
      // What was said is not part of what comes next.
      mr.notes.length = kept;
    };
    await fc.assert(fc.asyncProperty(talk, check), { numRuns: 1000, endOnFailure: true });
    expect(answered).toBeGreaterThan(10);
    expect(await stateOf()).toEqual(before);
    await world.sandbox.settled();
    expect(world.sandbox.violations).toEqual([]);
    expect(world.sandbox.problems).toEqual([]);
    // She says it herself, and it counts.
    expect(await story.answer('vera', change, approve)).toContain('Approved fashion');
  });
});
