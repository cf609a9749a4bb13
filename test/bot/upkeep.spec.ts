import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { convergeChange } from '../../bot/converge.ts';
import { type Database, openDatabase } from '../../src/index.ts';
import { type BotWorld, createBotWorld, projectYaml } from './world.ts';

let folder: string;
let database: Database;
let world: BotWorld;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-bot-database-'));
  database = await openDatabase({ url: process.env.CDL_TEST_DATABASE ?? null, folder });
});
afterAll(async () => {
  await database?.close();
  await rm(folder, { recursive: true, force: true });
});
afterEach(async () => {
  const { violations, problems } = world.sandbox;
  await world.close();
  expect(violations).toEqual([]);
  expect(problems).toEqual([]);
});

const converge = (change: number) => convergeChange(world.context, change, false);

describe('a mistake in cdl.yaml', () => {
  it('is told at its line, once for each, and resolved when it is mended', async () => {
    world = await createBotWorld(database);
    const broken = projectYaml().replace('    gates:', '    gatez:').replace('owner: olga', 'owner: 3');
    await world.push('ada', 'exp/a', { 'cdl.yaml': broken });
    const change = await world.openChange('exp/a');
    for (let i = 0; i < 2; i++) await converge(change);
    const threads = () =>
      world.project.mergeRequests
        .get(change)!
        .notes.flatMap(({ position, resolved, body }) =>
          position ? [{ line: position.new_line, resolved, body }] : [],
        );
    const lineOf = (text: string) => broken.split('\n').findIndex((line) => line.includes(text)) + 1;
    expect(
      threads()
        .map((one) => one.line)
        .sort(),
    ).toEqual([lineOf('owner: 3'), lineOf('gatez')].sort());
    expect(threads().find((one) => one.line === lineOf('gatez'))!.body).toContain('gates');

    await world.push('ada', 'exp/a', { 'cdl.yaml': broken.replace('owner: 3', 'owner: olga') });
    await converge(change);
    expect(threads().filter((one) => !one.resolved)).toHaveLength(1);
    await world.push('ada', 'exp/a', { 'cdl.yaml': projectYaml('# mended\n') });
    await converge(change);
    expect(threads()).toHaveLength(2);
    expect(threads().every((one) => one.resolved)).toBe(true);
  });
});
