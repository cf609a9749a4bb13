import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { convergeChange } from '../../bot/converge.ts';
import { handleComment } from '../../bot/handle.ts';
import { convergeBranch } from '../../bot/promote.ts';
import { readChange, readDecisions } from '../../bot/read.ts';
import type { Facts } from '../../bot/types.ts';
import {
  type Database,
  type Decision,
  evaluationKey,
  type Live,
  liveKey,
  openDatabase,
  parseLock,
  parseProject,
  shortDigest,
} from '../../src/index.ts';
import { setGroup } from '../../src/sandbox/seed.ts';
import { type BotWorld, createBotWorld, projectYaml } from './world.ts';

let folder: string;
let database: Database;
let world: BotWorld;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-bot-decide-'));
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

type Name = 'ada' | 'vera' | 'walt' | 'eve';

async function factsOf(change: number): Promise<Facts[]> {
  const read = await readChange(world.context, change, false);
  if (read.kind !== 'read') throw new Error(`change is ${read.kind}`);
  return read.models;
}

async function settle(change: number): Promise<string[]> {
  for (let pass = 0; pass < 8; pass++) {
    const before = world.tasks.length;
    const done = await convergeChange(world.context, change, false);
    await world.sandbox.settled();
    if (world.tasks.length === before && done.every((one) => one.standing !== 'evaluating'))
      return done.map((one) => one.standing);
  }
  throw new Error('does not settle');
}

async function answer(who: Name, change: number, body: string): Promise<string> {
  const id = await world.say(who, change, body);
  await handleComment(world.context, change, id, false);
  await world.sandbox.settled();
  return world.comments(change).at(-1)!;
}

async function propose(text: string, branch = 'exp/a'): Promise<number> {
  await world.push('ada', branch, { 'model.ts': text });
  const change = await world.openChange(branch);
  await settle(change);
  return change;
}

const lineOf = async (change: number) => `/approve ${shortDigest((await factsOf(change))[0]!.review!)}`;
const decisionsOf = async (environment = 'production') =>
  (await readDecisions(world.context, 'fashion', 'fashion', environment)).decisions;

async function merge(change: number): Promise<void> {
  const { head } = (await world.context.forge.getChange(change))!;
  const owner = [...world.sandbox.world.users.values()].find((user) => user.username === 'olga')!;
  const url = `${world.sandbox.url}/api/v4/projects/${world.project.id}/merge_requests/${change}/merge`;
  const done = await fetch(url, {
    method: 'PUT',
    headers: {
      'private-token': (owner as typeof owner & { token: string }).token,
      'content-type': 'application/json',
    },
    body: JSON.stringify({ sha: head }),
  });
  expect(done.status).toBe(200);
  await world.sandbox.settled();
}

/** What deploying the newest lock entry of an environment leaves. */
async function deploy(environment = 'production'): Promise<void> {
  const tip = (await world.context.mirror.head('main'))!;
  const entry = parseLock((await world.context.mirror.readFile(tip, 'cdl.lock'))!).models.fashion![
    environment
  ]!;
  const current: Live = {
    candidate: entry.candidate,
    evaluation: entry.evaluation,
    package: entry.package,
    plan: entry.code,
    version: entry.info.version,
    since: new Date().toISOString(),
    commit: tip,
  };
  const key = liveKey('fashion', 'fashion', environment);
  const record = await world.trusted.readRecord(key);
  await world.trusted.writeRecord(
    key,
    { v: 1, current, transition: null, failed: null, endpoint: null },
    record ? { ifMatch: record.etag } : { ifAbsent: true },
  );
  const candidate = (await world.context.trusted.readRecord(`claims/${entry.candidate.slice(7)}.json`))!;
  expect(candidate).not.toBeNull();
  // The evaluation job copies what it measured.
  await world.trusted.copyArtifact(world.work, entry.package);
  await convergeBranch(world.context);
}

