import { afterEach, describe, expect, it } from 'vitest';
import { convergeChange } from '../../bot/converge.ts';
import { keepDrift } from '../../bot/drift.ts';
import { handleComment } from '../../bot/handle.ts';
import { convergeBranch } from '../../bot/promote.ts';
import { readChange, readDecisions } from '../../bot/read.ts';
import { convergePush, triggerStatus } from '../../bot/trigger.ts';
import type { Facts } from '../../bot/types.ts';
import { type LiveState, liveKey, parseLock, parseProject, shortDigest } from '../../src/index.ts';
import { expectHarmless } from '../report/harmless.ts';
import { useDatabase } from './database.ts';
import { createGithubWorld, type GithubWorld, githubDescription, settleOnGithub } from './github-world.ts';
import { git } from './jobs.ts';
import { liveAs } from './story.ts';
import { projectYaml } from './world.ts';

type Name = 'ada' | 'vera' | 'walt' | 'eve';

describe.skipIf(!githubDescription)('on GitHub', () => {
  let world: GithubWorld;
  const database = useDatabase();
  afterEach(async () => {
    const { violations } = world.fake;
    await world.close();
    expect(violations).toEqual([]);
  });

  const begin = async (yaml?: string) => {
    world = await createGithubWorld(database(), githubDescription!, yaml);
  };
  const converge = (change: number) => convergeChange(world.context, change, false);

  const settle = (change: number) => settleOnGithub(world, change);

  async function propose(text: string, branch = 'exp/a', more: object = {}): Promise<number> {
    await world.push('ada', branch, { 'model.ts': text });
    return world.openChange(branch, more);
  }

  async function answer(who: Name, change: number, body: string): Promise<string> {
    const id = await world.say(who, change, body);
    await handleComment(world.context, change, id, false);
    return world.comments(change).at(-1)!;
  }

  async function factsOf(change: number): Promise<Facts> {
    const read = await readChange(world.context, change, false);
    if (read.kind !== 'read') throw new Error(`change is ${read.kind}`);
    return read.models[0]!;
  }

  const headOf = async (change: number) => (await world.context.forge.getChange(change))!.head;
  const lockAt = async (ref: string) =>
    parseLock((await world.context.mirror.readFile(ref, 'cdl.lock')) ?? '');
  const decisionsOf = async () =>
    (await readDecisions(world.context, 'fashion', 'fashion', 'production')).decisions;

  /** As if the deploy job had brought what was approved to the environment. */
  async function goLive(change: number): Promise<void> {
    const facts = await factsOf(change);
    const approved = (await decisionsOf()).findLast((one) => one.decision === 'approved')!;
    await world.trusted.copyArtifact(world.work, facts.plan!.package);
    await world.setLive(liveAs(approved, facts, 1));
  }

  async function approvedChange(): Promise<number> {
    const change = await propose('good\n');
    expect(await settle(change)).toBe('judged');
    const review = shortDigest((await factsOf(change)).review!);
    expect(await answer('vera', change, `/approve ${review}`)).toContain('Approved fashion for production');
    await settle(change);
    expect(world.check(change)).toBe('success: approved');
    return change;
  }

  it('what was approved and merged is promoted once, with a release', async () => {
    await begin();
    const change = await approvedChange();
    await goLive(change);
    await world.merge(change);
    world.tasks.length = 0;
    for (let i = 0; i < 2; i++) await convergeBranch(world.context);
    expect((await decisionsOf()).map((one) => one.decision)).toEqual(['approved', 'promoted']);
    expect(world.fake.state.releases.map(({ tag }) => tag)).toEqual(['model/fashion/v1']);
    expect(world.fake.state.releases[0]!.body).toContain('vera (validator)');
    // A decision names its change as GitHub writes it: the release links to it, and its report is brought up to date.
    expect(world.fake.state.releases[0]!.body).toContain(`/pull/${change}>`);
    expect(world.tasks.filter((task) => task.kind === 'change' && task.change === change)).not.toEqual([]);
  });

  it('a deployment that was taken back is revoked once, and its lock entry reverted by a pull request', async () => {
    await begin();
    const change = await approvedChange();
    await goLive(change);
    const live = (await world.trusted.readRecord(liveKey('fashion', 'fashion', 'production')))!
      .value as LiveState;
    await world.setLive({ current: null, failed: { ...live.current!, reason: '12 % failed\n/merge @all' } });
    await world.merge(change);
    for (let i = 0; i < 2; i++) await convergeBranch(world.context);
    expect((await decisionsOf()).map((one) => one.decision)).toEqual(['approved', 'revoked']);
    const reverts = world.fake.state.pulls.filter((one) => one.source.startsWith('cdl/revert-'));
    expect(reverts.map(({ title, target }) => [title, target])).toEqual([
      ['revert(lock): fashion in production back to nothing', 'main'],
    ]);
    expectHarmless(reverts[0]!.body);
    await converge(change);
    expect(world.comments(change)[0]).toContain('12 % failed');
  });

  it('a lock that main moved away from is merged by the bot, and the pull request gets its own entry anew', async () => {
    await begin();
    const first = await propose('one\n');
    const seeded = projectYaml().replace('    code:', '    seed: 2\n    code:');
    await world.push('ada', 'exp/b', { 'model.ts': 'first\n', 'other.ts': 'new\n', 'cdl.yaml': seeded });
    const second = await world.openChange('exp/b');
    expect([await settle(first), await settle(second)]).toEqual(['judged', 'judged']);
    await world.merge(first);
    const before = await headOf(second);
    await settle(second);
    const now = await headOf(second);
    expect(now).not.toBe(before);
    const tip = (await world.context.mirror.head('main'))!;
    expect(await world.context.mirror.mergeBase(now, tip)).toBe(tip);
    const entry = (await lockAt(now)).models.fashion!.production!;
    expect(entry.candidate).not.toBe((await lockAt(tip)).models.fashion!.production!.candidate);
    await settle(second);
    expect(await headOf(second)).toBe(now);
  });

  it('a version that was registered elsewhere is proposed by the bot, evaluated and locked; /register names one', async () => {
    await begin();
    await propose('better\n', 'exp/elsewhere');
    world.outcome = 'failure';
    await world.push('ada', 'exp/a', { 'model.ts': 'better\n', 'notes.md': 'same code\n' });
    const change = await world.openChange('exp/a');
    expect(await settle(change)).toBe('judged');
    expect(await answer('ada', change, '/register 4711')).toContain('has no version 4711');
    expect(await answer('ada', change, '/register 1')).toContain('it is proposed');
    expect(await settle(change)).toBe('judged');
    expect((await lockAt(await headOf(change))).models.fashion!.production!.info.version).toBe(1);
  });

  it('/train commits as the bot in the name of who asked, who then cannot approve', async () => {
    const yaml = projectYaml().replace(
      'code: [model.ts]',
      'code: [model.ts]\n    hyperparameters: { epochs: 3 }',
    );
    await begin(yaml);
    const change = await propose('good\n');
    await settle(change);
    expect(await answer('walt', change, '/train epochs=7')).toContain('epochs=7');
    await world.fake.settled();
    await settle(change);
    const text = (await world.context.mirror.readFile(await headOf(change), 'cdl.yaml'))!;
    expect(parseProject(text).models.fashion!.hyperparameters).toEqual({ epochs: 7 });
    const review = shortDigest((await factsOf(change)).review!);
    expect(await answer('walt', change, `/approve ${review}`)).toContain('You are an author of this change');
  });

  it('who committed what they say another one wrote cannot approve it; the account of GitHub’s own pages is nobody', async () => {
    await begin(projectYaml().replace('[vera, walt, ada]', '[vera, eve]'));
    await world.push('eve', 'exp/a', { 'model.ts': 'good\n' }, 'ada <ada@example.com>');
    // As an edit on GitHub's pages is committed.
    const { repository } = world.fake.state;
    const pages = ['-c', 'committer.name=GitHub', '-c', 'committer.email=noreply@github.com'];
    const ada = ['-c', 'author.name=ada', '-c', 'author.email=ada@example.com'];
    const commit = ['commit-tree', 'exp/a^{tree}', '-p', 'exp/a', '-m', 'edit'];
    const edited = await git(repository, ...pages, ...ada, ...commit);
    await git(repository, 'update-ref', 'refs/heads/exp/a', edited);
    const change = await world.openChange('exp/a');
    const authors = await world.context.forge.commitAuthors(change);
    expect([...new Set(authors.map((one) => one.name))].sort()).toEqual(['ada', 'eve']);
    await settle(change);
    const review = shortDigest((await factsOf(change)).review!);
    expect(await answer('eve', change, `/approve ${review}`)).toContain('you wrote a commit of it');
    expect(await answer('vera', change, `/approve ${review}`)).toContain('Approved fashion');
  });

  it('a push to a branch without a pull request starts training once, and stops what an earlier push started', async () => {
    await begin(projectYaml('triggers:\n  - { branches: ["exp/*"], task: train }\n'));
    const runs = () => world.fake.state.runs.filter((one) => one.inputs.cdl_task === 'train');
    const status = (sha: string) =>
      world.fake.state.checks.filter((one) => one.sha === sha && one.name === triggerStatus).at(-1);
    const first = await world.push('ada', 'exp/a', { 'model.ts': 'one\n' });
    for (let i = 0; i < 2; i++) await convergePush(world.context, 'exp/a');
    expect(runs().map((one) => [one.sha, one.status])).toEqual([[first, 'in_progress']]);
    expect(status(first)).toMatchObject({ status: 'in_progress' });
    const second = await world.push('ada', 'exp/a', { 'model.ts': 'two\n' });
    await convergePush(world.context, 'exp/a');
    expect(runs().map((one) => [one.sha, one.conclusion])).toEqual([
      [first, 'cancelled'],
      [second, null],
    ]);
    world.fake.finish(runs()[1]!, 'success');
    await convergePush(world.context, 'exp/a');
    expect(status(second)).toMatchObject({ conclusion: 'success' });
    await world.push('ada', 'feature/a', { 'model.ts': 'three\n' });
    await convergePush(world.context, 'feature/a');
    expect(runs()).toHaveLength(2);
  });

  it('a budget is shown, stops the run that is over it, and says so once', async () => {
    await begin(projectYaml('budgets: { change: { gpu_seconds: 100 } }\n'));
    world.cost = { seconds: 40, labels: ['self-hosted', 'gpu'] };
    const change = await propose('one\n');
    await settle(change);
    expect(world.comments(change).join('\n')).toMatch(
      /120 of 100 of them on runners with a GPU|of 100 of them/,
    );
    world.outcome = 'running';
    await world.push('ada', 'exp/a', { 'model.ts': 'two\n' });
    for (let i = 0; i < 3; i++) await converge(change);
    expect(world.fake.state.runs.at(-1)).toMatchObject({ conclusion: 'cancelled' });
    const said = world.comments(change).filter((body) => body.includes('The budget is used up'));
    expect(said).toHaveLength(1);
  });

  it('drift is one issue, kept up to date, and closed when all is well', async () => {
    await begin();
    const change = await approvedChange();
    await world.merge(change);
    for (let i = 0; i < 2; i++) await keepDrift(world.context);
    const issues = () => world.fake.state.issues.map(({ state, body }) => ({ state, body }));
    expect(issues()).toHaveLength(1);
    expect(issues()[0]!.body).toContain('nothing is live');
    await goLive(change);
    await convergeBranch(world.context);
    await keepDrift(world.context);
    expect(issues().map((one) => (one.state === 'closed' ? 'closed' : one.body))).toEqual(['closed']);
  });

  it('a review approves only where that is wanted, and not when it was dismissed or came before the report', async () => {
    await begin(projectYaml('approvals: { forge_button: true }\n'));
    const change = await propose('good\n');
    const review = (who: Name, state: string) =>
      world.fake.state.reviews.push({
        id: world.fake.state.nextId(),
        pull: change,
        user: world.people[who],
        state,
        at: world.fake.state.now(),
      });
    review('walt', 'APPROVED');
    await settle(change);
    expect(world.check(change)).toContain('waiting for approval (0 of 1');
    review('eve', 'APPROVED');
    review('vera', 'COMMENTED');
    await settle(change);
    expect(world.check(change)).toContain('waiting for approval (0 of 1');
    review('vera', 'APPROVED');
    review('vera', 'DISMISSED');
    await settle(change);
    expect(world.check(change)).toContain('waiting for approval (0 of 1');
    review('vera', 'APPROVED');
    await settle(change);
    expect(world.check(change)).toBe('success: approved');
    expect(await decisionsOf()).toMatchObject([{ approvers: [{ name: 'vera' }] }]);
  });

  it('a draft is quiet until it is ready', async () => {
    await begin();
    const change = await propose('good\n', 'exp/a', { draft: true });
    for (let i = 0; i < 3; i++) await converge(change);
    expect(world.comments(change)).toEqual([]);
    world.fake.state.pulls.find((one) => one.number === change)!.draft = false;
    expect(await settle(change)).toBe('judged');
    expect(world.comments(change)).toHaveLength(1);
  });

  it('a pull request from a fork gets an answer, and nothing of ours runs for it', async () => {
    await begin();
    const change = await propose('good\n');
    world.fake.state.pulls.find((one) => one.number === change)!.fork = true;
    for (let i = 0; i < 2; i++) await converge(change);
    expect(world.fake.state.runs.filter((one) => one.event === 'workflow_dispatch')).toEqual([]);
    expect(world.comments(change).length).toBeLessThanOrEqual(1);
    expect(await world.context.mirror.readFile(await headOf(change), 'cdl.lock')).toBeNull();
  });

  it('commands of who may not are refused politely, once, and /help shows what there is', async () => {
    await begin();
    const change = await propose('good\n');
    await settle(change);
    const review = shortDigest((await factsOf(change)).review!);
    const id = await world.say('eve', change, `/approve ${review}`);
    for (let i = 0; i < 2; i++) await handleComment(world.context, change, id, false);
    const answers = world.comments(change).filter((body) => body.includes('does not have the role'));
    expect(answers).toHaveLength(1);
    expect(await decisionsOf()).toEqual([]);
    const help = await answer('eve', change, '/help');
    for (const command of ['/approve', '/register', '/deploy', '/tune', '/compare'])
      expect(help).toContain(command);
    expect(await answer('eve', change, '/aprove')).toContain('/approve');
  });
});
