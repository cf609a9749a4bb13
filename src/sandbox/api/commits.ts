import { accessOf, level, mayPush, requireProject, requireUser } from '../access.ts';
import { now, refsMoved } from '../forge.ts';
import {
  type Commit,
  diff,
  GitError,
  gitText,
  log,
  readCommit,
  resolveCommit,
  resolveRef,
  type Signature,
  updateRef,
  zeroSha,
} from '../git.ts';
import { ActionError, commitActions, type TreeAction } from '../git-merge.ts';
import { paginate } from '../page.ts';
import { flag, objects, oneOf, requiredText, text } from '../params.ts';
import { presentCommit, presentDiff, presentStatus } from '../present.ts';
import { presentMergeRequest } from '../present-merge-request.ts';
import { ApiError, type Call, type Reply } from '../route.ts';
import type { CommitStatus, Project, User } from '../state.ts';
import { requireCommit } from './repository.ts';

/** `GET /projects/:id/repository/commits`. */
export async function listCommits(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const all = flag(call, 'all') === true;
  const since = text(call, 'since');
  const until = text(call, 'until');
  const path = text(call, 'path');
  const ref = text(call, 'ref_name') ?? project.defaultBranch;
  const range = /^(.+)\.\.(.+)$/.exec(ref);
  const start = all ? '--all' : range ? ref : (await requireCommit(project, ref)).id;
  try {
    const commits = await log(project.repository, [
      ...(since === null ? [] : [`--since=${since}`]),
      ...(until === null ? [] : [`--until=${until}`]),
      ...(flag(call, 'first_parent') === true ? ['--first-parent'] : []),
      start,
      '--',
      ...(path === null ? [] : [path]),
    ]);
    return paginate(call, commits, (commit) => presentCommit(call.world, project, commit));
  } catch (error) {
    if (error instanceof GitError) throw new ApiError(404, '404 Commit Not Found');
    throw error;
  }
}

const anyBranch = ['for-each-ref', '--count=1', 'refs/heads/'];

async function stats(project: Project, commit: Commit) {
  const parent = commit.parents[0];
  const numbers = await gitText(project.repository, [
    'diff-tree',
    '--numstat',
    '--root',
    '--no-commit-id',
    '-r',
    ...(parent === undefined ? [] : [parent]),
    commit.id,
  ]);
  let additions = 0;
  let deletions = 0;
  for (const line of numbers.split('\n')) {
    const [plus, minus] = line.split('\t');
    additions += Number(plus) || 0;
    deletions += Number(minus) || 0;
  }
  return { additions, deletions, total: additions + deletions };
}

/** `GET /projects/:id/repository/commits/:sha`. */
export async function getCommit(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const commit = await requireCommit(project, call.params.sha ?? '');
  const latest = [...project.pipelines.values()].filter((pipeline) => pipeline.sha === commit.id).at(-1);
  return {
    status: 200,
    body: {
      ...presentCommit(call.world, project, commit),
      stats: await stats(project, commit),
      status: latest?.status ?? null,
      project_id: project.id,
      last_pipeline: latest
        ? { id: latest.id, iid: latest.iid, status: latest.status, sha: latest.sha }
        : null,
    },
  };
}

/** `GET /projects/:id/repository/commits/:sha/diff`. */
export async function getCommitDiff(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const commit = await requireCommit(project, call.params.sha ?? '');
  const empty = '4b825dc642cb6eb9a060e54bf8d69288fbee4904';
  return paginate(call, await diff(project.repository, commit.parents[0] ?? empty, commit.id), presentDiff);
}

/** `GET /projects/:id/repository/commits/:sha/refs`. */
export async function getCommitRefs(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const commit = await requireCommit(project, call.params.sha ?? '');
  const type = oneOf(call, 'type', ['all', 'branch', 'tag']) ?? 'all';
  const of = async (kind: 'branch' | 'tag', prefix: string) =>
    (
      await gitText(project.repository, [
        'for-each-ref',
        `--contains=${commit.id}`,
        '--format=%(refname)',
        prefix,
      ])
    )
      .split('\n')
      .filter((name) => name !== '')
      .map((name) => ({ type: kind, name: name.slice(prefix.length) }));
  const branches = type === 'tag' ? [] : await of('branch', 'refs/heads/');
  const tags = type === 'branch' ? [] : await of('tag', 'refs/tags/');
  return paginate(call, [...branches, ...tags], (ref) => ref);
}

/** `GET /projects/:id/repository/commits/:sha/merge_requests`. */
export async function getCommitMergeRequests(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const commit = await requireCommit(project, call.params.sha ?? '');
  const found = [...project.mergeRequests.values()].filter(
    (mr) => mr.sha === commit.id || mr.mergeCommitSha === commit.id || mr.squashCommitSha === commit.id,
  );
  return paginate(call, found, (mr) => presentMergeRequest(call.world, project, mr));
}