/** A change from push to production. */
async function release(text: string, branch: string, yaml?: string): Promise<number> {
  await world.api('ada', 'POST', 'repository/commits', {
    branch,
    start_branch: 'main',
    commit_message: `change ${branch}`,
    actions: [
      { action: 'update', file_path: 'model.ts', content: text },
      ...(yaml ? [{ action: 'update', file_path: 'cdl.yaml', content: yaml }] : []),
    ],
  });
  await world.sandbox.settled();
  const change = await world.openChange(branch);
  await settle(change);
  await answer('vera', change, await lineOf(change));
  await settle(change);
  await merge(change);
  await deploy((await factsOf(change))[0]!.environment);
  return change;
}

describe('who may decide', () => {
  it('is asked again when the bot signs: a member who was demoted counts no more', async () => {
    world = await createBotWorld(database, projectYaml('approvals: {required: 2}\n'));
    const change = await propose('good\n');
    const line = await lineOf(change);
    await answer('vera', change, line);
    world.project.members.delete(world.people.vera.id);
    await answer('walt', change, line);
    await settle(change);
    expect(await decisionsOf()).toEqual([]);
    expect(world.comments(change)[0]).toContain('vera does not have the role validator any more');
    world.project.members.set(world.people.vera.id, 30);
    await settle(change);
    expect((await decisionsOf())[0]!.approvers.map((one) => one.name)).toEqual(['vera', 'walt']);
  });

  it('may be two people at the same moment, who count once each in one decision', async () => {
    world = await createBotWorld(database, projectYaml('approvals: {required: 2}\n'));
    const change = await propose('good\n');
    const line = await lineOf(change);
    const ids = await Promise.all((['vera', 'walt'] as const).map((who) => world.say(who, change, line)));
    await Promise.all([...ids, ...ids].map((id) => handleComment(world.context, change, id, false)));
    await Promise.all([1, 2].map(() => convergeChange(world.context, change, false)));
    await settle(change);
    const decisions = await decisionsOf();
    expect(decisions).toHaveLength(1);
    expect(decisions[0]!.approvers.map((one) => one.name).sort()).toEqual(['vera', 'walt']);
    // What a comment says later is not looked at.
    await world.api('vera', 'PUT', `merge_requests/${change}/notes/${ids[0]}`, {
      body: '/reject train "no"',
    });
    await handleComment(world.context, change, ids[0]!, false);
    await settle(change);
    expect(world.statuses(change)['cdl/fashion']).toBe('success: approved');
  });

  it('may be one person each of two roles: who has both counts for the one that is needed', async () => {
    const rule = 'approvals: {required: [{role: validator, count: 1}, {role: devops, count: 1}]}\n';
    const yaml = projectYaml(rule).replace('[vera, walt, ada]', '[vera, walt, ada]\n  devops: [vera, eve]');
    world = await createBotWorld(database, yaml);
    const change = await propose('good\n');
    const line = await lineOf(change);
    const said = await answer('vera', change, line);
    expect(said).toContain('Still missing: 1 devops (or validator in place of one).');
    // Once more is the same person.
    expect(await answer('vera', change, line)).toContain('Still missing: 1 devops');
    await settle(change);
    expect(await decisionsOf()).toEqual([]);
    expect(world.statuses(change)['cdl/fashion']).toContain('1 of 2 approvals; missing: 1 devops');
    expect(world.comments(change)[0]).toContain('1 devops (or validator in place of one)');
    expect(await answer('walt', change, line)).toContain('(validator). Merge the change to deploy it.');
    await settle(change);
    const [decision] = await decisionsOf();
    expect(decision!.approvers.map(({ name, role }) => `${name} ${role}`).sort()).toEqual([
      'vera devops',
      'walt validator',
    ]);
    expect(world.statuses(change)['cdl/fashion']).toBe('success: approved');
    // One of them goes: the other one's role alone is not enough.
    world.project.members.delete(world.people.walt.id);
    await settle(change);
    expect((await decisionsOf()).map((one) => one.decision)).toEqual(['approved', 'revoked']);
    expect(await answer('eve', change, line)).toContain('Merge the change to deploy it.');
    await settle(change);
    expect(
      (await decisionsOf())
        .at(-1)!
        .approvers.map(({ name, role }) => `${name} ${role}`)
        .sort(),
    ).toEqual(['eve devops', 'vera validator']);
  });

  it('can be a group, an access level or the owners of cdl.yaml', async () => {
    const cases: [entry: string, owners: string][] = [
      ['"@acme/validators"', ''],
      ['access:maintainer', ''],
      ['codeowners', '# who\n* @ada\n/cdl.yaml @walt @acme/validators\n'],
    ];
    for (const [index, [entry, owners]] of cases.entries()) {
      const yaml = projectYaml().replace('[vera, walt, ada]', `[${entry}]`);
      world = await createBotWorld(database, yaml, { CODEOWNERS: owners });
      setGroup(world.sandbox.world, 'acme/validators', [world.people.vera]);
      world.project.members.set(world.people.walt.id, 40);
      const change = await propose('good\n');
      const line = await lineOf(change);
      expect(await answer('eve', change, line), entry).toContain('does not have the role');
      const may: Name = entry === 'access:maintainer' ? 'walt' : 'vera';
      expect(await answer(may, change, line), entry).toContain('Approved fashion');
      if (entry !== 'codeowners' && may === 'vera')
        expect(await answer('walt', change, line), entry).toContain('does not have the role');
      if (index < cases.length - 1) await world.close();
    }
  });

  it('is nobody who started a pipeline of the change, unless that is switched on', async () => {
    for (const trigger of [false, true]) {
      const yaml = projectYaml(trigger ? 'approvals: {self_approval: {trigger: true}}\n' : '');
      world = await createBotWorld(database, yaml);
      const change = await propose('good\n');
      await world.api('eve', 'GET', `merge_requests/${change}`);
      const pipeline = [...world.project.pipelines.values()].find((one) => one.source !== 'api')!;
      pipeline.userId = world.people.walt.id;
      const said = await answer('walt', change, await lineOf(change));
      expect(said).toContain(trigger ? 'Approved fashion' : 'You started a pipeline of this change');
      if (!trigger) await world.close();
    }
  });

  it('may use the forge’s button only where that is wanted, for the report that was shown', async () => {
    world = await createBotWorld(database, projectYaml('approvals: {forge_button: true}\n'));
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    const change = await world.openChange('exp/a');
    const press = (who: Name, verb = 'approve') => {
      const list = world.project.mergeRequests.get(change)!.approvedBy;
      const { id } = world.people[who];
      if (verb === 'approve') list.push(id);
      else list.splice(list.indexOf(id), 1);
    };
    // Before there is a report, nothing was approved.
    press('walt');
    await settle(change);
    expect(world.statuses(change)['cdl/fashion']).toContain('waiting for approval (0 of 1');
    press('eve');
    await settle(change);
    expect(world.statuses(change)['cdl/fashion']).toContain('waiting for approval (0 of 1');
    press('vera');
    await settle(change);
    expect(world.statuses(change)['cdl/fashion']).toBe('success: approved');
    // It names no digest: new content needs a new press.
    await world.push('ada', 'exp/a', { 'model.ts': 'other\n' });
    await settle(change);
    expect(world.statuses(change)['cdl/fashion']).toContain('waiting for approval (0 of 1');
    press('vera', 'unapprove');
    await settle(change);
    press('vera');
    await settle(change);
    expect(world.statuses(change)['cdl/fashion']).toBe('success: approved');
    // Taken back, the decision is taken back with it.
    press('vera', 'unapprove');
    await settle(change);
    expect(world.statuses(change)['cdl/fashion']).toContain('waiting for approval (0 of 1');
  });
});

