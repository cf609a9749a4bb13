import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openRig, type Rig } from './forge-rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await openRig();
});
afterAll(() => rig.close());

const p = '/projects/team%2Fdemo';

/** A new branch with one commit; its sha. */
async function branch(name: string, file = `${name.replaceAll('/', '-')}.txt`, content = `${name}\n`) {
  const made = await rig.call('developer', 'POST', `${p}/repository/commits`, {
    branch: name,
    start_branch: 'main',
    commit_message: `add ${file}`,
    actions: [{ action: 'create', file_path: file, content }],
  });
  expect(made.status).toBe(201);
  return String(made.json.id);
}

async function change(source: string, more: object = {}) {
  const made = await rig.call('developer', 'POST', `${p}/merge_requests`, {
    source_branch: source,
    target_branch: 'main',
    title: `Merge ${source}`,
    ...more,
  });
  expect(made.status).toBe(201);
  return made.json;
}

describe('who may what', () => {
  it('answers 401 without a token, 404 for what one may not see, 403 for what one may not do', async () => {
    expect(await rig.call(null, 'GET', p)).toMatchObject({
      status: 401,
      json: { message: '401 Unauthorized' },
    });
    expect(await rig.call('stranger', 'GET', p)).toMatchObject({
      status: 404,
      json: { message: '404 Project Not Found' },
    });
    expect(await rig.call('developer', 'GET', `${p}/hooks`)).toMatchObject({
      status: 403,
      json: { message: '403 Forbidden' },
    });
    expect((await rig.call('developer', 'GET', `${p}`)).json).toMatchObject({
      id: 1,
      path_with_namespace: 'team/demo',
    });
    const { id } = rig.people.reporter.user;
    expect((await rig.call('developer', 'GET', `${p}/members/all/${id}`)).json.access_level).toBe(20);
    expect((await rig.call('developer', 'GET', `${p}/members/all/999`)).status).toBe(404);
  });
});

describe('strictness', () => {
  it('answers 501 for a path that is not in the table and 400 for a parameter GitLab does not have, and keeps both', async () => {
    const before = rig.sandbox.violations.length;
    expect(await rig.call('owner', 'GET', `${p}/snippets`)).toMatchObject({ status: 501 });
    expect(await rig.call('owner', 'GET', `${p}/issues?nonsense=1`)).toMatchObject({ status: 400 });
    expect(await rig.call('owner', 'POST', `${p}/pipeline`, { ref: 'main', nonsense: 1 })).toMatchObject({
      status: 400,
    });
    expect(rig.sandbox.violations.slice(before).map((entry) => [entry.status, entry.reason])).toEqual([
      [501, 'not in the route table'],
      [400, 'GET /projects/:id/issues has no parameter nonsense'],
      [400, 'POST /projects/:id/pipeline has no parameter nonsense'],
    ]);
    expect(rig.sandbox.requests.at(-1)).toMatchObject({
      route: '/projects/:id/pipeline',
      body: ['ref', 'nonsense'],
    });
  });
});

