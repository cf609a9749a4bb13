import { accessOf, level, mayMerge, requireMergeRequest, requireProject, requireUser } from '../access.ts';
import { announceMergeRequest, mergeRequestPipeline, mergeRequestRef, now } from '../forge.ts';
import { diff, resolveRef, updateRef } from '../git.ts';
import { commitsBetween } from '../git-merge.ts';
import { paginate, sorted } from '../page.ts';
import { flag, list, oneOf, requiredText, text } from '../params.ts';
import { presentCommit, presentDiff, presentPipelineBasic } from '../present.ts';
import { diffRefs, presentMergeRequest, presentMergeRequestFull } from '../present-merge-request.ts';
import { ApiError, type Call, type Forge, type Reply } from '../route.ts';
import type { MergeRequest, Project, User } from '../state.ts';

/** Whether a title marks a merge request as a draft (doc: user/project/merge_requests/drafts). */
export function isDraft(title: string): boolean {
  return /^\s*(draft:|\[draft\]|\(draft\))/i.test(title);
}

/** `GET /projects/:id/merge_requests`. */
export function listMergeRequests(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const state = oneOf(call, 'state', ['opened', 'closed', 'locked', 'merged', 'all']) ?? 'all';
  const source = text(call, 'source_branch');
  const target = text(call, 'target_branch');
  const author = text(call, 'author_id');
  const search = text(call, 'search')?.toLowerCase() ?? null;
  const iids = list(call, 'iids');
  const labels = list(call, 'labels');
  const draft = oneOf(call, 'wip', ['yes', 'no']);
  const after = text(call, 'updated_after');
  const found = [...project.mergeRequests.values()].filter(
    (mr) =>
      (state === 'all' || mr.state === state) &&
      (source === null || mr.sourceBranch === source) &&
      (target === null || mr.targetBranch === target) &&
      (author === null || String(mr.authorId) === author) &&
      (search === null || `${mr.title}\n${mr.description}`.toLowerCase().includes(search)) &&
      (iids === null || iids.includes(String(mr.iid))) &&
      (labels === null || labels.every((label) => mr.labels.includes(label))) &&
      (draft === null || mr.draft === (draft === 'yes')) &&
      (after === null || Date.parse(mr.updatedAt) >= Date.parse(after)),
  );
  const order = text(call, 'order_by') ?? 'created_at';
  const key = (mr: MergeRequest) =>
    order === 'updated_at' ? mr.updatedAt : order === 'title' ? mr.title : mr.id;
  return paginate(call, sorted(found, key, call.query.sort), (mr) =>
    presentMergeRequest(call.world, project, mr),
  );
}

async function full(call: Call, project: Project, mr: MergeRequest, status = 200): Promise<Reply> {
  const role = accessOf(project, call.user, call.token);
  const body = await presentMergeRequestFull(call.world, project, mr, {
    mayMerge: mayMerge(project, role, mr.targetBranch),
  });
  return { status, body };
}

/** `GET /projects/:id/merge_requests/:merge_request_iid`. */
export function getMergeRequest(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  return full(call, project, requireMergeRequest(call, project));
}

/** What a new merge request is made of. */
export interface NewMergeRequest {
  sourceBranch: string;
  targetBranch: string;
  title: string;
  description: string;
  labels: string[];
  reviewerIds: number[];
  squash: boolean;
  removeSourceBranch: boolean;
}

/** Opens a merge request, announces it and asks for its pipeline. Throws an ApiError 409 when one is open for these branches. */
export async function openMergeRequest(
  forge: Forge,
  project: Project,
  author: User,
  wanted: NewMergeRequest,
): Promise<MergeRequest> {
  const sha = await resolveRef(project.repository, `refs/heads/${wanted.sourceBranch}`);
  const target = await resolveRef(project.repository, `refs/heads/${wanted.targetBranch}`);
  const problems: string[] = [];
  if (wanted.sourceBranch === wanted.targetBranch)
    problems.push("You can't use same project/branch for source and target");
  if (sha === null) problems.push(`Source branch "${wanted.sourceBranch}" does not exist`);
  if (target === null) problems.push(`Target branch "${wanted.targetBranch}" does not exist`);
  if (sha === null || problems.length > 0) throw new ApiError(422, { error: problems });
  for (const other of project.mergeRequests.values()) {
    if (
      other.state === 'opened' &&
      other.sourceBranch === wanted.sourceBranch &&
      other.targetBranch === wanted.targetBranch
    )
      throw new ApiError(409, {
        message: [`Another open merge request already exists for this source branch: !${other.iid}`],
      });
  }
  const at = now();
  const mr: MergeRequest = {
    ...wanted,
    id: forge.world.nextId('merge_request'),
    iid: forge.world.nextId(`merge_request:${project.id}`),
    projectId: project.id,
    sourceProjectId: project.id,
    authorId: author.id,
    state: 'opened',
    draft: isDraft(wanted.title),
    sha,
    mergeCommitSha: null,
    squashCommitSha: null,
    mergedBy: null,
    approvedBy: [],
    notes: [],
    createdAt: at,
    updatedAt: at,
    mergedAt: null,
  };
  project.mergeRequests.set(mr.iid, mr);
  await updateRef(project.repository, mergeRequestRef(mr.iid), sha, null);
  announceMergeRequest(forge, project, mr, 'open', author.id);
  forge.later(project, () => mergeRequestPipeline(forge, project, mr, author.id));
  return mr;
}

