import { Gitlab } from '@gitbeaker/rest';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openRig, type Rig } from './forge-rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await openRig({ path: '/gitlab' });
});
afterAll(() => rig.close());

describe('the real GitLab client against a sandbox below a relative URL', () => {
  it('commits, opens a change, notes, uploads, sets a status, approves and merges without a violation', async () => {
    const as = (who: keyof Rig['people']) =>
      new Gitlab({ host: rig.sandbox.url, token: rig.people[who].token.token });
    const bot = as('developer');
    const id = 'team/demo';
    expect((await bot.Users.showCurrentUser()).username).toBe('developer');
    const commit = await bot.Commits.create(
      id,
      'exp/beaker',
      'add',
      [{ action: 'create', filePath: 'deep/file.txt', content: 'x\n' }],
      { startBranch: 'main' },
    );
    const raw = await bot.RepositoryFiles.showRaw(id, 'deep/file.txt', 'exp/beaker');
    expect(String(raw)).toBe('x\n');
    const mr = await bot.MergeRequests.create(id, 'exp/beaker', 'main', 'By client', { labels: ['a'] });
    expect(mr.sha).toBe(commit.id);
    const diffs = await bot.MergeRequests.allDiffs(id, mr.iid);
    expect(diffs.map((file) => file.new_path)).toEqual(['deep/file.txt']);
    for (let at = 0; at < 25; at += 1) await bot.MergeRequestNotes.create(id, mr.iid, `note ${at}`);
    expect(await bot.MergeRequestNotes.all(id, mr.iid, { perPage: 10 })).toHaveLength(25);
    const thread = await bot.MergeRequestDiscussions.create(id, mr.iid, 'a thread');
    expect(thread.notes).toHaveLength(1);
    const file = await bot.Projects.uploadForReference(id, { content: new Blob(['p']), filename: 'p.png' });
    expect(file.url).toMatch(/^\/uploads\//);
    const status = await bot.Commits.editStatus(id, commit.id, 'success', { name: 'cdl/gate' });
    expect(status.status).toBe('success');
    const pipeline = await as('maintainer').Pipelines.create(id, 'main', {
      variables: [{ key: 'K', value: 'v' }],
    });
    expect(pipeline.source).toBe('api');
    expect(rig.asked.at(-1)?.variables).toEqual([{ key: 'K', value: 'v' }]);
    const member = await bot.ProjectMembers.show(id, rig.people.maintainer.user.id, {
      includeInherited: true,
    });
    expect(member.access_level).toBe(40);
    await as('maintainer').MergeRequestApprovals.approve(id, mr.iid, { sha: mr.sha });
    const merged = await as('maintainer').MergeRequests.merge(id, mr.iid, { sha: mr.sha });
    expect(merged.state).toBe('merged');
    const projects = await bot.Projects.all({
      pagination: 'keyset',
      perPage: 1,
      orderBy: 'id',
      sort: 'asc',
      membership: true,
    });
    expect(projects.map((project) => project.path_with_namespace)).toEqual(['team/demo']);
    await expect(as('stranger').Projects.show(id)).rejects.toMatchObject({
      cause: { response: { status: 404 } },
    });
    expect(rig.sandbox.violations).toEqual([]);
    expect(rig.sandbox.problems).toEqual([]);
  });
});