describe('files and commits', () => {
  it('reads a file as JSON and raw, and lists a tree', async () => {
    const file = await rig.call('reporter', 'GET', `${p}/repository/files/README.md?ref=main`);
    expect(Buffer.from(file.json.content, 'base64').toString()).toBe('hello\n');
    const raw = await rig.call('reporter', 'GET', `${p}/repository/files/README.md/raw?ref=main`);
    expect(raw.text).toBe('hello\n');
    expect((await rig.call('reporter', 'GET', `${p}/repository/files/no%2Fsuch?ref=main`)).status).toBe(404);
    expect((await rig.call('reporter', 'GET', `${p}/repository/tree?recursive=true`)).json[0].path).toBe(
      'README.md',
    );
  });

  it('refuses a commit whose file changed since', async () => {
    const first = await branch('exp/stale', 'x.txt');
    const update = (last_commit_id: string) =>
      rig.call('developer', 'POST', `${p}/repository/commits`, {
        branch: 'exp/stale',
        commit_message: 'update',
        actions: [{ action: 'update', file_path: 'x.txt', content: `${last_commit_id}\n`, last_commit_id }],
      });
    expect((await update(first)).status).toBe(201);
    const stale = await update(first);
    expect([stale.status, stale.json.message]).toEqual([400, expect.stringContaining('changed since')]);
  });

  it('refuses actions that do not fit, unknown branches and protected ones', async () => {
    const post = (body: object) =>
      rig.call('developer', 'POST', `${p}/repository/commits`, { commit_message: 'm', ...body });
    const create = [{ action: 'create', file_path: 'README.md', content: '' }];
    expect(await post({ branch: 'exp/stale', actions: create })).toMatchObject({
      status: 400,
      json: { message: 'A file with this name already exists' },
    });
    expect((await post({ branch: 'nowhere', actions: create })).status).toBe(400);
    expect((await post({ branch: 'main', actions: create })).status).toBe(403);
  });

  it('makes, moves, deletes and marks files in one commit', async () => {
    await branch('exp/actions', 'one.txt');
    const made = await rig.call('developer', 'POST', `${p}/repository/commits`, {
      branch: 'exp/actions',
      commit_message: 'many',
      actions: [
        {
          action: 'create',
          file_path: 'bin/run',
          content: Buffer.from('#!/bin/sh\n').toString('base64'),
          encoding: 'base64',
        },
        { action: 'chmod', file_path: 'bin/run', execute_filemode: true },
        { action: 'move', file_path: 'two.txt', previous_path: 'one.txt' },
        { action: 'delete', file_path: 'README.md' },
      ],
    });
    expect(made.json.stats).toMatchObject({ additions: 2, deletions: 2 });
    const tree = await rig.call('developer', 'GET', `${p}/repository/tree?ref=exp/actions&recursive=true`);
    expect(tree.json.map((entry: { mode: string; path: string }) => `${entry.mode} ${entry.path}`)).toEqual([
      '040000 bin',
      '100755 bin/run',
      '100644 two.txt',
    ]);
  });
});

