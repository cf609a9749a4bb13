import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { convergeChange } from '../../bot/converge.ts';
import { createEffects } from '../../bot/effects.ts';
import { handleComment } from '../../bot/handle.ts';
import { reconcile } from '../../bot/reconcile.ts';
import { createRoles } from '../../bot/roles.ts';
import type { BotContext } from '../../bot/types.ts';
import { type Database, openDatabase, openForge, openMirror, shortDigest } from '../../src/index.ts';
import { tell } from './story.ts';
import { type BotWorld, createBotWorld, projectYaml } from './world.ts';

let folder: string;
let database: Database;
let world: BotWorld;
let story: ReturnType<typeof tell>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-bot-trust-'));
  database = await openDatabase({ url: null, folder });
});
afterAll(async () => {
  await database?.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
});
afterEach(async () => {
  const { violations, problems } = world.sandbox;
  await world.close();
  expect(violations).toEqual([]);
  expect(problems).toEqual([]);
});

async function begin(yaml = projectYaml()): Promise<void> {
  world = await createBotWorld(database, yaml);
  story = tell(world);
}

const note = (change: number, id: string) =>
  world.project.mergeRequests.get(change)!.notes.find((one) => String(one.id) === id)!;
const replies = (change: number) => world.comments(change).filter((body) => body.includes('<!-- cdl:reply:'));

/** A maintainer of the project changes what somebody else wrote a while ago. */
async function forge(change: number, id: string, body: string): Promise<void> {
  note(change, id).createdAt = new Date(Date.now() - 5000).toISOString();
  const url = `${world.sandbox.url}/api/v4/projects/${world.project.id}/merge_requests/${change}/notes/${id}`;
  const headers = { 'private-token': world.people.evaluator.token, 'content-type': 'application/json' };
  const done = await fetch(url, { method: 'PUT', headers, body: JSON.stringify({ body }) });
  expect(done.status).toBe(200);
  await world.sandbox.settled();
}

/** Everything that may bring a comment to the bot once more. */
async function comeAgain(change: number, id: string): Promise<void> {
  await story.hear(change, id);
  world.tasks.length = 0;
  await reconcile(world.context);
  for (const task of [...world.tasks]) {
    if (task.kind === 'comment') await handleComment(world.context, task.change, task.comment, false);
  }
}

describe('a comment that is edited', () => {
  it('changes nothing after it was heard, whatever it becomes', async () => {
    await begin();
    const change = await story.propose('good\n');
    const line = await story.approveLine(change);
    const approval = await story.say('vera', change, line);
    await story.settle(change);
    const said = world.comments(change);
    await world.api('vera', 'PUT', `merge_requests/${change}/notes/${approval}`, {
      body: '/reject train "no"',
    });
    await comeAgain(change, approval);
    await story.settle(change);
    expect(story.status(change)).toBe('success: approved');
    expect(world.comments(change)).toEqual(said);
    expect((await story.decisions()).map((one) => one.decision)).toEqual(['approved']);
  });

  it('is no approval when it was something else before, whoever made it one, heard before that or not', async () => {
    await begin();
    const change = await story.propose('good\n');
    const line = await story.approveLine(change);
    const heard = await story.say('vera', change, 'nice pictures');
    await world.api('vera', 'PUT', `merge_requests/${change}/notes/${heard}`, { body: line });
    await comeAgain(change, heard);
    expect(replies(change)).toEqual([]);
    // Others may edit it too: what the bot finds there is perhaps not hers.
    const unheard = await world.say('vera', change, 'nice pictures');
    await forge(change, unheard, line);
    for (let i = 0; i < 2; i++) await comeAgain(change, unheard);
    await story.settle(change);
    expect(story.status(change)).toContain('waiting for approval (0 of 1');
    expect(await story.decisions()).toEqual([]);
    expect(replies(change)).toHaveLength(1);
    expect(replies(change)[0]).toContain('write it again as a new one');
    expect(story.emoji(change, unheard)).toEqual(['confused']);
    // Written anew it counts.
    expect(await story.answer('vera', change, line)).toContain('Approved fashion');
  });
});

