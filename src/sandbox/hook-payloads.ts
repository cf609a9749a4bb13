import { protectionOf } from './access.ts';
import { type Commit, listFiles, log, readCommit, resolveCommit, zeroSha } from './git.ts';
import {
  commitBlock,
  commitOf,
  projectBlock,
  repositoryBlock,
  repositoryWithUrls,
  userBlock,
  utc,
} from './hook-blocks.ts';
import { deploymentPayload, jobPayload, pipelinePayload } from './hook-payloads-ci.ts';
import type { Snapshot } from './hook-snapshot.ts';
import { projectUrl } from './present.ts';
import { headPipeline } from './present-merge-request.ts';
import type { MergeRequest, Note, Project, World } from './state.ts';

async function mergeRequestAttributes(world: World, project: Project, mr: MergeRequest) {
  const stateId = { opened: 1, closed: 2, merged: 3 }[mr.state];
  const block = projectBlock(world, project);
  return {
    assignee_id: null,
    author_id: mr.authorId,
    created_at: utc(mr.createdAt),
    description: mr.description,
    draft: mr.draft,
    head_pipeline_id: headPipeline(project, mr)?.id ?? null,
    id: mr.id,
    iid: mr.iid,
    last_edited_at: null,
    last_edited_by_id: null,
    merge_commit_sha: mr.mergeCommitSha,
    merged_at: utc(mr.mergedAt),
    merge_error: null,
    merge_params: { force_remove_source_branch: mr.removeSourceBranch ? '1' : '0' },
    merge_status: 'checking',
    merge_user_id: mr.mergedBy,
    merge_when_pipeline_succeeds: false,
    milestone_id: null,
    source_branch: mr.sourceBranch,
    source_project_id: mr.sourceProjectId,
    squash_commit_sha: mr.squashCommitSha,
    state_id: stateId,
    target_branch: mr.targetBranch,
    target_branch_protected: protectionOf(project, mr.targetBranch) !== null,
    target_project_id: mr.projectId,
    time_estimate: 0,
    title: mr.title,
    updated_at: utc(mr.updatedAt),
    updated_by_id: null,
    prepared_at: utc(mr.createdAt),
    assignee_ids: [],
    blocking_discussions_resolved: true,
    detailed_merge_status: mr.state === 'opened' ? 'checking' : 'not_open',
    first_contribution: false,
    human_time_change: null,
    human_time_estimate: null,
    human_total_time_spent: null,
    labels: mr.labels.map((title) => labelBlock(project, title, mr.createdAt)),
    last_commit: await commitOf(world, project, mr.sha),
    reviewer_ids: mr.reviewerIds,
    source: block,
    state: mr.state,
    system: false,
    target: block,
    time_change: 0,
    total_time_spent: 0,
    url: `${projectUrl(world, project)}/-/merge_requests/${mr.iid}`,
    work_in_progress: mr.draft,
    approval_rules: [],
  };
}

function labelBlock(project: Project, title: string, at: string) {
  return {
    id: [...title].reduce((sum, char) => (sum * 31 + (char.codePointAt(0) ?? 0)) % 1_000_003, 7),
    title,
    color: '#6699cc',
    project_id: project.id,
    created_at: utc(at),
    updated_at: utc(at),
    template: false,
    description: null,
    type: 'ProjectLabel',
    group_id: null,
  };
}

/** Labels and reviewers travel as full blocks inside `changes`. */
function changesBlock(world: World, project: Project, mr: MergeRequest, changes: Record<string, unknown>) {
  const expand = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(expand);
    if (typeof value !== 'object' || value === null) return value;
    if ('title' in value && typeof value.title === 'string')
      return labelBlock(project, value.title, mr.createdAt);
    if ('id' in value && typeof value.id === 'number') return reviewerBlock(world, value.id);
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, expand(item)]));
  };
  return Object.fromEntries(
    Object.entries(changes).map(([key, value]) => [
      key,
      key === 'labels' || key === 'reviewers' ? expand(value) : value,
    ]),
  );
}

function reviewerBlock(world: World, id: number) {
  return { ...userBlock(world, id), state: 'unreviewed', re_requested: false };
}

async function mergeRequestPayload(world: World, event: Extract<Snapshot, { kind: 'merge_request' }>) {
  const { project, mr } = event;
  const attributes = await mergeRequestAttributes(world, project, mr);
  const changes =
    event.action === 'open'
      ? {
          merge_status: { previous: 'preparing', current: 'checking' },
          prepared_at: { previous: null, current: attributes.prepared_at },
        }
      : changesBlock(world, project, mr, event.changes);
  return {
    object_kind: 'merge_request',
    event_type: 'merge_request',
    user: userBlock(world, event.userId),
    project: projectBlock(world, project),
    object_attributes: {
      ...attributes,
      ...(event.oldrev === null ? {} : { oldrev: event.oldrev }),
      action: event.action,
      actioned_at: utc(mr.updatedAt),
    },
    labels: attributes.labels,
    changes,
    repository: repositoryBlock(world, project),
    assignees: [],
    reviewers: mr.reviewerIds.map((id) => reviewerBlock(world, id)),
  };
}