describe('the forge’s button', () => {
  it('counts by the clock of the forge, whatever that of the bot says', async () => {
    world = await createBotWorld(database, projectYaml('approvals: {forge_button: true}\n'));
    world.context = { ...world.context, now: () => new Date(Date.now() + 3_600_000) };
    const change = await propose('good\n');
    const person = { id: String(world.people.vera.id), username: 'vera', name: 'Vera' };
    const at = new Date().toISOString();
    const forge = { ...world.context.forge, approvers: async () => [{ person, at, commit: null }] };
    await convergeChange({ ...world.context, forge }, change, false);
    expect(world.statuses(change)['cdl/fashion']).toBe('success: approved');
  });

  it('pressed before there was the report is no approval of it, however late it is heard', async () => {
    world = await createBotWorld(database, projectYaml('approvals: {forge_button: true}\n'));
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    const change = await world.openChange('exp/a');
    const before = new Date(Date.now() - 1000).toISOString();
    await settle(change);
    const { id } = world.people.vera;
    const pressed = async (at: string) => {
      const person = { id: String(id), username: 'vera', name: 'Vera' };
      const forge = { ...world.context.forge, approvers: async () => [{ person, at, commit: null }] };
      await convergeChange({ ...world.context, forge }, change, false);
      return world.statuses(change)['cdl/fashion'];
    };
    expect(await pressed(before)).toContain('waiting for approval (0 of 1');
    const after = new Date().toISOString();
    expect(await pressed(after)).toBe('success: approved');
    const [facts] = await factsOf(change);
    expect(facts!.approvals.map((one) => one.at)).toEqual([after]);
  });
});

