import {
  accessOf,
  level,
  mayMerge,
  mayPush,
  requireMergeRequest,
  requireProject,
  requireUser,
} from '../access.ts';
import { announceMergeRequest, markMerged, now, refsMoved, systemNote } from '../forge.ts';
import { isAncestor, mergeBase, resolveRef, updateRef, zeroSha } from '../git.ts';
import { commitsBetween, mergeCommit, rebased, squashCommit } from '../git-merge.ts';
import { flag, text } from '../params.ts';
import {
  headPipeline,
  mergeStatus,
  presentApprovals,
  presentMergeRequestFull,
} from '../present-merge-request.ts';
import { ApiError, type Call, type Reply } from '../route.ts';
import type { MergeRequest, Project } from '../state.ts';
import { signatureOf } from './commits.ts';

function refuseOtherHead(call: Call, mr: MergeRequest): void {
  const sha = text(call, 'sha');
  if (sha !== null && sha !== mr.sha)
    throw new ApiError(409, `SHA does not match HEAD of source branch: ${mr.sha}`);
}

/** `GET …/approvals`. */
export function getApprovals(call: Call): Reply {
  const project = requireProject(call, level.reporter);
  const mr = requireMergeRequest(call, project);
  return { status: 200, body: presentApprovals(call.world, project, mr, requireUser(call).id) };
}

/** `POST …/approve` (doc: api/merge_request_approvals): 409 for another `sha`, 401 for who may not or already has. */
export function approve(call: Call): Reply {
  const project = requireProject(call, level.reporter);
  const user = requireUser(call);
  const mr = requireMergeRequest(call, project);
  refuseOtherHead(call, mr);
  const role = accessOf(project, user, call.token);
  if (mr.state !== 'opened' || role < level.developer || mr.approvedBy.includes(user.id))
    throw new ApiError(401, '401 Unauthorized');
  mr.approvedBy.push(user.id);
  mr.updatedAt = now();
  systemNote(call, mr, user.id, 'approved this merge request');
  announceMergeRequest(call, project, mr, 'approved', user.id);
  return { status: 201, body: presentApprovals(call.world, project, mr, user.id) };
}

/** `POST …/unapprove`: 404 for who has not approved. */
export function unapprove(call: Call): Reply {
  const project = requireProject(call, level.reporter);
  const user = requireUser(call);
  const mr = requireMergeRequest(call, project);
  const at = mr.approvedBy.indexOf(user.id);
  if (at < 0) throw new ApiError(404, '404 Not found');
  mr.approvedBy.splice(at, 1);
  mr.updatedAt = now();
  systemNote(call, mr, user.id, 'unapproved this merge request');
  announceMergeRequest(call, project, mr, 'unapproved', user.id);
  return { status: 201, body: presentApprovals(call.world, project, mr, user.id) };
}

/**
 * `PUT …/merge` (doc: api/merge_requests, "Merge a merge request"): 401 for who may not, 405 when it cannot be merged
 * (draft, closed, conflict, pipeline), 409 for another `sha`, 422 when git refuses in the end.
 */