describe('what is unknown or forbidden', () => {
  it('is answered politely, once, and seen by a reaction of its own after that', async () => {
    await begin();
    const change = await story.propose('good\n');
    const line = await story.approveLine(change);
    const wrong: [who: 'eve' | 'ada', body: string, emoji: string, said: string][] = [
      ['eve', '/cdl unknown', 'confused', 'I do not know `/unknown`'],
      ['eve', '/aprove 3f9a2c', 'confused', 'Did you mean `/approve`'],
      ['eve', line, 'no_entry', 'does not have the role'],
      ['ada', line, 'no_entry', 'You are an author of this change'],
      ['ada', '/cdl unknown', 'confused', 'I do not know `/unknown`'],
    ];
    let answers = 0;
    for (const [who, body, emoji, said] of wrong) {
      const first = await story.say(who, change, body);
      expect(replies(change), body).toHaveLength(++answers);
      expect(replies(change).at(-1), body).toContain(said);
      expect(story.emoji(change, first), body).toEqual([emoji]);
      await world.api(who, 'PUT', `merge_requests/${change}/notes/${first}`, { body: `${body} ` });
      await comeAgain(change, first);
      const again = await story.say(who, change, body);
      expect(story.emoji(change, again), body).toEqual([emoji]);
      expect(replies(change), body).toHaveLength(answers);
    }
    // A path or a command of the forge is nobody's business.
    for (const body of ['/unknown', '/etc/passwd', '/label ~bug', 'just talk']) {
      const id = await story.say('eve', change, body);
      expect(story.emoji(change, id), body).toEqual([]);
    }
    expect(replies(change)).toHaveLength(answers);
    // What is understood has other reactions.
    const asked = await story.say('eve', change, '/help');
    const approved = await story.say('vera', change, line);
    expect([asked, approved].map((id) => story.emoji(change, id))).toEqual([['eyes'], ['thumbsup']]);
  });
});

const lax = projectYaml()
  .replace('validator: [vera, walt, ada]', 'validator: [ada, eve]')
  .replace('min: 0.85', 'min: 0.1')
  .replace('test: 0.2', 'test: 0.01')
  .concat('approvals: {required: 1, self_approval: true}\n');

describe('a change that brings its own rules', () => {
  it('is judged by those of the default branch and says so', async () => {
    await begin();
    world.quality.set('bad\n', 60);
    const change = await story.propose('bad\n', 'exp/a', { 'cdl.yaml': lax });
    const [report] = world.comments(change);
    expect(report).toContain(
      'alters roles or approval rules, gates, the data set. It is judged by those of main',
    );
    expect(story.status(change)).toMatch(/^failed: /);
    for (const who of ['ada', 'eve'] as const) {
      const facts = await story.factsOf(change);
      const digest = shortDigest(facts.review ?? (`sha256:${'0'.repeat(64)}` as const));
      const said = await story.answer(who, change, `/approve ${digest} --override "mine"`);
      expect(said).not.toContain('Approved fashion');
    }
    await story.settle(change);
    expect(await story.decisions()).toEqual([]);
    // Whatever was asked, was asked of the default branch's evaluator.
    const asked = [...world.project.pipelines.values()].filter((one) => one.source === 'api');
    const tip = await world.context.mirror.head('main');
    for (const one of asked) expect([one.ref, one.sha]).toEqual(['main', tip]);
  });

  it('with roles and gates alone is evaluated by the old gates, and its author approves nothing', async () => {
    await begin();
    world.quality.set('bad\n', 60);
    const yaml = lax.replace('test: 0.01', 'test: 0.2');
    const change = await story.propose('bad\n', 'exp/a', { 'cdl.yaml': yaml });
    const [report] = world.comments(change);
    expect(report).toContain('alters roles or approval rules, gates. It is judged by those of main');
    expect(story.status(change)).toContain('failed: gate failed: accuracy ≥ 85 %');
    const line = await story.approveLine(change);
    expect(await story.answer('ada', change, `${line} --override "mine"`)).toContain('You are an author');
    expect(await story.answer('eve', change, `${line} --override "mine"`)).toContain(
      'does not have the role',
    );
    await story.settle(change);
    expect(await story.decisions()).toEqual([]);
    expect(await story.answer('vera', change, `${line} --override "known"`)).toContain('Approved fashion');
  });

  it('warns above the numbers that its canary is let through', async () => {
    await begin();
    const yaml = projectYaml().replace(
      '    code: [model.ts]',
      '    code: [model.ts]\n    environments: { production: { max_error_rate: 1, traffic: [100] } }',
    );
    const change = await story.propose('good\n', 'exp/a', { 'cdl.yaml': yaml });
    const report = world.comments(change)[0]!;
    const warned = 'to production: max_error_rate: 1 (was 0.01); traffic: [100] (was [20,100])';
    expect(report.replaceAll('\\', '')).toContain(warned);
    expect(report.indexOf('alters how it is rolled out')).toBeLessThan(report.indexOf('Evaluation'));
  });

  it('from a fork starts nothing, records nothing and is approved by nobody', async () => {
    await begin();
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n', 'cdl.yaml': lax });
    const change = await world.openChange('exp/a');
    world.project.mergeRequests.get(change)!.sourceProjectId = world.project.id + 1000;
    await story.settle(change);
    expect(world.comments(change)).toHaveLength(1);
    expect(world.comments(change)[0]).toContain('The branch is in a fork');
    for (const who of ['ada', 'vera'] as const) {
      for (const line of ['/approve 3f9a2c41b7d6', '/train epochs=1', '/evaluate', 'cdl /lock refresh']) {
        await story.say(who, change, line);
      }
    }
    await story.settle(change);
    expect(await story.decisions()).toEqual([]);
    expect([...world.project.pipelines.values()].filter((one) => one.source === 'api')).toEqual([]);
    expect((await world.context.forge.commitAuthors(change)).map((one) => one.name)).toEqual(['Ada']);
    for (const body of replies(change)) expect(body).not.toMatch(/Approved|Committed|Merged/);
  });
});

