import { afterEach, describe, expect, it } from 'vitest';
import { handleComment } from '../../bot/handle.ts';
import { readChange } from '../../bot/read.ts';
import { keepRegistered, readRegistered } from '../../bot/registered.ts';
import type { BotContext } from '../../bot/types.ts';
import { digestJson, parseProject } from '../../src/index.ts';
import { useDatabase } from './database.ts';
import { tell } from './story.ts';
import { type BotWorld, createBotWorld, projectYaml } from './world.ts';

let world: BotWorld;
let story: ReturnType<typeof tell>;
const database = useDatabase();
afterEach(async () => {
  const { violations, problems } = world.sandbox;
  await world.close();
  expect(violations).toEqual([]);
  expect(problems).toEqual([]);
});

async function begin(yaml?: string): Promise<void> {
  world = await createBotWorld(database(), yaml);
  story = tell(world);
}

/** A bot that looks at its clock an hour from now. */
const anHourLater = (): BotContext => ({
  ...world.context,
  now: () => new Date(Date.now() + 3_600_000),
});

/** Hears a comment with such a bot; gives its answer. */
async function hearLate(change: number, id: string, context = anHourLater()): Promise<string> {
  await handleComment(context, change, id, false);
  await world.sandbox.settled();
  return world.comments(change).at(-1)!;
}

const headOf = async (change: number) => (await world.context.forge.getChange(change))!.head;
const hyperYaml = projectYaml().replace(
  '    code: [model.ts]',
  '    code: [model.ts]\n    hyperparameters: { epochs: 3 }\n    tune: { space: { width: { int: [4, 64] } } }',
);
const hyperOf = async (change: number) =>
  parseProject((await world.context.mirror.readFile(await headOf(change), 'cdl.yaml'))!).models.fashion!;

