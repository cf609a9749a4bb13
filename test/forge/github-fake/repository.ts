import { git, readBlob, resolveCommit, resolveRef, updateRef } from '../../../src/sandbox/git.ts';
import type { Call, FakeCheck, Handler } from './state.ts';
import { absent, created, noContent, ok, paged, simpleUser } from './state.ts';

const zero = '0'.repeat(40);
/** What the Contents API carries at most, in bytes. */
const largestContent = 1024 * 1024;

async function text(repository: string, args: string[], input?: string | Buffer): Promise<string> {
  return (await git(repository, args, input === undefined ? {} : { input })).toString('utf8').trim();
}

const identity = (call: Call) => ({
  GIT_AUTHOR_NAME: call.actor.login,
  GIT_AUTHOR_EMAIL: `${call.actor.login}@example.com`,
  GIT_COMMITTER_NAME: call.actor.login,
  GIT_COMMITTER_EMAIL: `${call.actor.login}@example.com`,
});

const person = { name: 'x', email: 'x@example.com', date: '2026-01-02T03:04:05Z' };

export const repositoryRoutes: Record<string, Handler> = {
  'GET /repos/{owner}/{repo}/branches/{branch}': ({ state, values }) =>
    ok({ name: values.branch, protected: state.isProtected }),
  'GET /repos/{owner}/{repo}': ({ state, actor }) =>
    ok({
      permissions: rolePermissions(state.roles.get(actor.id)),
      id: 1000,
      name: state.name,
      full_name: `${state.owner}/${state.name}`,
      default_branch: 'main',
      owner: { login: state.owner },
    }),
  'GET /repos/{owner}/{repo}/contents/{path}': async ({ state, values, query }) => {
    const commit = await resolveCommit(state.repository, query.get('ref') ?? 'main');
    const file = commit ? await readBlob(state.repository, commit, String(values.path)) : null;
    if (!file) return absent;
    const large = file.bytes.length > largestContent;
    return ok({
      type: 'file',
      path: values.path,
      name: String(values.path).split('/').at(-1),
      sha: file.id,
      size: file.bytes.length,
      encoding: large ? 'none' : 'base64',
      content: large ? '' : file.bytes.toString('base64'),
    });
  },
  'PUT /repos/{owner}/{repo}/contents/{path}': async (call) => {
    const { state, body, values } = call;
    const branch = `refs/heads/${String(body.branch ?? 'main')}`;
    const parent = await resolveRef(state.repository, branch);
    if (!parent) return { status: 404, body: { message: `Branch ${String(body.branch)} not found` } };
    if (await readBlob(state.repository, parent, String(values.path))) {
      return { status: 422, body: { message: 'Invalid request.\n\n"sha" wasn\'t supplied.' } };
    }
    const bytes = Buffer.from(String(body.content), 'base64');
    const blob = await text(state.repository, ['hash-object', '-w', '--stdin'], bytes);
    const tree = await addToTree(state.repository, parent, String(values.path), blob);
    const commit = (
      await git(state.repository, ['commit-tree', tree, '-p', parent, '-m', String(body.message)], {
        env: identity(call),
      })
    )
      .toString()
      .trim();
    await updateRef(state.repository, branch, commit, parent);
    return created({ content: { path: values.path, sha: blob }, commit: { sha: commit } });
  },
  'GET /repos/{owner}/{repo}/git/blobs/{file_sha}': async ({ state, values }) => {
    const bytes = await git(state.repository, ['cat-file', 'blob', String(values.file_sha)]).catch(
      () => null,
    );
    if (!bytes) return absent;
    return ok({
      sha: values.file_sha,
      size: bytes.length,
      encoding: 'base64',
      content: bytes.toString('base64'),
    });
  },
  'POST /repos/{owner}/{repo}/git/blobs': async ({ state, body }) => {
    const bytes = Buffer.from(String(body.content), body.encoding === 'base64' ? 'base64' : 'utf8');
    return created({ sha: await text(state.repository, ['hash-object', '-w', '--stdin'], bytes) });
  },
  'POST /repos/{owner}/{repo}/git/trees': async ({ state, body }) => {
    const entries = body.tree as { path: string; mode: string; sha: string }[];
    let tree = await text(state.repository, ['mktree'], '');
    for (const entry of entries) tree = await addToTree(state.repository, tree, entry.path, entry.sha);
    return created({ sha: tree });
  },
  'POST /repos/{owner}/{repo}/git/commits': async (call) => {
    const { state, body } = call;
    const parents = ((body.parents ?? []) as string[]).flatMap((one) => ['-p', one]);
    const args = ['commit-tree', String(body.tree), ...parents, '-m', String(body.message)];
    const sha = (await git(state.repository, args, { env: identity(call) })).toString().trim();
    return created({ sha, message: body.message, author: person, committer: person });
  },
  'GET /repos/{owner}/{repo}/git/ref/{ref}': async ({ state, values }) => {
    const sha = await resolveRef(state.repository, `refs/${String(values.ref)}`);
    return sha ? ok({ ref: `refs/${String(values.ref)}`, object: { type: 'commit', sha } }) : absent;
  },
  'POST /repos/{owner}/{repo}/git/refs': async ({ state, body }) => {
    const ref = String(body.ref);
    if (await resolveRef(state.repository, ref)) {
      return { status: 422, body: { message: 'Reference already exists' } };
    }
    await updateRef(state.repository, ref, String(body.sha), zero);
    return created({ ref, object: { type: 'commit', sha: body.sha } });
  },
  'GET /repos/{owner}/{repo}/commits/{ref}/statuses': ({ state, values, query }) => {
    const found = state.statuses.filter((one) => one.sha === values.ref).reverse();
    return ok(paged(query, found).map((one) => ({ ...one, creator: simpleUser(one.creator) })));
  },
  'POST /repos/{owner}/{repo}/statuses/{sha}': ({ state, values, body, actor }) => {
    const description = String(body.description ?? '');
    if (description.length > 140) {
      return { status: 422, body: { message: 'description is too long (maximum is 140 characters)' } };
    }
    const status = {
      id: state.nextId(),
      sha: String(values.sha),
      state: body.state as 'pending',
      context: String(body.context ?? 'default'),
      description,
      creator: actor,
    };
    state.statuses.push(status);
    return created({ ...status, creator: simpleUser(actor) });
  },
  'GET /repos/{owner}/{repo}/commits/{ref}/check-runs': ({ state, values, query }) => {
    const found = state.checks.filter(
      (one) => one.sha === values.ref && (!query.has('check_name') || one.name === query.get('check_name')),
    );
    return ok({ total_count: found.length, check_runs: paged(query, found).map(presentCheck) });
  },
  'POST /repos/{owner}/{repo}/check-runs': (call) => {
    const { state, body } = call;
    if (!call.isApp || !state.mayCheck) {
      return { status: 403, body: { message: 'Resource not accessible by integration' } };
    }
    const check: FakeCheck = {
      id: state.nextId(),
      sha: String(body.head_sha),
      name: String(body.name),
      status: 'queued',
      conclusion: null,
      title: '',
      annotations: [],
    };
    state.checks.push(check);
    return created(presentCheck(change(check, body)));
  },
  'PATCH /repos/{owner}/{repo}/check-runs/{check_run_id}': ({ state, values, body }) => {
    const check = state.checks.find((one) => one.id === Number(values.check_run_id));
    return check ? ok(presentCheck(change(check, body))) : absent;
  },
  'GET /repos/{owner}/{repo}/hooks': ({ state, query }) => ok(paged(query, state.hooks).map(presentHook)),
  'POST /repos/{owner}/{repo}/hooks': ({ state, body }) => {
    const config = body.config as { url: string; secret: string };
    const events = body.events as string[];
    const hook = { id: state.nextId(), url: config.url, secret: config.secret, events, active: true };
    state.hooks.push(hook);
    return created(presentHook(hook));
  },
  'PATCH /repos/{owner}/{repo}/hooks/{hook_id}': ({ state, values, body }) => {
    const hook = state.hooks.find((one) => one.id === Number(values.hook_id));
    if (!hook) return absent;
    const config = body.config as { url: string; secret: string };
    const { events, active } = body;
    Object.assign(hook, { url: config.url, secret: config.secret, events, active });
    return ok(presentHook(hook));
  },
  'DELETE /repos/{owner}/{repo}/hooks/{hook_id}': ({ state, values }) => {
    state.hooks = state.hooks.filter((one) => one.id !== Number(values.hook_id));
    return noContent;
  },
  'POST /repos/{owner}/{repo}/hooks/{hook_id}/pings': () => noContent,
  'GET /app/hook/config': ({ state }) => ok({ url: state.hooks[0]?.url ?? '', content_type: 'json' }),
  'PATCH /app/hook/config': ({ state, body }) => {
    const { url, secret } = body;
    state.hooks = [{ id: 1, url: String(url), secret: String(secret), events: ['*'], active: true }];
    return ok({ url: body.url, content_type: 'json' });
  },
  'GET /repos/{owner}/{repo}/releases/tags/{tag}': ({ state, values }) => {
    const release = state.releases.find((one) => one.tag === values.tag);
    return release ? ok(presentRelease(pageOf(state), release)) : absent;
  },
  'POST /repos/{owner}/{repo}/releases': async ({ state, body }) => {
    const tag = String(body.tag_name);
    if (state.releases.some((one) => one.tag === tag)) {
      return { status: 422, body: { message: 'Validation Failed', errors: [{ code: 'already_exists' }] } };
    }
    await updateRef(state.repository, `refs/tags/${tag}`, String(body.target_commitish), zero);
    const release = { id: state.nextId(), tag, name: String(body.name), body: String(body.body) };
    state.releases.push(release);
    return created(presentRelease(pageOf(state), release));
  },
  'PATCH /repos/{owner}/{repo}/releases/{release_id}': ({ state, values, body }) => {
    const release = state.releases.find((one) => one.id === Number(values.release_id));
    if (!release) return absent;
    Object.assign(release, { name: body.name, body: body.body });
    return ok(presentRelease(pageOf(state), release));
  },
};

