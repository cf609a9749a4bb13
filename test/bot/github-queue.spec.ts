import { afterEach, describe, expect, it } from 'vitest';
import { handleComment } from '../../bot/handle.ts';
import { convergeQueue } from '../../bot/merge-queue.ts';
import { readChange, readDecisions } from '../../bot/read.ts';
import { reconcile } from '../../bot/reconcile.ts';
import { convergePush } from '../../bot/trigger.ts';
import { shortDigest } from '../../src/index.ts';
import { resolveRef, updateRef } from '../../src/sandbox/git.ts';
import { mergeCommit } from '../forge/github-fake/changes.ts';
import { useDatabase } from './database.ts';
import { createGithubWorld, type GithubWorld, githubDescription, settleOnGithub } from './github-world.ts';
import { projectYaml } from './world.ts';

describe.skipIf(!githubDescription)('on GitHub', () => {
  let world: GithubWorld;
  const database = useDatabase();
  afterEach(async () => {
    const { violations } = world.fake;
    await world.close();
    expect(violations).toEqual([]);
  });

  const settle = (change: number) => settleOnGithub(world, change);
  async function propose(branch: string, files: Record<string, string>): Promise<number> {
    await world.push('ada', branch, files);
    return world.openChange(branch);
  }
  const headOf = (change: number) => world.fake.state.pulls.find((one) => one.number === change)!.head;
  const seeded = (seed: number) => projectYaml().replace('    code:', `    seed: ${seed}\n    code:`);

  /** As a merge queue does: a branch of the merge of these, one after another; then what the bot says of its commit. */
  async function queue(...changes: number[]): Promise<string | undefined> {
    const { repository, checks } = world.fake.state;
    let sha = (await resolveRef(repository, 'refs/heads/main'))!;
    for (const change of changes) sha = (await mergeCommit(repository, sha, headOf(change), 'queued'))!;
    const branch = `gh-readonly-queue/main/pr-${changes.at(-1)}-${sha}`;
    await updateRef(repository, `refs/heads/${branch}`, sha, null);
    for (let i = 0; i < 2; i++) await convergeQueue(world.context, branch);
    // Its commits were trained already, whatever triggers: names.
    await convergePush(world.context, branch);
    const said = checks.filter((one) => one.sha === sha);
    expect(said).toHaveLength(1);
    return `${said[0]!.name} ${said[0]!.conclusion}: ${said[0]!.title}`;
  }

  it('a merge queue is told whether its commit holds what was approved, and of nothing nobody saw together', async () => {
    world = await createGithubWorld(database(), githubDescription!);
    const change = await propose('exp/a', { 'model.ts': 'good\n' });
    await settle(change);
    expect(await queue(change)).toBe('cdl/fashion failure: version 1 is not approved against what is live');
    const read = await readChange(world.context, change, false);
    const { review } = read.kind === 'read' ? read.models[0]! : { review: null };
    const id = await world.say('vera', change, `/approve ${shortDigest(review!)}`);
    await handleComment(world.context, change, id, false);
    await settle(change);
    const words = await propose('docs', { 'README.md': 'words\n' });
    expect(await queue(words, change)).toBe('cdl/fashion success: version 1 is approved');
    expect(await queue(words)).toBe('cdl/fashion success: nothing of it changes');
    const other = await propose('code', { 'cdl.yaml': seeded(9) });
    expect(await queue(change, other)).toContain('failure: joined with others it is not what was evaluated');
    expect(await queue(other)).toContain('failure: its code or configuration changes');
    const runs = world.fake.state.runs.filter((one) => one.inputs.cdl_task === 'train');
    expect(runs).toEqual([]);
    await convergeQueue(world.context, 'gh-readonly-queue/main/gone');
  });

  it('a commit of a merge queue is found when its webhook was lost, and no branch that only has such a name', async () => {
    world = await createGithubWorld(database(), githubDescription!);
    const change = await propose('exp/a', { 'model.ts': 'good\n' });
    const { repository } = world.fake.state;
    const main = (await resolveRef(repository, 'refs/heads/main'))!;
    const branches = {
      lost: (await mergeCommit(repository, main, headOf(change), 'queued'))!,
      // Pushed by somebody: its status would be the change's own.
      posed: headOf(change),
    };
    for (const [name, sha] of Object.entries(branches))
      await updateRef(repository, `refs/heads/gh-readonly-queue/main/${name}`, sha, null);
    await updateRef(repository, 'refs/heads/gh-readonly-queue/next/other', main, null);
    await reconcile(world.context);
    expect(world.tasks.filter((task) => task.kind === 'queue')).toEqual([
      { kind: 'queue', branch: 'gh-readonly-queue/main/lost' },
    ]);
  });

  it('a review counts for the report of the commit it is about, until it is dismissed', async () => {
    world = await createGithubWorld(
      database(),
      githubDescription!,
      projectYaml('approvals: { forge_button: true }\n'),
    );
    const { people } = world;
    const approve = (who: 'vera' | 'walt', change: number, more: object = {}) =>
      world.api<{ id: number }>(people[who], 'POST', `pulls/${change}/reviews`, {
        event: 'APPROVE',
        ...more,
      });
    const change = await propose('exp/a', { 'model.ts': 'one\n' });
    await settle(change);
    const older = headOf(change);
    await world.push('ada', 'exp/a', { 'model.ts': 'two\n' });
    await settle(change);
    // Walt still looked at the earlier head.
    await approve('walt', change, { commit_id: older });
    await settle(change);
    expect(world.check(change)).toContain('waiting for approval (0 of 1');
    const { id } = await approve('vera', change);
    await settle(change);
    expect(world.check(change)).toBe('success: approved');
    await world.api(people.ada, 'PUT', `pulls/${change}/reviews/${id}/dismissals`, { message: 'not yet' });
    await settle(change);
    expect(world.check(change)).toContain('waiting for approval (0 of 1');
    const { decisions } = await readDecisions(world.context, 'fashion', 'fashion', 'production');
    expect(decisions.map((one) => one.decision)).toEqual(['approved', 'revoked']);
  });
});