describe('somebody who approved and then lost the right to', () => {
  const losses: [how: string, lose: () => void, regain: () => void][] = [
    [
      'was removed',
      () => void world.project.members.delete(world.people.vera.id),
      () => void world.project.members.set(world.people.vera.id, 30),
    ],
    [
      'was blocked',
      () => void Object.assign(world.sandbox.world.users.get(world.people.vera.id)!, { blocked: true }),
      () => void Object.assign(world.sandbox.world.users.get(world.people.vera.id)!, { blocked: false }),
    ],
    [
      'was demoted',
      () => void world.project.members.set(world.people.vera.id, 20),
      () => void world.project.members.set(world.people.vera.id, 40),
    ],
  ];
  it.each(losses)(
    '(%s) counts no more before the merge, and again when it is given back',
    async (how, lose, regain) => {
      // By access level, so that a demotion is one.
      await begin(
        how === 'was demoted'
          ? projectYaml().replace('[vera, walt, ada]', '["access:maintainer"]')
          : projectYaml(),
      );
      if (how === 'was demoted') world.project.members.set(world.people.vera.id, 40);
      const change = await story.propose('good\n');
      await story.say('vera', change, await story.approveLine(change));
      await story.settle(change);
      expect(story.status(change)).toBe('success: approved');
      lose();
      await story.settle(change);
      expect(story.status(change)).toContain('waiting for approval (0 of 1');
      expect((await story.decisions()).map((one) => one.decision)).toEqual(['approved', 'revoked']);
      expect(world.comments(change)[0]).toContain('vera does not have the role validator any more');
      regain();
      await story.settle(change);
      expect(story.status(change)).toBe('success: approved');
      expect((await story.decisions()).map((one) => one.decision)).toEqual([
        'approved',
        'revoked',
        'approved',
      ]);
    },
  );

  it('has decided what is merged: it is promoted, with who approved it', async () => {
    await begin();
    const change = await story.propose('good\n');
    await story.say('vera', change, await story.approveLine(change));
    await story.settle(change);
    await story.merge(change);
    world.project.members.delete(world.people.vera.id);
    await story.settle(change);
    await story.deploy();
    await story.settle(change);
    const decisions = await story.decisions();
    expect(decisions.map((one) => one.decision)).toEqual(['approved', 'promoted']);
    expect(decisions[1]!.approvers).toEqual([
      { id: String(world.people.vera.id), name: 'vera', role: 'validator' },
    ]);
  });
});