/** Who the forge writes commits as. */
export function signatureOf(user: User): Signature {
  return { name: user.name, email: `${user.username}@noreply.localhost`, date: now() };
}

function readAction(item: Record<string, unknown>): { action: TreeAction; lastCommit: string | null } {
  const path = typeof item.file_path === 'string' ? item.file_path.replace(/^\/+/, '') : '';
  if (path === '') throw new ApiError(400, { error: 'actions[0][file_path] is missing' });
  if (path.split('/').some((part) => part === '..' || part === '.git' || part === ''))
    throw new ApiError(400, 'Path cannot include directory traversal');
  const encoding = item.encoding === 'base64' ? 'base64' : 'utf8';
  const content = typeof item.content === 'string' ? Buffer.from(item.content, encoding) : null;
  const executable =
    item.execute_filemode === undefined
      ? null
      : item.execute_filemode === true || item.execute_filemode === 'true';
  const lastCommit = typeof item.last_commit_id === 'string' ? item.last_commit_id : null;
  switch (item.action) {
    case 'create':
    case 'update':
      return {
        action: { action: item.action, path, content: content ?? Buffer.alloc(0), executable },
        lastCommit,
      };
    case 'delete':
      return { action: { action: 'delete', path }, lastCommit };
    case 'chmod':
      return { action: { action: 'chmod', path, executable: executable ?? false }, lastCommit };
    case 'move':
      if (typeof item.previous_path !== 'string')
        throw new ApiError(400, { error: 'actions[0][previous_path] is missing' });
      return { action: { action: 'move', path, previousPath: item.previous_path, content }, lastCommit };
    default:
      throw new ApiError(400, { error: 'actions[0][action] does not have a valid value' });
  }
}

/**
 * `POST /projects/:id/repository/commits` (doc: api/commits, "Create a commit with multiple files and actions").
 * 400 for actions that do not fit, for a stale `last_commit_id`, and when the branch moved meanwhile; 403 without push rights.
 */
export async function createCommit(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const user = requireUser(call);
  const branch = requiredText(call, 'branch');
  const message = requiredText(call, 'commit_message');
  const startBranch = text(call, 'start_branch');
  const startSha = text(call, 'start_sha');
  if (startBranch !== null && startSha !== null)
    throw new ApiError(400, { error: 'start_branch, start_sha are mutually exclusive' });
  if (text(call, 'start_project') !== null)
    throw new ApiError(501, { error: 'the sandbox has no forks: start_project' });
  const actions = objects(call, 'actions').map(readAction);
  if (actions.length === 0) throw new ApiError(400, { error: 'actions is missing' });
  if (!mayPush(project, accessOf(project, user, call.token), branch))
    throw new ApiError(403, '403 Forbidden - You are not allowed to push into this branch');
  const ref = `refs/heads/${branch}`;
  const old = await resolveRef(project.repository, ref);
  const force = flag(call, 'force') === true;
  const from =
    startSha !== null
      ? await resolveCommit(project.repository, startSha)
      : startBranch !== null
        ? await resolveRef(project.repository, `refs/heads/${startBranch}`)
        : old;
  const started = startSha !== null || startBranch !== null;
  if (started && from === null)
    throw new ApiError(400, `Cannot find start_branch '${startBranch ?? startSha}'`);
  if (started && old !== null && !force)
    throw new ApiError(
      400,
      `A branch called '${branch}' already exists. Switch to that branch in order to make changes`,
    );
  if (!started && old === null && (await gitText(project.repository, anyBranch)) !== '')
    throw new ApiError(400, 'You can only create or edit files when you are on a branch');
  await refuseStale(project, from, actions);
  const by = signatureOf(user);
  const author = {
    ...by,
    name: text(call, 'author_name') ?? by.name,
    email: text(call, 'author_email') ?? by.email,
  };
  const wanted = actions.map((entry) => entry.action);
  const sha = await commitActions(project.repository, from, wanted, { message, author, by }).catch(
    (error: unknown) => {
      throw error instanceof ActionError ? new ApiError(400, error.message) : error;
    },
  );
  if (!(await updateRef(project.repository, ref, sha, old)))
    throw new ApiError(400, 'Could not update refs/heads/'.concat(branch, '. Please refresh and try again.'));
  await refsMoved(call, project, user, [{ ref, old: old ?? zeroSha, new: sha }]);
  const commit = await requireCommit(project, sha);
  return {
    status: 201,
    body: {
      ...presentCommit(call.world, project, commit),
      stats: await stats(project, commit),
      status: null,
      project_id: project.id,
      last_pipeline: null,
    },
  };
}

