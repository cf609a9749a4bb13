import { fullPath, level } from './access.ts';
import { diff, mergeBase, readCommit, resolveRef } from './git.ts';
import { mergedTree } from './git-merge.ts';
import { presentPipeline, presentUserId, projectUrl } from './present.ts';
import type { MergeRequest, Pipeline, Project, World } from './state.ts';

/** Whether a merge request can be merged and, if not, why: `detailed_merge_status` (doc: api/merge_requests, "Merge status"). */
export type MergeStatus =
  | 'mergeable'
  | 'not_open'
  | 'draft_status'
  | 'conflict'
  | 'need_rebase'
  | 'commits_status'
  | 'ci_must_pass'
  | 'ci_still_running';

/** The newest pipeline of a merge request's head, its own before its branch's; null when it has none. */
export function headPipeline(project: Project, mr: MergeRequest): Pipeline | null {
  const all = [...project.pipelines.values()].filter(
    (pipeline) =>
      pipeline.sha === mr.sha &&
      (pipeline.mergeRequestIid === mr.iid ||
        (pipeline.source !== 'merge_request_event' && pipeline.ref === mr.sourceBranch && !pipeline.tag)),
  );
  return (
    all
      .sort(
        (a, b) => Number(a.mergeRequestIid === mr.iid) - Number(b.mergeRequestIid === mr.iid) || a.id - b.id,
      )
      .at(-1) ?? null
  );
}

/** Looks at the repository to say whether a merge request can be merged now. */
export async function mergeStatus(project: Project, mr: MergeRequest): Promise<MergeStatus> {
  if (mr.state !== 'opened') return 'not_open';
  const target = await resolveRef(project.repository, `refs/heads/${mr.targetBranch}`);
  const source = await resolveRef(project.repository, `refs/heads/${mr.sourceBranch}`);
  if (target === null || source === null) return 'commits_status';
  const base = await mergeBase(project.repository, target, mr.sha);
  if (base === mr.sha) return 'commits_status';
  if (mr.draft) return 'draft_status';
  if ((await mergedTree(project.repository, target, mr.sha)) === null) return 'conflict';
  if (project.settings.mergeMethod !== 'merge' && base !== target) return 'need_rebase';
  if (project.settings.onlyAllowMergeIfPipelineSucceeds) {
    const status = headPipeline(project, mr)?.status;
    if (status === undefined || status === 'failed' || status === 'canceled') return 'ci_must_pass';
    if (status !== 'success' && status !== 'skipped') return 'ci_still_running';
  }
  return 'mergeable';
}

/** The three commits a merge request's diff is between. */
export async function diffRefs(project: Project, mr: MergeRequest) {
  const target =
    mr.mergeCommitSha === null
      ? await resolveRef(project.repository, `refs/heads/${mr.targetBranch}`)
      : ((await readCommit(project.repository, mr.mergeCommitSha))?.parents[0] ?? null);
  const base = target === null ? null : await mergeBase(project.repository, target, mr.sha);
  return { base_sha: base, head_sha: mr.sha, start_sha: target };
}

/** A merge request as in lists (doc: api/merge_requests). */
export async function presentMergeRequest(world: World, project: Project, mr: MergeRequest) {
  const status = await mergeStatus(project, mr);
  return {
    id: mr.id,
    iid: mr.iid,
    project_id: mr.projectId,
    title: mr.title,
    description: mr.description,
    state: mr.state,
    created_at: mr.createdAt,
    updated_at: mr.updatedAt,
    merged_by: presentUserId(world, mr.mergedBy),
    merge_user: presentUserId(world, mr.mergedBy),
    merged_at: mr.mergedAt,
    closed_by: null,
    closed_at: mr.state === 'closed' ? mr.updatedAt : null,
    target_branch: mr.targetBranch,
    source_branch: mr.sourceBranch,
    user_notes_count: mr.notes.filter((note) => !note.system).length,
    upvotes: 0,
    downvotes: 0,
    author: presentUserId(world, mr.authorId),
    assignee: null,
    assignees: [],
    reviewers: mr.reviewerIds.map((id) => presentUserId(world, id)),
    source_project_id: mr.sourceProjectId,
    target_project_id: mr.projectId,
    labels: mr.labels,
    draft: mr.draft,
    imported: false,
    work_in_progress: mr.draft,
    milestone: null,
    merge_when_pipeline_succeeds: false,
    merge_status: status === 'conflict' || status === 'commits_status' ? 'cannot_be_merged' : 'can_be_merged',
    detailed_merge_status: status,
    merge_after: null,
    sha: mr.sha,
    merge_commit_sha: mr.mergeCommitSha,
    squash_commit_sha: mr.squashCommitSha,
    discussion_locked: null,
    should_remove_source_branch: mr.removeSourceBranch,
    force_remove_source_branch: mr.removeSourceBranch,
    prepared_at: mr.createdAt,
    reference: `!${mr.iid}`,
    references: { short: `!${mr.iid}`, relative: `!${mr.iid}`, full: `${fullPath(project)}!${mr.iid}` },
    web_url: `${projectUrl(world, project)}/-/merge_requests/${mr.iid}`,
    time_stats: {
      time_estimate: 0,
      total_time_spent: 0,
      human_time_estimate: null,
      human_total_time_spent: null,
    },
    squash: mr.squash,
    squash_on_merge: mr.squash,
    task_completion_status: { count: 0, completed_count: 0 },
    has_conflicts: status === 'conflict',
    blocking_discussions_resolved: true,
  };
}

/** A merge request by itself: with its head pipeline, diff refs and what the caller may do. */
export async function presentMergeRequestFull(
  world: World,
  project: Project,
  mr: MergeRequest,
  caller: { mayMerge: boolean },
) {
  const pipeline = headPipeline(project, mr);
  const refs = await diffRefs(project, mr);
  const presented = pipeline && presentPipeline(world, project, pipeline);
  return {
    ...(await presentMergeRequest(world, project, mr)),
    subscribed: false,
    changes_count:
      refs.base_sha === null ? null : String((await diff(project.repository, refs.base_sha, mr.sha)).length),
    latest_build_started_at: pipeline?.startedAt ?? null,
    latest_build_finished_at: pipeline?.finishedAt ?? null,
    first_deployed_to_production_at: null,
    pipeline: presented,
    head_pipeline: presented,
    diff_refs: refs,
    merge_error: null,
    first_contribution: false,
    user: { can_merge: caller.mayMerge },
    rebase_in_progress: false,
  };
}

/** The approvals of a merge request (doc: api/merge_request_approvals). */
export function presentApprovals(world: World, project: Project, mr: MergeRequest, callerId: number) {
  const role = project.members.get(callerId) ?? 0;
  const has = mr.approvedBy.includes(callerId);
  return {
    id: mr.id,
    iid: mr.iid,
    project_id: project.id,
    title: mr.title,
    description: mr.description,
    state: mr.state,
    created_at: mr.createdAt,
    updated_at: mr.updatedAt,
    approved: true,
    approvals_required: 0,
    approvals_left: 0,
    approved_by: mr.approvedBy.map((id) => ({ user: presentUserId(world, id) })),
    user_has_approved: has,
    user_can_approve: !has && role >= level.developer,
  };
}