describe('merge requests', () => {
  it('open with a head ref and a pipeline of their own, once per pair of branches', async () => {
    const sha = await branch('mr/open');
    const mr = await change('mr/open');
    await rig.sandbox.settled();
    expect(mr).toMatchObject({
      sha,
      state: 'opened',
      detailed_merge_status: 'mergeable',
      changes_count: '1',
    });
    expect(await rig.git(rig.project.repository, 'rev-parse', `refs/merge-requests/${mr.iid}/head`)).toBe(
      sha,
    );
    expect(rig.asked.at(-1)).toMatchObject({ source: 'merge_request_event', mergeRequestIid: mr.iid, sha });
    const again = await rig.call('developer', 'POST', `${p}/merge_requests`, {
      source_branch: 'mr/open',
      target_branch: 'main',
      title: 'again',
    });
    expect(again.status).toBe(409);
  });

  it('follow their branch, keep approvals, and refuse approval of another commit', async () => {
    const old = await branch('mr/approve', 'approve.txt');
    const { iid } = await change('mr/approve');
    const path = `${p}/merge_requests/${iid}`;
    expect((await rig.call('maintainer', 'POST', `${path}/approve`, { sha: '0'.repeat(40) })).status).toBe(
      409,
    );
    expect((await rig.call('reporter', 'POST', `${path}/approve`)).status).toBe(401);
    expect((await rig.call('maintainer', 'POST', `${path}/approve`, { sha: old })).status).toBe(201);
    expect((await rig.call('maintainer', 'POST', `${path}/approve`)).status).toBe(401);
    const pushed = await rig.call('developer', 'POST', `${p}/repository/commits`, {
      branch: 'mr/approve',
      commit_message: 'more',
      actions: [{ action: 'update', file_path: 'approve.txt', content: 'more\n' }],
    });
    const now = await rig.call('developer', 'GET', path);
    expect(now.json.sha).toBe(pushed.json.id);
    expect(await rig.git(rig.project.repository, 'rev-parse', `refs/merge-requests/${iid}/head`)).toBe(
      now.json.sha,
    );
    const approvals = await rig.call('developer', 'GET', `${path}/approvals`);
    expect(approvals.json.approved_by).toMatchObject([{ user: { username: 'maintainer' } }]);
    expect((await rig.call('maintainer', 'POST', `${path}/unapprove`)).status).toBe(201);
    expect((await rig.call('maintainer', 'POST', `${path}/unapprove`)).status).toBe(404);
  });

  it('merge with a real merge commit; the wrong sha is 409, a draft 405, no right 401', async () => {
    const sha = await branch('mr/merge');
    const { iid } = await change('mr/merge', { title: 'Draft: later' });
    const path = `${p}/merge_requests/${iid}`;
    expect((await rig.call('maintainer', 'PUT', `${path}/merge`)).status).toBe(405);
    await rig.call('developer', 'PUT', path, { title: 'now' });
    expect((await rig.call('developer', 'PUT', `${path}/merge`)).status).toBe(401);
    expect((await rig.call('maintainer', 'PUT', `${path}/merge`, { sha: '1'.repeat(40) })).status).toBe(409);
    const merged = await rig.call('maintainer', 'PUT', `${path}/merge`, {
      sha,
      should_remove_source_branch: true,
    });
    expect(merged.json).toMatchObject({ state: 'merged', sha });
    const tip = await rig.git(rig.project.repository, 'rev-parse', 'main', 'main^2');
    expect(tip.split('\n')).toEqual([merged.json.merge_commit_sha, sha]);
    expect((await rig.call('developer', 'GET', `${p}/repository/branches/mr%2Fmerge`)).status).toBe(404);
    expect((await rig.call('maintainer', 'PUT', `${path}/merge`)).status).toBe(405);
    await rig.sandbox.settled();
    expect(rig.asked.at(-1)).toMatchObject({
      source: 'push',
      ref: 'main',
      sha: merged.json.merge_commit_sha,
    });
  });

  it('squash several commits into one', async () => {
    await branch('mr/squash', 's.txt');
    await rig.call('developer', 'POST', `${p}/repository/commits`, {
      branch: 'mr/squash',
      commit_message: 'second',
      actions: [{ action: 'update', file_path: 's.txt', content: '2\n' }],
    });
    const { iid } = await change('mr/squash');
    const merged = await rig.call('maintainer', 'PUT', `${p}/merge_requests/${iid}/merge`, { squash: true });
    const parents = await rig.git(
      rig.project.repository,
      'rev-list',
      '--parents',
      '-1',
      merged.json.squash_commit_sha,
    );
    expect(parents.split(' ')).toHaveLength(2);
    expect(await rig.git(rig.project.repository, 'show', `${merged.json.merge_commit_sha}:s.txt`)).toBe('2');
  });

  it('say when they conflict, answer 422, and merge after a rebase is impossible too', async () => {
    await branch('mr/left', 'clash.txt', 'left\n');
    await branch('mr/right', 'clash.txt', 'right\n');
    const left = await change('mr/left');
    const right = await change('mr/right');
    expect((await rig.call('maintainer', 'PUT', `${p}/merge_requests/${left.iid}/merge`)).status).toBe(200);
    const path = `${p}/merge_requests/${right.iid}`;
    expect((await rig.call('developer', 'GET', path)).json).toMatchObject({
      detailed_merge_status: 'conflict',
      has_conflicts: true,
    });
    expect((await rig.call('maintainer', 'PUT', `${path}/merge`)).status).toBe(422);
    expect((await rig.call('developer', 'PUT', `${path}/rebase`)).status).toBe(409);
  });

  it('rebase on a moved target', async () => {
    await branch('mr/rebase', 'r.txt');
    const { iid } = await change('mr/rebase');
    await rig.call('maintainer', 'POST', `${p}/repository/commits`, {
      branch: 'main',
      commit_message: 'move on',
      actions: [{ action: 'create', file_path: 'moved.txt', content: '' }],
    });
    expect((await rig.call('developer', 'PUT', `${p}/merge_requests/${iid}/rebase`)).status).toBe(202);
    const { json } = await rig.call('developer', 'GET', `${p}/merge_requests/${iid}`);
    expect(json.diff_refs.base_sha).toBe(await rig.git(rig.project.repository, 'rev-parse', 'main'));
  });

  it('are merged by a push that contains them', async () => {
    await branch('mr/bypass', 'by.txt');
    const { iid } = await change('mr/bypass');
    const clone = await rig.clone('maintainer');
    await rig.git(clone, 'merge', '--quiet', '--no-edit', 'origin/mr/bypass');
    await rig.git(clone, 'push', '--quiet', 'origin', 'main');
    expect((await rig.call('developer', 'GET', `${p}/merge_requests/${iid}`)).json).toMatchObject({
      state: 'merged',
      merge_user: { username: 'maintainer' },
    });
  });
});