/** `last_commit_id` of an action is the last commit known to have touched the file: newer ones refuse the whole commit. */
async function refuseStale(
  project: Project,
  from: string | null,
  actions: { action: TreeAction; lastCommit: string | null }[],
): Promise<void> {
  for (const { action, lastCommit } of actions) {
    if (lastCommit === null || from === null || action.action === 'create') continue;
    const path = action.action === 'move' ? action.previousPath : action.path;
    const last = await gitText(project.repository, ['log', '-1', '--format=%H', from, '--', path]);
    if (last !== '' && last !== lastCommit)
      throw new ApiError(400, `The file has changed since you started editing it: ${path}`);
  }
}

/** `GET /projects/:id/repository/commits/:sha/statuses`. */
export async function listStatuses(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const commit = await requireCommit(project, call.params.sha ?? '');
  const name = text(call, 'name');
  const ref = text(call, 'ref');
  const pipelineId = text(call, 'pipeline_id');
  const every = flag(call, 'all') === true;
  const found = project.statuses.filter(
    (status) =>
      status.sha === commit.id &&
      (name === null || status.name === name) &&
      (ref === null || status.ref === ref) &&
      (pipelineId === null || String(status.pipelineId) === pipelineId),
  );
  const latest = found.filter(
    (status, at) =>
      every ||
      !found.some((other, later) => later > at && other.name === status.name && other.ref === status.ref),
  );
  return paginate(call, latest, (status) => presentStatus(call.world, status));
}

const event = {
  pending: 'enqueue',
  running: 'run',
  success: 'success',
  failed: 'drop',
  canceled: 'cancel',
  skipped: 'skip',
};
const open = ['pending', 'running'];

/**
 * `POST /projects/:id/statuses/:sha`. A status that is pending or running is moved on by the same user; a finished one is
 * followed by a new one. The same open state again is 400 "Cannot transition status" (GitLab's state machine).
 */
export async function setStatus(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const user = requireUser(call);
  const commit = await readCommit(project.repository, call.params.sha ?? '');
  if (!commit || !/^[0-9a-f]{40}$/.test(call.params.sha ?? ''))
    throw new ApiError(404, '404 Commit Not Found');
  const state = oneOf(call, 'state', ['pending', 'running', 'success', 'failed', 'canceled', 'skipped']);
  if (state === null) throw new ApiError(400, { error: 'state is missing' });
  const name = text(call, 'name') ?? text(call, 'context') ?? 'default';
  const pipelineId = text(call, 'pipeline_id');
  const candidates = [...project.pipelines.values()].filter((pipeline) => pipeline.sha === commit.id);
  const pipeline =
    pipelineId === null ? candidates.at(-1) : candidates.find((entry) => entry.id === Number(pipelineId));
  if (pipelineId !== null && !pipeline) throw new ApiError(404, '404 Pipeline Not Found');
  const ref = text(call, 'ref') ?? pipeline?.ref ?? (await firstBranch(project, commit.id));
  if (ref === null) throw new ApiError(404, '404 References for commit Not Found');
  let status: CommitStatus | undefined = project.statuses.find(
    (entry) =>
      entry.sha === commit.id &&
      entry.name === name &&
      entry.ref === ref &&
      entry.authorId === user.id &&
      entry.pipelineId === (pipeline?.id ?? null) &&
      open.includes(entry.status),
  );
  if (status && (status.status === state || (status.status === 'running' && state === 'pending')))
    throw new ApiError(
      400,
      `Cannot transition status via :${event[state]} from :${status.status} (Reason(s): Status cannot transition via "${event[state]}")`,
    );
  if (!status) {
    status = {
      id: call.world.nextId('job'),
      sha: commit.id,
      ref,
      name,
      status: state,
      description: null,
      targetUrl: null,
      pipelineId: pipeline?.id ?? null,
      authorId: user.id,
      createdAt: now(),
    };
    project.statuses.push(status);
  }
  status.status = state;
  status.description = text(call, 'description') ?? status.description;
  status.targetUrl = text(call, 'target_url') ?? status.targetUrl;
  if (pipeline) call.engine.statusSet(project, pipeline);
  return { status: 201, body: presentStatus(call.world, status) };
}

async function firstBranch(project: Project, sha: string): Promise<string | null> {
  const name = await gitText(project.repository, [
    'for-each-ref',
    '--count=1',
    `--contains=${sha}`,
    '--format=%(refname:lstrip=2)',
    'refs/heads/',
  ]);
  return name === '' ? null : name;
}