describe('commands that write', () => {
  it('train by a commit in the name of who asked, who then cannot approve it', async () => {
    const yaml = projectYaml().replace(
      '    code: [model.ts]',
      '    code: [model.ts]\n    hyperparameters: {epochs: 3} # few',
    );
    world = await createBotWorld(database, yaml);
    const change = await propose('good\n');
    expect(await answer('walt', change, '/train epochs=7')).toContain('Committed `epochs=7`');
    await settle(change);
    const { head } = (await world.context.forge.getChange(change))!;
    const text = (await world.context.mirror.readFile(head, 'cdl.yaml'))!;
    expect(parseProject(text).models.fashion!.hyperparameters).toEqual({ epochs: 7 });
    expect(text).toContain('# few');
    expect(await answer('walt', change, await lineOf(change))).toContain('You are an author of this change');
    expect(await answer('vera', change, await lineOf(change))).toContain('Approved fashion');
  });

  it('leave a paused change alone until it is resumed', async () => {
    world = await createBotWorld(database);
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    const change = await world.openChange('exp/a');
    await answer('eve', change, '/pause');
    for (let i = 0; i < 2; i++) await convergeChange(world.context, change, false);
    expect(world.statuses(change)).toEqual({ 'cdl/fashion': 'pending: paused by eve' });
    expect([...world.project.pipelines.values()].filter((one) => one.source === 'api')).toEqual([]);
    expect(await answer('ada', change, '/status')).toContain('paused by eve');
    await answer('eve', change, '/resume');
    await settle(change);
    expect(world.statuses(change)['cdl/fashion']).toContain('waiting for approval');
  });

  it('ask an unanswered question again, once for a head', async () => {
    world = await createBotWorld(database);
    const change = await propose('good\n');
    const forget = async () => {
      const [facts] = await factsOf(change);
      await world.trusted.store.delete(`trusted/records/${evaluationKey(facts!.question!)}.json`);
    };
    const asked = () => [...world.project.pipelines.values()].filter((one) => one.source === 'api').length;
    await forget();
    const before = asked();
    // The head moved by the lock commit, so the question is asked for it by itself; then it is over.
    await settle(change);
    await forget();
    const again = asked();
    expect(await settle(change)).toEqual(['unanswered']);
    expect(asked()).toBe(again);
    expect(await answer('eve', change, '/evaluate')).toContain('Asked again');
    await settle(change);
    expect(asked()).toBe(again + 1);
    await forget();
    expect(await settle(change)).toEqual(['unanswered']);
    expect(await answer('eve', change, '/evaluate')).toContain('started anew before');
    expect(asked()).toBe(again + 1);
    expect(before).toBeGreaterThan(0);
  });

  it('merge the default branch with cdl.lock by whole entries', async () => {
    world = await createBotWorld(database);
    const second = await propose('second\n', 'exp/b');
    await release('one\n', 'exp/a');
    const conflict = await answer('ada', second, 'cdl /lock refresh');
    expect(conflict).toContain('`model.ts`');
    // Both changed model.ts; with main's file on the branch only the lock is left to solve.
    await world.push('ada', 'exp/b', { 'model.ts': 'one\n', 'notes.md': 'x\n' });
    expect(await answer('ada', second, 'cdl /lock refresh')).toContain('Merged `main`');
    await settle(second);
    const { head } = (await world.context.forge.getChange(second))!;
    const main = (await world.context.mirror.head('main'))!;
    expect(await world.context.mirror.mergeBase(head, main)).toBe(main);
    expect(() => parseLock('')).not.toThrow();
    expect(await answer('ada', second, 'cdl /lock refresh')).toContain('has everything of `main` already');
  });
});

