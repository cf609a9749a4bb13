import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { convergeChange } from '../../bot/converge.ts';
import { createEffects } from '../../bot/effects.ts';
import { handleComment } from '../../bot/handle.ts';
import { readChange, readDecisions } from '../../bot/read.ts';
import type { Facts } from '../../bot/types.ts';
import {
  type Forge,
  openMirror,
  parseProject,
  type Rollout,
  readDataChain,
  rolloutKey,
  shortDigest,
} from '../../src/index.ts';
import { useDatabase } from './database.ts';
import { createGithubWorld, type GithubWorld, githubDescription, settleOnGithub } from './github-world.ts';
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

  /** A settled pull request of Ada's. */
  async function propose(yaml: string): Promise<number> {
    world = await createGithubWorld(database(), githubDescription!, yaml);
    await world.push('ada', 'exp/a', { 'model.ts': 'good\n' });
    const change = await world.openChange('exp/a');
    expect(await settleOnGithub(world, change)).toBe('judged');
    return change;
  }

  async function factsOf(change: number): Promise<Facts> {
    const read = await readChange(world.context, change, false);
    if (read.kind !== 'read') throw new Error(`change is ${read.kind}`);
    return read.models[0]!;
  }

  async function answer(who: Name, change: number, body: string): Promise<string> {
    const id = await world.say(who, change, body);
    // Heard twice, as a repeated delivery is.
    for (let i = 0; i < 2; i++) await handleComment(world.context, change, id, false);
    return world.comments(change).at(-1)!;
  }

  const decisionsOf = async () =>
    (await readDecisions(world.context, 'fashion', 'fashion', 'production')).decisions;
  const approveLine = async (change: number) => `/approve ${shortDigest((await factsOf(change)).review!)}`;

  it('two validators at the same second, heard by two bots, are one decision that names both and the change', async () => {
    const change = await propose(projectYaml('approvals: { required: 2 }\n'));
    const mirror = await openMirror({
      folder: join(world.folder, 'second-mirror'),
      access: world.context.forge.git(),
      path: process.env.PATH ?? '',
    });
    const base = { ...world.context, mirror };
    const bots = [world.context, { ...base, effects: createEffects(base, async () => undefined) }];
    const line = await approveLine(change);
    const who = ['vera', 'walt', 'ada', 'eve'] as const;
    const ids = await Promise.all(who.map((one) => world.say(one, change, line)));
    await Promise.all(ids.flatMap((id) => bots.map((bot) => handleComment(bot, change, id, false))));
    await Promise.all(bots.map((bot) => convergeChange(bot, change, false)));
    await settleOnGithub(world, change);
    expect(world.check(change)).toBe('success: approved');
    const [decision, ...others] = await decisionsOf();
    expect(others).toEqual([]);
    expect(decision).toMatchObject({ decision: 'approved', seq: 1, change: `#${change}` });
    expect(decision!.approvers.map((one) => one.name).sort()).toEqual(['vera', 'walt']);
    // The report, and one answer each.
    expect(world.comments(change)).toHaveLength(5);
  });

  it('data is approved by who has the role data, no author, and its candidate after it', async () => {
    const yaml = projectYaml('approvals: { data: { required: 1 } }\n');
    const change = await propose(
      yaml.replace('  validator: [vera, walt, ada]', '  validator: [vera, walt, ada]\n  data: [eve, ada]'),
    );
    const { data } = await factsOf(change);
    const line = `/approve-data ${shortDigest(data!.review)}`;
    expect(world.check(change)).toContain('waiting for approval of the data (0 of 1)');
    expect(world.comments(change)[0]).toContain(line);
    expect(await answer('ada', change, line)).toContain('You are an author of this change');
    expect(await answer('vera', change, line)).toContain('does not have the role **data**');
    expect(await answer('eve', change, line)).toContain('is approved as');
    await settleOnGithub(world, change);
    expect(world.check(change)).toBe('queued: waiting for approval (0 of 1 approval)');
    const { decisions } = await readDataChain(world.trusted, world.context.keys, 'fashion', 'clothes');
    expect(decisions).toMatchObject([{ approver: { name: 'eve', role: 'data' }, change: `#${change}` }]);
    expect(await answer('vera', change, await approveLine(change))).toContain('Approved fashion');
  });

  it('/tune commits the next seed in the name of who asked, and the search runs for the new head', async () => {
    const search = 'code: [model.ts]\n    tune: { space: { width: { int: [4, 64] } } }';
    const change = await propose(projectYaml().replace('code: [model.ts]', search));
    const before = (await factsOf(change)).change.head;
    expect(await answer('walt', change, '/tune')).toContain('of the search to `cdl.yaml` of this branch');
    await world.fake.settled();
    const { change: now } = await factsOf(change);
    expect(now.head).not.toBe(before);
    const text = (await world.context.mirror.readFile(now.head, 'cdl.yaml'))!;
    expect(parseProject(text).models.fashion!.tune!.seed).toBe(2);
    expect(await settleOnGithub(world, change)).toBe('judged');
    expect(await answer('walt', change, await approveLine(change))).toContain('an author of this change');
  });

  it('/deploy starts what was merged once, and the pull request shows how far it is', async () => {
    const change = await propose(projectYaml().replace('  validator:', '  devops: [walt]\n  validator:'));
    expect(await answer('walt', change, '/deploy production')).toContain('has no entry of **fashion**');
    await answer('vera', change, await approveLine(change));
    await settleOnGithub(world, change);
    await world.merge(change);
    expect(await answer('eve', change, '/deploy production')).toContain('role');
    const said = await answer('walt', change, '/deploy production');
    const deployments = () => world.fake.state.runs.filter((one) => one.inputs.cdl_task === 'deploy');
    const runs = deployments();
    expect(runs.map(({ branch, inputs }) => [branch, inputs.cdl_model, inputs.cdl_environment])).toEqual([
      ['main', 'fashion', 'production'],
    ]);
    expect(said).toContain(`/actions/runs/${runs[0]!.id} brings version 1 of **fashion**`);

    // Killed before it noted what it had started: asked for again, it is found.
    const again = await world.say('walt', change, '/deploy production');
    const { forge } = world.context;
    const runPipeline: Forge['runPipeline'] = async (...args) => {
      await forge.runPipeline(...args);
      throw new Error('killed');
    };
    const base = { ...world.context, forge: { ...forge, runPipeline } };
    const mortal = { ...base, effects: createEffects(base, async () => undefined) };
    await expect(handleComment(mortal, change, again, false)).rejects.toThrow('killed');
    await handleComment(world.context, change, again, false);
    expect(deployments()).toHaveLength(2);
    expect(world.comments(change).at(-1)).toContain(`/actions/runs/${deployments()[1]!.id} brings version 1`);

    const [decision] = await decisionsOf();
    const rollout: Rollout = {
      v: 1,
      candidate: decision!.candidate,
      version: 1,
      state: 'running',
      reason: null,
      steps: [{ at: '2026-01-01T00:00:00.000Z', traffic: 20, text: '12 requests, none failed' }],
    };
    const show = async (shown: Rollout) => {
      const key = rolloutKey('fashion', 'fashion', 'production');
      const there = await world.trusted.readRecord(key);
      await world.trusted.writeRecord(key, shown, there ? { ifMatch: there.etag } : { ifAbsent: true });
      await convergeChange(world.context, change, false);
      return world.comments(change)[0];
    };
    const first = await show(rollout);
    expect(first).toContain('under way');
    expect(first).toContain('20 %');
    const second = { at: '2026-01-01T00:01:00.000Z', traffic: 100, text: 'all of it' };
    const last = await show({ ...rollout, state: 'done', steps: [...rollout.steps, second] });
    expect(last).toContain('it serves all requests');
    expect(last).toContain('100 %');
  });
});