const rolePermissions = (role: string | undefined): object => ({
  admin: role === 'admin',
  maintain: role === 'admin' || role === 'maintain',
  push: role === 'admin' || role === 'maintain' || role === 'write',
  triage: role !== undefined && role !== 'read',
  pull: true,
});

const pageOf = (state: Call['state']): string => `${state.web}/${state.owner}/${state.name}`;

const presentRelease = (page: string, release: Call['state']['releases'][number]): object => ({
  id: release.id,
  tag_name: release.tag,
  name: release.name,
  body: release.body,
  html_url: `${page}/releases/tag/${release.tag}`,
});

const presentHook = (hook: Call['state']['hooks'][number]): object => ({
  id: hook.id,
  name: 'web',
  active: hook.active,
  events: hook.events,
  config: { url: hook.url, content_type: 'json', secret: '********' },
});

function presentCheck(check: FakeCheck): object {
  const { id, name, status, conclusion } = check;
  const output = { title: check.title, summary: check.title, annotations_count: check.annotations.length };
  return { id, name, head_sha: check.sha, status, conclusion, output };
}

function change(check: FakeCheck, body: Record<string, unknown>): FakeCheck {
  const output = body.output as { title: string; annotations?: FakeCheck['annotations'] } | undefined;
  check.status = String(body.status ?? check.status);
  check.conclusion = (body.conclusion as string | undefined) ?? check.conclusion;
  if (output) check.title = output.title;
  check.annotations.push(...(output?.annotations ?? []));
  return check;
}

async function addToTree(repository: string, base: string, path: string, blob: string): Promise<string> {
  const index = `${repository}/fake-index-${Math.random().toString(36).slice(2)}`;
  const env = { GIT_INDEX_FILE: index };
  await git(repository, ['read-tree', base], { env });
  await git(repository, ['update-index', '--add', '--cacheinfo', `100644,${blob},${path}`], { env });
  const tree = (await git(repository, ['write-tree'], { env })).toString().trim();
  const { rm } = await import('node:fs/promises');
  await rm(index, { force: true });
  return tree;
}