function noteAttributes(world: World, project: Project, mr: MergeRequest, note: Note, action: string) {
  return {
    attachment: null,
    author_id: note.authorId,
    change_position: null,
    commit_id: null,
    created_at: utc(note.createdAt),
    discussion_id: note.discussionId,
    id: note.id,
    internal: false,
    line_code: null,
    note: note.body,
    noteable_id: mr.id,
    noteable_type: 'MergeRequest',
    original_position: null,
    position: null,
    project_id: project.id,
    resolved_at: null,
    resolved_by_id: null,
    resolved_by_push: null,
    st_diff: null,
    system: note.system,
    type: null,
    updated_at: utc(note.updatedAt),
    updated_by_id: note.updatedAt === note.createdAt ? null : note.authorId,
    description: note.body,
    url: `${projectUrl(world, project)}/-/merge_requests/${mr.iid}#note_${note.id}`,
    action,
  };
}

async function notePayload(world: World, event: Extract<Snapshot, { kind: 'note' }>) {
  const { project, mr, note } = event;
  return {
    object_kind: 'note',
    event_type: 'note',
    user: userBlock(world, note.authorId),
    project_id: project.id,
    project: projectBlock(world, project),
    object_attributes: noteAttributes(world, project, mr, note, event.action),
    repository: repositoryBlock(world, project),
    merge_request: await mergeRequestAttributes(world, project, mr),
  };
}

async function emojiPayload(world: World, event: Extract<Snapshot, { kind: 'emoji' }>) {
  const { project, mr, note } = event;
  const emoji = note.emoji.at(-1);
  const attributes = noteAttributes(world, project, mr, note, 'create');
  const at = utc(new Date().toISOString());
  return {
    object_kind: 'emoji',
    event_type: 'award',
    user: userBlock(world, emoji?.userId ?? note.authorId),
    project_id: project.id,
    project: projectBlock(world, project),
    object_attributes: {
      user_id: emoji?.userId ?? note.authorId,
      created_at: at,
      id: emoji?.id ?? 0,
      name: emoji?.name ?? '',
      awardable_type: 'Note',
      awardable_id: note.id,
      updated_at: at,
      action: 'award',
      awarded_on_url: attributes.url,
    },
    note: attributes,
    merge_request: await mergeRequestAttributes(world, project, mr),
  };
}

/** What a commit changed since its (first) parent. */
async function filesOf({ repository }: Project, commit: Commit) {
  const [parent] = commit.parents;
  const before = parent === undefined ? [] : await listFiles(repository, parent);
  const after = await listFiles(repository, commit.id);
  const [old, now] = [before, after].map(
    (files) => new Map(files.map(({ path, mode, oid }) => [path, `${mode} ${oid}`])),
  ) as [Map<string, string>, Map<string, string>];
  return {
    added: [...now.keys()].filter((path) => !old.has(path)),
    modified: [...now].flatMap(([path, file]) => (old.has(path) && old.get(path) !== file ? [path] : [])),
    removed: [...old.keys()].filter((path) => !now.has(path)),
  };
}

/** The commits of a push, newest first: a single one on top of what was there is nearly every push. */
async function pushedCommits(project: Project, before: string, after: string, revisions: string[]) {
  const commit = await readCommit(project.repository, after);
  const [parent, ...others] = commit?.parents ?? [];
  const there = before === zeroSha ? await resolveCommit(project.repository, project.defaultBranch) : before;
  const isSingle = commit !== null && parent !== undefined && parent === there && others.length === 0;
  return isSingle ? [commit] : log(project.repository, revisions);
}

async function pushPayload(world: World, event: Extract<Snapshot, { kind: 'push' }>) {
  const { project } = event;
  const tag = event.ref.startsWith('refs/tags/');
  const gone = event.after === zeroSha;
  const branch = event.ref.replace(/^refs\/(heads|tags)\//, '');
  const range =
    event.before === zeroSha
      ? [event.after, '--not', project.defaultBranch]
      : [`${event.before}..${event.after}`];
  // A new default branch has nothing to be compared with: everything in it is new.
  const revisions = event.before === zeroSha && branch === project.defaultBranch ? [event.after] : range;
  const commits = tag || gone ? [] : await pushedCommits(project, event.before, event.after, revisions);
  const user = world.users.get(event.userId);
  return {
    object_kind: tag ? 'tag_push' : 'push',
    event_name: tag ? 'tag_push' : 'push',
    before: event.before,
    after: event.after,
    ref: event.ref,
    ref_protected: !tag && protectionOf(project, branch) !== null,
    checkout_sha: gone ? null : event.after,
    message: null,
    user_id: event.userId,
    user_name: user?.name ?? '',
    user_username: user?.username ?? '',
    user_email: null,
    user_avatar: null,
    project_id: project.id,
    project: projectBlock(world, project),
    // The newest twenty, oldest first, as GitLab lists them.
    commits: await Promise.all(
      commits
        .slice(0, 20)
        .reverse()
        .map(async (commit) => ({
          ...commitBlock(world, project, commit),
          ...(await filesOf(project, commit)),
        })),
    ),
    total_commits_count: commits.length,
    push_options: {},
    repository: repositoryWithUrls(world, project),
  };
}

/** The body of the webhook for an event (doc: user/project/integrations/webhook_events). */
export function payloadOf(world: World, event: Snapshot): Promise<object> {
  switch (event.kind) {
    case 'push':
      return pushPayload(world, event);
    case 'merge_request':
      return mergeRequestPayload(world, event);
    case 'note':
      return notePayload(world, event);
    case 'emoji':
      return emojiPayload(world, event);
    case 'pipeline':
      return pipelinePayload(world, event);
    case 'job':
      return jobPayload(world, event);
    case 'deployment':
      return deploymentPayload(world, event);
  }
}