describe('a command that was heard late', () => {
  it('does not pause what was resumed since, and the other way round', async () => {
    await begin();
    const change = await story.propose('good\n');
    const [first, second, third] = [
      await world.say('eve', change, '/pause'),
      await world.say('ada', change, '/resume'),
      await world.say('eve', change, '/pause'),
    ];
    await story.hear(change, second);
    expect(await hearLate(change, first)).toContain('I heard this late');
    expect((await story.factsOf(change)).paused).toBeNull();
    await story.hear(change, third);
    expect((await story.factsOf(change)).paused).toBe('eve');
    const answers = world.comments(change).length;
    for (const id of [first, second, third]) await hearLate(change, id);
    expect((await story.factsOf(change)).paused).toBe('eve');
    expect(world.comments(change)).toHaveLength(answers);
  });

  it('does not propose a version in the place of one that was proposed since', async () => {
    await begin();
    const { state } = world.context;
    const digest = digestJson('any');
    const claim = (version: number) => ({
      v: 1 as const,
      candidate: {
        model: 'fashion',
        code: digest,
        config: digest,
        dataset: digest,
        transform: null,
        checkpoint: digest,
        package: digest,
      },
      version,
      run: digest,
    });
    const propose = (version: number, at: string) =>
      keepRegistered(state, 7, 'fashion', claim(version), { by: { id: '3' }, at });
    expect(await propose(8, '2026-03-01T12:05:00Z')).toBe(true);
    expect(await propose(7, '2026-03-01T12:00:00.000Z')).toBe(false);
    expect(await readRegistered(state, 7, 'fashion')).toEqual(claim(8));
    expect(await propose(9, '2026-03-01T12:05:00.000Z')).toBe(true);
    expect(await readRegistered(state, 7, 'fashion')).toEqual(claim(9));
  });

  it('sends back what was proposed when it was written, and nothing that came after', async () => {
    await begin();
    const change = await story.propose('good\n');
    const about = await world.say('vera', change, '/reject train "more epochs"');
    await world.push('ada', 'exp/a', { 'model.ts': 'more_epochs\n' });
    await story.settle(change);
    expect(await hearLate(change, about)).toContain('were others already');
    expect((await story.factsOf(change)).rejection).toBeNull();
    // What alters nothing of the model leaves it as it was.
    const again = await world.say('vera', change, '/reject train "still too few"');
    await world.push('ada', 'exp/a', { 'notes.md': 'a word\n' });
    await story.settle(change);
    expect(await hearLate(change, again)).toContain('Sent back to **train**');
    expect((await story.factsOf(change)).rejection?.reason).toBe('still too few');
  });

  it('sends one of two models back, and leaves the other one where it is', async () => {
    const second =
      '  shoes:\n    data: clothes\n    code: [shoes.ts]\n    entry: shoes.ts\n    gates: [{ metric: accuracy, min: 0.8 }]\n';
    await begin(projectYaml().replace('roles:', `${second}roles:`));
    const change = await story.propose('good\n', 'exp/a', { 'shoes.ts': 'laces\n' });
    const sentBack = async () => {
      const read = await readChange(world.context, change, false);
      if (read.kind !== 'read') throw new Error(`change is ${read.kind}`);
      return read.models.filter((one) => one.rejection).map((one) => one.model);
    };
    const vera = (body: string) => story.answer('vera', change, body);
    expect(await vera('/reject train "more epochs" --model fashion')).toContain('Sent **fashion** back');
    expect(await sentBack()).toEqual(['fashion']);
    expect(await vera('/reject train "here, too" --model shoes')).toContain('Sent **shoes** back');
    expect(await sentBack()).toEqual(['fashion', 'shoes']);
    // To approve one of them takes back nothing that was said against the other one.
    expect(await vera(await story.approveLine(change))).toContain('Approved fashion');
    expect(await sentBack()).toEqual(['shoes']);
    expect(await vera('/reject train "not yet" --model fashion')).toContain('Sent **fashion** back');
    // Each has a word of their own, and the newest of anybody is not that of another.
    expect(await story.answer('walt', change, '/reject train "I agree" --model shoes')).toContain('Sent');
    expect(await vera('/reject train "still" --model fashion')).toContain('Sent **fashion** back');
    expect(await story.answer('walt', change, await story.approveLine(change))).toContain('Approved');
    const words = await world.context.state.rejections(change);
    expect(words.map((one) => [one.username, one.about.length])).toEqual([
      ['walt', 1],
      ['vera', 2],
    ]);
    expect(await sentBack()).toEqual(['fashion', 'shoes']);
    await world.push('ada', 'exp/a', { 'shoes.ts': 'more laces\n' });
    expect(await sentBack()).toEqual(['fashion']);
    await world.push('ada', 'exp/a', { 'model.ts': 'more_epochs\n' });
    expect(await sentBack()).toEqual([]);
  });

  it('changes nothing of a branch that became another one, and holds for a while where several follow each other', async () => {
    await begin(hyperYaml);
    world.searches = true;
    const change = await story.propose('good\n');
    const [five, tune] = [
      await world.say('eve', change, '/train epochs=5'),
      await world.say('eve', change, '/tune'),
    ];
    await story.hear(change, five);
    await story.hear(change, tune);
    expect(await hyperOf(change)).toMatchObject({ hyperparameters: { epochs: 5 }, tune: { seed: 2 } });
    const six = await world.say('eve', change, '/train epochs=6');
    await world.push('ada', 'exp/a', { 'model.ts': 'rewritten\n' });
    const head = await headOf(change);
    expect(await hearLate(change, six)).toContain(head.slice(0, 12));
    expect(await headOf(change)).toBe(head);
    // Both commands of one comment are about what its author saw.
    const both = await world.say('eve', change, '/train epochs=7\n/tune');
    expect(await hearLate(change, both)).toContain('Committed seed 3');
    expect(await hyperOf(change)).toMatchObject({ hyperparameters: { epochs: 7 }, tune: { seed: 3 } });
  });

  it('searches anew once where a comment asks for it twice, and says of the second time that nothing was committed', async () => {
    await begin(hyperYaml);
    world.searches = true;
    const change = await story.propose('good\n');
    const said = await story.answer('eve', change, '/tune\n/tune');
    expect(said).toContain('Committed seed 2');
    expect(said).toContain('Seed 2 of the search is in `cdl.yaml` of this branch already');
    expect(said.match(/Committed/g)).toHaveLength(1);
    expect(await hyperOf(change)).toMatchObject({ tune: { seed: 2 } });
  });
});