describe('notes, statuses and paging', () => {
  it('pages through notes with GitLab’s headers', async () => {
    await branch('mr/notes');
    const { iid } = await change('mr/notes');
    const path = `${p}/merge_requests/${iid}/notes`;
    for (let at = 1; at <= 5; at += 1) await rig.call('reporter', 'POST', path, { body: `note ${at}` });
    const page = await rig.call('reporter', 'GET', `${path}?per_page=2&page=2&sort=asc`);
    expect(page.json.map((note: { body: string }) => note.body)).toEqual(['note 3', 'note 4']);
    expect(Object.fromEntries(page.headers)).toMatchObject({
      'x-page': '2',
      'x-next-page': '3',
      'x-prev-page': '1',
      'x-total': '5',
      'x-total-pages': '3',
      link: expect.stringMatching(/page=3.*rel="next"/),
    });
    const keyset = await rig.call('reporter', 'GET', `${path}?per_page=3&pagination=keyset&sort=asc`);
    const next = /<([^>]+)>; rel="next"/.exec(keyset.headers.get('link') ?? '')?.[1] ?? '';
    const rest = await rig.call('reporter', 'GET', next.slice(`${rig.sandbox.url}/api/v4`.length));
    expect(rest.json.map((note: { body: string }) => note.body)).toEqual(['note 4', 'note 5']);
    expect(rest.headers.get('link')).toBeNull();
  });

  it('lets only the author and maintainers edit a note', async () => {
    const [mr] = (await rig.call('owner', 'GET', `${p}/merge_requests?source_branch=mr/notes`)).json;
    const path = `${p}/merge_requests/${mr.iid}/notes`;
    const { id } = (await rig.call('reporter', 'POST', path, { body: 'mine' })).json;
    expect((await rig.call('developer', 'PUT', `${path}/${id}`, { body: 'yours' })).status).toBe(403);
    expect((await rig.call('reporter', 'PUT', `${path}/${id}`, { body: 'edited' })).json.body).toBe('edited');
    expect((await rig.call('reporter', 'POST', path, { body: 'x'.repeat(1_000_001) })).status).toBe(400);
    const emoji = await rig.call('owner', 'POST', `${path}/${id}/award_emoji`, { name: 'eyes' });
    expect(emoji.json).toMatchObject({ name: 'eyes', awardable_id: id });
    const thread = await rig.call('owner', 'POST', `${p}/merge_requests/${mr.iid}/discussions`, {
      body: 'a thread',
    });
    const reply = await rig.call(
      'reporter',
      'POST',
      `${p}/merge_requests/${mr.iid}/discussions/${thread.json.id}/notes`,
      {
        body: 'a reply',
      },
    );
    expect(reply.status).toBe(201);
  });

  it('moves a status on and refuses the same open state again', async () => {
    const sha = await branch('st/one');
    await rig.sandbox.settled();
    const set = (state: string) =>
      rig.call('developer', 'POST', `${p}/statuses/${sha}`, { state, name: 'cdl/gate' });
    expect((await set('running')).json.status).toBe('running');
    expect(await set('running')).toMatchObject({
      status: 400,
      json: { message: expect.stringMatching(/^Cannot transition status via :run from :running/) },
    });
    expect((await set('success')).json.status).toBe('success');
    const found = await rig.call('reporter', 'GET', `${p}/repository/commits/${sha}/statuses`);
    expect(found.json).toMatchObject([
      { name: 'cdl/gate', status: 'success', author: { username: 'developer' } },
    ]);
  });
});

describe('pipelines', () => {
  it('start with variables and inputs, by token too, and tell why they do not', async () => {
    const body = { ref: 'main', variables: [{ key: 'A', value: '1' }], inputs: { candidate: 'sha256:1' } };
    const made = await rig.call('maintainer', 'POST', `${p}/pipeline`, body);
    expect(made.json).toMatchObject({ source: 'api', ref: 'main' });
    expect(rig.asked.at(-1)).toMatchObject({
      variables: [{ key: 'A', value: '1' }],
      inputs: { candidate: 'sha256:1' },
    });
    const refused = await rig.call('maintainer', 'POST', `${p}/pipeline`, {
      ref: 'main',
      variables: [{ key: 'REFUSE', value: '1' }],
    });
    expect([refused.status, refused.json.message.base]).toEqual([
      400,
      [expect.stringContaining('will not run')],
    ]);
    expect((await rig.call('developer', 'POST', `${p}/pipeline`, { ref: 'main' })).status).toBe(400);
    const { token } = (await rig.call('maintainer', 'POST', `${p}/triggers`, { description: 'evaluation' }))
      .json;
    const form = new URLSearchParams({ token, ref: 'main', 'variables[B]': '2', 'inputs[seed]': '3' });
    const response = await fetch(`${rig.sandbox.url}/api/v4/projects/1/trigger/pipeline`, {
      method: 'POST',
      body: form,
    });
    expect(response.status).toBe(201);
    expect(rig.asked.at(-1)).toMatchObject({
      source: 'trigger',
      userId: rig.people.maintainer.user.id,
      variables: [{ key: 'B', value: '2' }],
      inputs: { seed: '3' },
    });
    const wrong = await rig.call(null, 'POST', `${p}/trigger/pipeline`, { token: 'no', ref: 'main' });
    expect(wrong.status).toBe(404);
  });
});