describe('the way of an entry', () => {
  it('goes back to a version that ran before, without a new approval', async () => {
    world = await createBotWorld(database);
    await release('one\n', 'exp/a');
    const second = await release('second\n', 'exp/b');
    expect((await decisionsOf()).map((one: Decision) => one.decision)).toEqual([
      'approved',
      'promoted',
      'approved',
      'promoted',
    ]);
    expect(await answer('eve', second, '/rollback')).toContain('does not have the role');
    const said = await answer('vera', second, '/rollback');
    expect(said).toContain('brings back version 1');
    const id = Number(/merge_requests\/(\d+)/.exec(said)![1]);
    expect(await settle(id)).toEqual(['return']);
    expect(world.statuses(id)).toEqual({
      'cdl/fashion': 'success: back to version 1, which ran here before',
    });
    expect(world.comments(id)[0]).toContain('no new approval is needed');
    expect(await answer('vera', second, '/rollback')).toContain(`merge_requests/${id}`);
    await merge(id);
    await deploy();
    await convergeChange(world.context, id, false);
    expect(world.comments(id)[0]).toContain('version 1 of fashion serves production again');
    expect(await decisionsOf()).toHaveLength(4);
  });

  it('is no way back for an entry that never ran there, or was put together by hand', async () => {
    world = await createBotWorld(database);
    await release('one\n', 'exp/a');
    const other = await propose('second\n', 'exp/b');
    const { head } = (await world.context.forge.getChange(other))!;
    const text = (await world.context.mirror.readFile(head, 'cdl.lock'))!;
    await world.push('ada', 'exp/c', { 'cdl.lock': text });
    const forged = await world.openChange('exp/c');
    expect(await settle(forged)).not.toContain('return');
    expect(world.statuses(forged)['cdl/fashion']).not.toMatch(/^success: back/);
  });

  it('is copied to another environment with an evaluation and an approval of its own', async () => {
    const yaml = projectYaml().replace(
      '    gates:',
      '    environments: { staging: {}, production: {} }\n    gates:',
    );
    world = await createBotWorld(database, yaml);
    const first = await release('good\n', 'exp/a');
    expect((await decisionsOf('staging')).map((one) => one.decision)).toEqual(['approved', 'promoted']);
    const said = await answer('vera', first, '/promote production');
    const id = Number(/merge_requests\/(\d+)/.exec(said)![1]);
    expect(await settle(id)).toEqual(['judged']);
    expect(world.statuses(id)).toEqual({
      'cdl/fashion/production': 'pending: waiting for approval (0 of 1 approval)',
    });
    expect(await decisionsOf()).toEqual([]);
    // Asked for by vera, whose name the commit bears: somebody else approves.
    const line = await lineOf(id);
    expect(await answer('vera', id, line)).toContain('You are an author');
    expect(await answer('walt', id, line)).toContain('Approved fashion for production');
    await settle(id);
    expect(world.statuses(id)['cdl/fashion/production']).toBe('success: approved');
    await merge(id);
    await deploy('production');
    expect((await decisionsOf()).map((one) => one.decision)).toEqual(['approved', 'promoted']);
    await convergeChange(world.context, id, false);
    expect(world.comments(id)[0]).toContain('is promoted in production');
    expect(await answer('vera', first, '/promote production')).toContain('has version 1 already');
  });
});