describe('a name', () => {
  const rename = (who: 'vera' | 'walt' | 'eve', username: string, name = username) =>
    Object.assign(world.sandbox.world.users.get(world.people[who].id)!, { username, name });

  it('in the rules means the account that had it, not whoever takes it later', async () => {
    await begin();
    const first = await story.propose('one\n');
    await story.say('vera', first, await story.approveLine(first));
    await story.settle(first);
    rename('vera', 'veronica');
    rename('eve', 'vera');
    const second = await story.propose('second\n', 'exp/b');
    const line = await story.approveLine(second);
    const refused = await story.answer('eve', second, line);
    expect(refused).toContain('`vera` does not have the role **validator**');
    expect(refused).toContain('belonged to another account');
    expect(await story.answer('vera', second, line)).toContain('Approved fashion');
    await story.settle(first);
    expect(story.status(first)).toBe('success: approved');
  });

  it('is remembered also when two bots ask about different ones at the same moment', async () => {
    await begin();
    const { context, people } = world;
    const { project } = (await story.factsOf(await story.propose('good\n'))).rules!;
    let isWaiting = () => {};
    const waits = new Promise<void>((resolve) => {
      isWaiting = resolve;
    });
    const other = createRoles({
      ...context,
      state: {
        ...context.state,
        alone: (name, work) => {
          isWaiting();
          return context.state.alone(name, work);
        },
      },
    });
    let second: Promise<unknown> | null = null;
    // The other one comes by between this one's look and its note.
    const one = createRoles({
      ...context,
      state: {
        ...context.state,
        async setCursor(name, value) {
          second ??= other.roleOf(project, ['validator'], String(people.walt.id));
          await Promise.race([second, waits]);
          return context.state.setCursor(name, value);
        },
      },
    });
    expect((await one.roleOf(project, ['validator'], String(people.vera.id)))?.role).toBe('validator');
    await second;
    rename('vera', 'veronica');
    rename('walt', 'walter');
    const roles = createRoles(context);
    for (const { id } of [people.vera, people.walt]) {
      expect((await roles.roleOf(project, ['validator'], String(id)))?.role).toBe('validator');
    }
  });

  it('means somebody else once the rules have left it out and named it again', async () => {
    await begin();
    const change = await story.propose('good\n');
    expect(await story.answer('vera', change, await story.approveLine(change))).toContain('Approved');
    rename('vera', 'veronica');
    rename('eve', 'vera');
    const edit = async (text: string) => {
      await world.api('ada', 'POST', 'repository/commits', {
        branch: 'main',
        commit_message: 'roles',
        actions: [{ action: 'update', file_path: 'cdl.yaml', content: text }],
      });
      await world.sandbox.settled();
      await story.settle(change);
    };
    world.project.members.set(world.people.ada.id, 40);
    await edit(projectYaml().replace('[vera, walt, ada]', '[walt, ada]'));
    await edit(projectYaml());
    expect(await story.answer('eve', change, await story.approveLine(change))).toContain('Approved fashion');
    await story.settle(change);
    expect(world.comments(change)[0]).toContain('The approval of vera does not count');
  });

  it('that only looks like that of a validator, or of the bot, is another one', async () => {
    await begin();
    const change = await story.propose('good\n');
    const line = await story.approveLine(change);
    // Cyrillic е, full-width and capital letters, a joiner that draws nothing, a name that is shown for another.
    for (const [username, name] of [
      ['v\u0435ra', 'Vera'],
      ['\uff56era', 'vera'],
      ['Vera', 'vera'],
      ['cdl-bot2', 'CDL'],
      ['\u0441dl-bot', 'CDL'],
    ] as const) {
      rename('eve', username, name);
      const id = await story.say('eve', change, line);
      expect(story.emoji(change, id), username).toEqual(['no_entry']);
    }
    await story.settle(change);
    expect(await story.decisions()).toEqual([]);
    // What it writes is nobody's report, however it looks.
    const [report] = world.comments(change);
    const copy = await world.say('eve', change, report!.replace('Every gate passed', 'Approved'));
    await story.settle(change);
    expect(world.comments(change)[0]).toBe(report);
    expect(note(change, copy).body).toContain('Approved');
  });
});