export async function merge(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const user = requireUser(call);
  const mr = requireMergeRequest(call, project);
  if (flag(call, 'auto_merge') === true || flag(call, 'merge_when_pipeline_succeeds') === true) {
    const pipeline = headPipeline(project, mr);
    if (pipeline && !['success', 'failed', 'canceled', 'skipped'].includes(pipeline.status))
      throw new ApiError(501, { error: 'the sandbox does not merge later: auto_merge' });
  }
  if (!mayMerge(project, accessOf(project, user, call.token), mr.targetBranch))
    throw new ApiError(401, '401 Unauthorized');
  const status = await mergeStatus(project, mr);
  if (status !== 'mergeable' && status !== 'conflict') throw new ApiError(405, '405 Method Not Allowed');
  refuseOtherHead(call, mr);
  if (status === 'conflict') throw new ApiError(422, 'Branch cannot be merged');
  const squash = flag(call, 'squash') ?? mr.squash;
  const target = await resolveRef(project.repository, `refs/heads/${mr.targetBranch}`);
  if (target === null) throw new ApiError(422, 'Branch cannot be merged');
  const made = await makeCommits(call, project, mr, target, squash);
  if (made === null) throw new ApiError(422, 'Branch cannot be merged');
  const ref = `refs/heads/${mr.targetBranch}`;
  if (!(await updateRef(project.repository, ref, made.tip, target)))
    throw new ApiError(422, 'Someone pushed to the target branch while it was merged. Please try again.');
  mr.squash = squash;
  markMerged(call, project, mr, user.id, made);
  await refsMoved(call, project, user, [{ ref, old: target, new: made.tip }]);
  if (flag(call, 'should_remove_source_branch') ?? mr.removeSourceBranch)
    await removeSource(call, project, mr);
  const body = await presentMergeRequestFull(call.world, project, mr, { mayMerge: true });
  return { status: 200, body };
}

async function makeCommits(call: Call, project: Project, mr: MergeRequest, target: string, squash: boolean) {
  const by = signatureOf(requireUser(call));
  const author = call.world.users.get(mr.authorId);
  const message =
    text(call, 'merge_commit_message') ??
    `Merge branch '${mr.sourceBranch}' into '${mr.targetBranch}'\n\n${mr.title}\n\nSee merge request ${project.namespace}/${project.path}!${mr.iid}\n`;
  let head = mr.sha;
  let squashCommitSha: string | null = null;
  const commits = await commitsBetween(project.repository, target, mr.sha);
  if (squash && commits.length > 1) {
    squashCommitSha = await squashCommit(
      project.repository,
      target,
      mr.sha,
      text(call, 'squash_commit_message') ?? `${mr.title}\n`,
      author ? signatureOf(author) : by,
      by,
    );
    if (squashCommitSha === null) return null;
    head = squashCommitSha;
  }
  if (project.settings.mergeMethod === 'ff') {
    if (!(await isAncestor(project.repository, target, head))) return null;
    return { tip: head, mergeCommitSha: null, squashCommitSha };
  }
  const commit = await mergeCommit(project.repository, target, head, message, by);
  return commit === null ? null : { tip: commit, mergeCommitSha: commit, squashCommitSha };
}

async function removeSource(call: Call, project: Project, mr: MergeRequest): Promise<void> {
  const ref = `refs/heads/${mr.sourceBranch}`;
  if (mr.sourceBranch === project.defaultBranch) return;
  // Only while it is still what was merged: later commits are not thrown away.
  if (await updateRef(project.repository, ref, null, mr.sha))
    await refsMoved(call, project, requireUser(call), [{ ref, old: mr.sha, new: zeroSha }]);
}

/** `PUT …/rebase`: GitLab does it in the background and answers 202; here it is done when the answer comes. */
export async function rebase(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const user = requireUser(call);
  const mr = requireMergeRequest(call, project);
  if (!mayPush(project, accessOf(project, user, call.token), mr.sourceBranch))
    throw new ApiError(403, '403 Forbidden - Cannot push to source branch');
  const target = await resolveRef(project.repository, `refs/heads/${mr.targetBranch}`);
  if (mr.state !== 'opened' || target === null) throw new ApiError(403, '403 Forbidden');
  if ((await mergeBase(project.repository, target, mr.sha)) === target)
    return { status: 202, body: { rebase_in_progress: false } };
  const old = mr.sha;
  const tip = await rebased(project.repository, target, old, signatureOf(user));
  const ref = `refs/heads/${mr.sourceBranch}`;
  if (tip === null || !(await updateRef(project.repository, ref, tip, old)))
    throw new ApiError(409, 'Failed to rebase. Should be merged locally.');
  await refsMoved(call, project, user, [{ ref, old, new: tip }]);
  return { status: 202, body: { rebase_in_progress: false } };
}