describe('what people are told', () => {
  it('is nothing but the status while the change is a draft, and the earlier states once it is none', async () => {
    world = await createBotWorld(database);
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    const change = await world.openChange('exp/a', 'Draft: Better');
    await settle(change);
    expect(world.comments(change)).toEqual([]);
    expect(world.statuses(change)['cdl/fashion']).toContain('waiting for approval');
    await world.api('ada', 'PUT', `merge_requests/${change}`, { title: 'Better' });
    await settle(change);
    const [first] = await factsOf(change);
    expect(world.comments(change)[0]).not.toContain('Earlier states');
    await world.push('ada', 'exp/a', { 'model.ts': 'better\n' });
    await settle(change);
    expect(world.comments(change)).toHaveLength(1);
    expect(world.comments(change)[0]).toContain('Earlier states of this change (1)');
    expect(world.comments(change)[0]).toContain(shortDigest(first!.review!));
  });

  it('is that the report waits when a change becomes a draft: nothing to approve stands there until it is none', async () => {
    world = await createBotWorld(database);
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    const change = await world.openChange('exp/a');
    await settle(change);
    const report = world.comments(change);
    expect(report[0]).toContain('/approve');
    await world.api('ada', 'PUT', `merge_requests/${change}`, { title: 'Draft: Better' });
    for (let i = 0; i < 2; i++) await convergeChange(world.context, change, false);
    expect(world.comments(change)).toHaveLength(1);
    expect(world.comments(change)[0]).toContain('The change is a draft now');
    expect(world.comments(change)[0]).not.toContain('/approve');
    await world.api('ada', 'PUT', `merge_requests/${change}`, { title: 'Better' });
    await settle(change);
    expect(world.comments(change)).toEqual(report);
  });

  it('is a release for what was promoted, once, and what changes in the manifest for the next', async () => {
    world = await createBotWorld(database);
    await release('one\n', 'exp/a');
    const { releases } = world.project;
    expect([...releases.keys()]).toEqual(['model/fashion/v1']);
    const { description } = releases.get('model/fashion/v1')!;
    expect(description).toContain('vera (validator)');
    expect(description).toContain('accuracy');
    const made = { ...releases.get('model/fashion/v1')! };
    await convergeBranch(world.context);
    expect(releases.get('model/fashion/v1')).toEqual(made);
    world.data = { count: 2100, perClass: [1000, 1100] };
    const yaml = projectYaml().replace('    code:', '    hyperparameters: {epochs: 5}\n    code:');
    const second = await release('better\n', 'exp/c', yaml);
    const notes = releases.get('model/fashion/v2')!.description;
    expect(notes).toContain(`merge_requests/${second}`);
    expect(notes).toContain('in place of version 1');
    expect(notes).toContain('**model.ts:** changed');
    expect(notes).toContain('**hyperparameters.epochs:** not set → 5');
    expect(notes).toContain('**items of shoe:** 1000 → 1100');
    const next = await propose('two\n', 'exp/b');
    expect(world.comments(next)[0]).toContain('What changes in the manifest');
    expect(world.comments(next)[0]).toContain('**replaces:** version 2 (');
    // What is merged tells what it replaced, though that is not what is live.
    expect(world.comments(second)[0]).toContain('**replaces:** version 1 (');
  });

  it('is not the answer of an evaluation that nobody waits for: it is stopped when the content moved on', async () => {
    world = await createBotWorld(database);
    await world.push('ada', 'exp/a', { 'model.ts': 'one\n' });
    const change = await world.openChange('exp/a');
    await convergeChange(world.context, change, false);
    await world.sandbox.settled();
    const [facts] = await factsOf(change);
    await world.trusted.store.delete(`trusted/records/${evaluationKey(facts!.question!)}.json`);
    const first = [...world.project.pipelines.values()].find((one) => one.source === 'api')!;
    first.status = 'running';
    await convergeChange(world.context, change, false);
    expect(first.status).toBe('running');
    await world.push('ada', 'exp/a', { 'model.ts': 'two\n' });
    await settle(change);
    expect(first.status).toBe('canceled');
    expect(world.statuses(change)['cdl/fashion']).toContain('waiting for approval');
  });
});