describe('a change whose candidate was sent back', () => {
  it('is free again when its data made another one, also where code and configuration are as they were', async () => {
    await begin();
    const change = await story.propose('good\n');
    await story.say('vera', change, '/reject label "laces are no shoes"');
    await story.settle(change);
    expect(story.status(change)).toBe('failed: sent back to label: laces are no shoes');
    await world.push('ada', 'exp/a', { 'notes.md': 'a word\n' });
    await story.settle(change);
    expect(story.status(change)).toBe('failed: sent back to label: laces are no shoes');
    world.data = { ...world.data, perClass: [900, 1100] };
    await world.push('ada', 'exp/a', { 'notes.md': 'they were labelled again\n' });
    await story.settle(change);
    expect(story.status(change)).toContain('waiting for approval');
  });

  it('stays so where its next commit alters nothing of it, also while the pipeline of that runs', async () => {
    await begin();
    const change = await story.propose('good\n');
    await story.say('vera', change, '/reject train "more epochs"');
    world.outcome = 'running';
    await world.push('ada', 'exp/a', { 'notes.md': 'a word\n' });
    await story.settle(change);
    expect(story.status(change)).toBe('failed: sent back to train: more epochs');
    world.outcome = 'success';
    await world.push('ada', 'exp/a', { 'notes.md': 'another word\n' });
    await story.settle(change);
    expect(story.status(change)).toBe('failed: sent back to train: more epochs');
  });

  it('is not held by what was said before there was one, once that was said anew or approved', async () => {
    await begin();
    world.outcome = 'running';
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    const change = await world.openChange('exp/a');
    await story.say('vera', change, '/reject train "not this loss"');
    await story.say('walt', change, '/reject train "nor that"');
    world.outcome = 'success';
    await world.push('ada', 'exp/a', { 'notes.md': 'a word\n' });
    await story.settle(change);
    await story.say('vera', change, '/reject label "laces are no shoes"');
    await story.say('walt', change, await story.approveLine(change));
    world.data = { ...world.data, perClass: [900, 1100] };
    await world.push('ada', 'exp/a', { 'notes.md': 'they were labelled again\n' });
    await story.settle(change);
    expect(story.status(change)).toContain('waiting for approval');
  });
});

describe('a change that was sent back before it had a candidate', () => {
  it('is free again when what cleans or checks its data changes', async () => {
    const functions = `    clean: [{ run: { module: clean.ts, code: [clean.ts, lib/*.ts] } }]
    rules: { check: { module: check.ts, code: [check.ts] } }
`;
    const raw = projectYaml()
      .replace('    shape: [2, 2]\n', '    item: text\n')
      .replace('[images.idx, labels.idx]', '[texts.zip]')
      .replace(/sha256: .*/, `sha256: ${'a'.repeat(64)}`)
      .replace(/read: .*/, 'read: { format: text-folder }')
      .replace('    split: ', `${functions}    split: `);
    await begin(raw);
    world.outcome = 'running';
    await world.push('ada', 'exp/a', { 'clean.ts': 'one\n', 'check.ts': 'one\n' });
    const change = await world.openChange('exp/a');
    for (const file of ['clean.ts', 'check.ts']) {
      await story.say('vera', change, '/reject clean "the noise is still there"');
      await world.push('ada', 'exp/a', { 'notes.md': `about ${file}\n` });
      expect((await story.factsOf(change)).rejection?.step).toBe('clean');
      await world.push('ada', 'exp/a', { [file]: 'two\n' });
      expect((await story.factsOf(change)).rejection).toBeNull();
    }
  });

  it('stays so when only words change, and is free again when its content does', async () => {
    await begin();
    world.outcome = 'running';
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    const change = await world.openChange('exp/a');
    await story.say('vera', change, '/reject train "not this loss"');
    world.outcome = 'success';
    await world.push('ada', 'exp/a', { 'notes.md': 'a word\n' });
    await story.settle(change);
    expect(story.status(change)).toBe('failed: sent back to train: not this loss');
    await world.push('ada', 'exp/a', { 'model.ts': 'other_loss\n' });
    await story.settle(change);
    expect(story.status(change)).toContain('waiting for approval');
  });

  it('is free again when it names other data', async () => {
    await begin();
    world.outcome = 'failed';
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    const change = await world.openChange('exp/a');
    await story.say('vera', change, '/request-data "more shoes"');
    await story.settle(change);
    expect(story.status(change)).toBe('failed: sent back to data: more shoes');
    world.outcome = 'success';
    const more = projectYaml().replace('a'.repeat(64), 'c'.repeat(64));
    await world.push('ada', 'exp/a', { 'cdl.yaml': more });
    await story.settle(change);
    expect(story.status(change)).toContain('waiting for approval');
  });
});

describe('a bot that was killed between a commit and its answer', () => {
  it('searches with the next seed once', async () => {
    await begin(hyperYaml);
    // What its pipelines make was searched for.
    world.claim = (honest) => ({ ...honest, tuned: { width: 8 } });
    const change = await story.propose('good\n');
    const id = await world.say('eve', change, '/tune');
    const { state } = world.context;
    const dying: BotContext = {
      ...world.context,
      state: {
        ...state,
        async setCursor(name, value) {
          if (name === `said/${id}`) throw new Error('killed');
          return state.setCursor(name, value);
        },
      },
    };
    await expect(handleComment(dying, change, id, false)).rejects.toThrow('killed');
    await world.sandbox.settled();
    const head = await headOf(change);
    expect((await hyperOf(change)).tune!.seed).toBe(2);
    await story.hear(change, id);
    expect(world.comments(change).at(-1)).toContain(
      'Seed 2 of the search is in `cdl.yaml` of this branch already',
    );
    expect(await headOf(change)).toBe(head);
  });
});