describe('two validators at the same second, heard by two bots', () => {
  it('are both recorded, once each, in one chain with the right count', async () => {
    await begin(projectYaml('approvals: {required: 2}\n'));
    const other = await openForge({
      kind: 'gitlab',
      url: world.sandbox.url,
      project: world.context.forge.project,
      token: world.people.bot.token,
      evaluationToken: world.people.evaluator.token,
    });
    const mirror = await openMirror({
      folder: join(world.folder, 'second-mirror'),
      access: other.git(),
      path: process.env.PATH ?? '',
    });
    const base = { ...world.context, forge: other, mirror };
    const second: BotContext = { ...base, effects: createEffects(base, async () => undefined) };
    const bots = [world.context, second];
    for (let round = 0; round < 3; round++) {
      const change = await story.propose(`${'abc'[round]}\n`, `exp/${round}`);
      const line = await story.approveLine(change);
      const ids = await Promise.all(
        (['vera', 'walt', 'ada', 'eve'] as const).map((who) => world.say(who, change, line)),
      );
      await Promise.all(
        ids.flatMap((id, index) => [
          handleComment(bots[index % 2]!, change, id, false),
          ...(round === 2 ? [handleComment(bots[(index + 1) % 2]!, change, id, false)] : []),
        ]),
      );
      await Promise.all(bots.map((bot) => convergeChange(bot, change, false)));
      await story.settle(change);
      expect(story.status(change)).toBe('success: approved');
      const mine = (await story.decisions()).filter((one) => one.change === `!${change}`);
      expect(mine.map((one) => one.decision)).toEqual(['approved']);
      expect(mine[0]!.approvers.map((one) => one.name).sort()).toEqual(['vera', 'walt']);
      expect(replies(change)).toHaveLength(4);
    }
    // Reading verifies signatures, numbers and that each names the one before it.
    expect((await story.decisions()).map((one) => one.seq)).toEqual([1, 2, 3]);
  });
});

describe('who made a change', () => {
  const withEve = (more = '') => projectYaml(more).replace('[vera, walt, ada]', '[vera, eve]');

  /** A change of Ada's that proposes version 1, made elsewhere, because Eve said so. */
  async function registered(): Promise<number> {
    await world.push('ada', 'exp/elsewhere', { 'model.ts': 'better\n' });
    await world.openChange('exp/elsewhere');
    world.outcome = 'failed';
    await world.push('ada', 'exp/a', { 'model.ts': 'better\n', 'notes.md': 'same code\n' });
    const change = await world.openChange('exp/a');
    await story.settle(change);
    expect(await story.answer('eve', change, '/register 1')).toContain('it is proposed');
    await story.settle(change);
    return change;
  }

  it('is also whoever proposed its version by /register, also when another one says the same later', async () => {
    await begin(withEve());
    const change = await registered();
    const line = await story.approveLine(change);
    expect(await story.answer('eve', change, line)).toContain('You proposed a version on this change');
    expect(await story.answer('walt', change, '/register 1')).toContain('it is proposed');
    await story.settle(change);
    const again = await story.say('eve', change, line);
    expect(story.emoji(change, again)).toEqual(['no_entry']);
    await story.settle(change);
    expect(story.status(change)).toContain('waiting for approval (0 of 1');
    expect(await story.answer('vera', change, line)).toContain('Approved fashion');
  });

  it('may be whoever proposed its version where who started a training may approve', async () => {
    await begin(withEve('approvals: { self_approval: { trigger: true } }\n'));
    const change = await registered();
    expect(await story.answer('eve', change, await story.approveLine(change))).toContain('Approved fashion');
  });

  it('is also whoever committed what they say another one wrote', async () => {
    await begin(withEve());
    await world.push('eve', 'exp/a', { 'model.ts': 'good\n' }, 'Ada <ada@example.com>');
    const change = await world.openChange('exp/a');
    await story.settle(change);
    const line = await story.approveLine(change);
    expect(await story.answer('eve', change, line)).toContain('you wrote a commit of it');
    expect(await story.answer('vera', change, line)).toContain('Approved fashion');
    await story.settle(change);
    expect(story.status(change)).toBe('success: approved');
  });

  it('is also whoever started a pipeline of it that dozens followed', async () => {
    await begin();
    const change = await story.propose('good\n');
    const [first] = [...world.project.pipelines.values()].filter((one) => one.mergeRequestIid === change);
    const { ada, vera } = world.people;
    for (let i = 0; i < 45; i++) {
      const id = world.sandbox.world.nextId('pipeline');
      world.project.pipelines.set(id, { ...first!, id, iid: id, userId: ada.id });
    }
    first!.userId = vera.id;
    await world.push('ada', 'exp/a', { 'model.ts': 'better\n' });
    await story.settle(change);
    const line = await story.approveLine(change);
    expect(await story.answer('vera', change, line)).toContain('You started a pipeline of this change');
    expect(await story.answer('walt', change, line)).toContain('Approved fashion');
  });
});