describe('everything else the bot and the steps use', () => {
  it('keeps deployments and environments', async () => {
    const sha = await rig.git(rig.project.repository, 'rev-parse', 'main');
    const body = { environment: 'production', sha, ref: 'main', tag: false, status: 'running' };
    const made = await rig.call('developer', 'POST', `${p}/deployments`, body);
    expect(made.json).toMatchObject({
      status: 'running',
      environment: { name: 'production', tier: 'production' },
    });
    const path = `${p}/deployments/${made.json.id}`;
    expect((await rig.call('developer', 'PUT', path, { status: 'success' })).json.status).toBe('success');
    expect((await rig.call('developer', 'PUT', path, { status: 'failed' })).status).toBe(400);
    const found = await rig.call('reporter', 'GET', `${p}/environments?name=production`);
    const one = await rig.call('reporter', 'GET', `${p}/environments/${found.json[0].id}`);
    expect(one.json.last_deployment.sha).toBe(sha);
  });

  it('takes uploads and answers their markdown', async () => {
    const form = new FormData();
    form.set('file', new Blob([Buffer.from('png')], { type: 'image/png' }), 'loss curve.png');
    const response = await fetch(`${rig.sandbox.url}/api/v4${p}/uploads`, {
      method: 'POST',
      body: form,
      headers: { authorization: `Bearer ${rig.people.developer.token.token}` },
    });
    const { markdown, url } = JSON.parse(await response.text());
    expect(markdown).toBe(`![loss_curve](${url})`);
    expect((await rig.call('developer', 'GET', `${p}${url}`)).text).toBe('png');
  });

  it('keeps generic packages byte for byte', async () => {
    const bytes = Buffer.from([0, 1, 2, 255]);
    const url = `${rig.sandbox.url}/api/v4${p}/packages/generic/fashion/1.0.0/model.tar`;
    const headers = { 'private-token': rig.people.developer.token.token };
    expect((await fetch(url, { method: 'PUT', body: bytes, headers })).status).toBe(201);
    expect(Buffer.from(await (await fetch(url, { headers })).arrayBuffer())).toEqual(bytes);
  });

  it('keeps variables, protected branches, issues and tags', async () => {
    expect((await rig.call('developer', 'GET', `${p}/variables`)).status).toBe(403);
    const made = await rig.call('maintainer', 'POST', `${p}/variables`, {
      key: 'CDL_KEY',
      value: 'v',
      protected: true,
    });
    expect(made.json).toMatchObject({ key: 'CDL_KEY', protected: true, environment_scope: '*' });
    expect((await rig.call('maintainer', 'DELETE', `${p}/variables/CDL_KEY`)).status).toBe(204);
    const rule = { name: 'release/*', push_access_level: 0, merge_access_level: 40 };
    expect((await rig.call('maintainer', 'POST', `${p}/protected_branches`, rule)).status).toBe(201);
    const refused = await rig.call('maintainer', 'POST', `${p}/repository/branches`, {
      branch: 'release/1',
      ref: 'main',
    });
    expect(refused.status).toBe(403);
    const issue = await rig.call('reporter', 'POST', `${p}/issues`, { title: 'Drift', labels: 'a,b' });
    expect(issue.json.labels).toEqual(['a', 'b']);
    const tag = await rig.call('developer', 'POST', `${p}/repository/tags`, {
      tag_name: 'v1',
      ref: 'main',
      message: 'one',
    });
    expect([tag.status, tag.json.message]).toEqual([201, 'one']);
  });
});