/** `POST /projects/:id/merge_requests`. */
export async function createMergeRequest(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const target = text(call, 'target_project_id');
  if (target !== null && Number(target) !== project.id)
    throw new ApiError(501, { error: 'the sandbox has no forks: target_project_id' });
  const mr = await openMergeRequest(call, project, requireUser(call), {
    sourceBranch: requiredText(call, 'source_branch'),
    targetBranch: requiredText(call, 'target_branch'),
    title: requiredText(call, 'title'),
    description: text(call, 'description') ?? '',
    labels: list(call, 'labels') ?? [],
    reviewerIds: (list(call, 'reviewer_ids') ?? []).map(Number),
    squash: flag(call, 'squash') ?? false,
    removeSourceBranch: flag(call, 'remove_source_branch') ?? false,
  });
  return full(call, project, mr, 201);
}

/** `PUT /projects/:id/merge_requests/:merge_request_iid`: by its author or a Developer. */
export async function editMergeRequest(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const user = requireUser(call);
  const mr = requireMergeRequest(call, project);
  if (mr.authorId !== user.id && accessOf(project, user, call.token) < level.developer)
    throw new ApiError(403, '403 Forbidden');
  const changes: Record<string, unknown> = {};
  const change = <K extends 'title' | 'description' | 'targetBranch'>(
    key: K,
    name: string,
    value: string | null,
  ) => {
    if (value === null || value === mr[key]) return;
    changes[name] = { previous: mr[key], current: value };
    mr[key] = value;
  };
  const target = text(call, 'target_branch');
  if (target !== null && (await resolveRef(project.repository, `refs/heads/${target}`)) === null)
    throw new ApiError(422, { error: [`Target branch "${target}" does not exist`] });
  change('title', 'title', text(call, 'title'));
  change('description', 'description', text(call, 'description'));
  change('targetBranch', 'target_branch', target);
  if (isDraft(mr.title) !== mr.draft) {
    changes.draft = { previous: mr.draft, current: !mr.draft };
    mr.draft = !mr.draft;
  }
  const add = list(call, 'add_labels') ?? [];
  const remove = list(call, 'remove_labels') ?? [];
  const labels = [
    ...new Set([...(list(call, 'labels') ?? mr.labels), ...add].filter((label) => !remove.includes(label))),
  ];
  if (labels.join('\n') !== mr.labels.join('\n')) {
    const titled = (names: string[]) => names.map((title) => ({ title }));
    changes.labels = { previous: titled(mr.labels), current: titled(labels) };
    mr.labels = labels;
  }
  const reviewers = list(call, 'reviewer_ids')
    ?.map(Number)
    .filter((id) => id > 0);
  if (reviewers && reviewers.join() !== mr.reviewerIds.join()) {
    // The hook writes reviewers as a pair of lists, unlike every other change.
    changes.reviewers = [mr.reviewerIds.map((id) => ({ id })), reviewers.map((id) => ({ id }))];
    mr.reviewerIds = reviewers;
  }
  mr.squash = flag(call, 'squash') ?? mr.squash;
  mr.removeSourceBranch = flag(call, 'remove_source_branch') ?? mr.removeSourceBranch;
  mr.updatedAt = now();
  const step = oneOf(call, 'state_event', ['close', 'reopen']);
  if (step === 'close' && mr.state === 'opened') {
    mr.state = 'closed';
    announceMergeRequest(call, project, mr, 'close', user.id);
  } else if (step === 'reopen' && mr.state === 'closed') {
    mr.state = 'opened';
    announceMergeRequest(call, project, mr, 'reopen', user.id);
  } else if (Object.keys(changes).length > 0) {
    announceMergeRequest(call, project, mr, 'update', user.id, { changes });
  }
  return full(call, project, mr);
}

async function filesOf(project: Project, mr: MergeRequest) {
  const refs = await diffRefs(project, mr);
  return refs.base_sha === null ? [] : diff(project.repository, refs.base_sha, mr.sha);
}

/** `GET …/merge_requests/:iid/diffs`. */
export async function listDiffs(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const mr = requireMergeRequest(call, project);
  return paginate(call, await filesOf(project, mr), presentDiff);
}

/** `GET …/merge_requests/:iid/changes`: the merge request with all its diffs. */
export async function getChanges(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const mr = requireMergeRequest(call, project);
  const files = await filesOf(project, mr);
  const { body } = await full(call, project, mr);
  return { status: 200, body: { ...Object(body), changes: files.map(presentDiff), overflow: false } };
}

/** `GET …/merge_requests/:iid/commits`, newest first. */
export async function listMergeRequestCommits(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const mr = requireMergeRequest(call, project);
  const { base_sha: base } = await diffRefs(project, mr);
  const commits = base === null ? [] : await commitsBetween(project.repository, base, mr.sha);
  return paginate(call, commits, (commit) => presentCommit(call.world, project, commit));
}

/** `GET …/merge_requests/:iid/pipelines`: its own and its branch's, newest first. */
export function listMergeRequestPipelines(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const mr = requireMergeRequest(call, project);
  const found = [...project.pipelines.values()].filter(
    (pipeline) =>
      pipeline.mergeRequestIid === mr.iid ||
      (!pipeline.tag &&
        pipeline.source !== 'merge_request_event' &&
        pipeline.ref === mr.sourceBranch &&
        pipeline.sha === mr.sha),
  );
  return paginate(
    call,
    sorted(found, (pipeline) => pipeline.id, 'desc'),
    (pipeline) => presentPipelineBasic(call.world, project, pipeline),
  );
}

/** `POST …/merge_requests/:iid/pipelines`. */
export async function createMergeRequestPipeline(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const mr = requireMergeRequest(call, project);
  const outcome = await mergeRequestPipeline(call, project, mr, requireUser(call).id);
  if (outcome.kind === 'refused') throw new ApiError(400, { message: { base: outcome.messages } });
  return { status: 201, body: presentPipelineBasic(call.world, project, outcome.pipeline) };
}
