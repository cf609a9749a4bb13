import { statSync } from 'node:fs';
import { join } from 'node:path';
import { fullPath, protectionOf } from './access.ts';
import type { Commit, FileDiff } from './git.ts';
import type {
  CommitStatus,
  Deployment,
  Environment,
  Hook,
  Issue,
  Job,
  Note,
  Pipeline,
  Project,
  User,
  World,
} from './state.ts';

/** The address of a project's page. */
export function projectUrl(world: World, project: Project): string {
  return `${world.url}/${fullPath(project)}`;
}

/** A user in short, as inside other entities. */
export function presentUser(world: World, user: User | null | undefined) {
  if (!user) return null;
  return {
    id: user.id,
    username: user.username,
    public_email: '',
    name: user.name,
    state: user.blocked === true ? 'blocked' : 'active',
    locked: false,
    avatar_url: null,
    web_url: `${world.url}/${user.username}`,
  };
}

/** A user by number, in short; null for nobody. */
export function presentUserId(world: World, id: number | null) {
  return id === null ? null : presentUser(world, world.users.get(id));
}

/** A project (doc: api/projects, "Get a single project"). */
export function presentProject(world: World, project: Project, role: number) {
  const url = projectUrl(world, project);
  return {
    id: project.id,
    description: project.settings.description,
    name: project.name,
    name_with_namespace: `${project.namespace} / ${project.name}`,
    path: project.path,
    path_with_namespace: fullPath(project),
    created_at: null,
    default_branch: project.defaultBranch,
    tag_list: [],
    topics: [],
    ssh_url_to_repo: `ssh://git@127.0.0.1/${fullPath(project)}.git`,
    http_url_to_repo: `${url}.git`,
    web_url: url,
    readme_url: null,
    forks_count: 0,
    avatar_url: null,
    star_count: 0,
    namespace: {
      id: project.id,
      name: project.namespace,
      path: project.namespace,
      kind: 'group',
      full_path: project.namespace,
      parent_id: null,
      avatar_url: null,
      web_url: `${world.url}/${project.namespace}`,
    },
    empty_repo: false,
    archived: false,
    visibility: 'private',
    merge_method: project.settings.mergeMethod,
    squash_option: 'default_off',
    only_allow_merge_if_pipeline_succeeds: project.settings.onlyAllowMergeIfPipelineSucceeds,
    only_allow_merge_if_all_discussions_are_resolved: false,
    remove_source_branch_after_merge: false,
    ci_config_path: project.settings.ciConfigPath,
    issues_enabled: true,
    merge_requests_enabled: true,
    jobs_enabled: true,
    permissions: {
      project_access: role === 0 ? null : { access_level: role, notification_level: 3 },
      group_access: null,
    },
  };
}

/** A commit (doc: api/commits). */
export function presentCommit(world: World, project: Project, commit: Commit) {
  const title = commit.message.split('\n')[0] ?? '';
  return {
    id: commit.id,
    short_id: commit.id.slice(0, 8),
    created_at: commit.committer.date,
    parent_ids: commit.parents,
    title,
    message: commit.message,
    author_name: commit.author.name,
    author_email: commit.author.email,
    authored_date: commit.author.date,
    committer_name: commit.committer.name,
    committer_email: commit.committer.email,
    committed_date: commit.committer.date,
    trailers: {},
    extended_trailers: {},
    web_url: `${projectUrl(world, project)}/-/commit/${commit.id}`,
  };
}

/** A branch (doc: api/branches). */
export function presentBranch(
  world: World,
  project: Project,
  name: string,
  commit: Commit,
  permissions: { push: boolean },
) {
  return {
    name,
    commit: presentCommit(world, project, commit),
    merged: false,
    protected: protectionOf(project, name) !== null,
    developers_can_push: (protectionOf(project, name)?.pushLevel ?? 30) === 30,
    developers_can_merge: (protectionOf(project, name)?.mergeLevel ?? 30) === 30,
    can_push: permissions.push,
    default: name === project.defaultBranch,
    web_url: `${projectUrl(world, project)}/-/tree/${name}`,
  };
}

/** One file of a diff (doc: api/merge_requests, "List merge request diffs"). */
export function presentDiff(file: FileDiff) {
  return {
    diff: file.diff,
    collapsed: false,
    too_large: false,
    new_path: file.newPath,
    old_path: file.oldPath,
    a_mode: file.oldMode,
    b_mode: file.newMode,
    new_file: file.kind === 'added',
    renamed_file: file.kind === 'renamed',
    deleted_file: file.kind === 'deleted',
    generated_file: false,
  };
}

/** A note (doc: api/notes). */
export function presentNote(
  world: World,
  project: Project,
  on: { type: 'MergeRequest' | 'Issue'; id: number; iid: number },
  note: Note,
) {
  return {
    id: note.id,
    type: note.position ? 'DiffNote' : null,
    ...(note.position ? { position: note.position, resolved: note.resolved === true } : {}),
    body: note.body,
    author: presentUserId(world, note.authorId),
    created_at: note.createdAt,
    updated_at: note.updatedAt,
    system: note.system,
    noteable_id: on.id,
    noteable_type: on.type,
    project_id: project.id,
    resolvable: note.position !== undefined,
    confidential: false,
    internal: false,
    imported: false,
    imported_from: 'none',
    noteable_iid: on.iid,
    commands_changes: {},
  };
}

/** An emoji reaction (doc: api/emoji_reactions). */
export function presentEmoji(world: World, note: Note, emoji: Note['emoji'][number]) {
  return {
    id: emoji.id,
    name: emoji.name,
    user: presentUserId(world, emoji.userId),
    created_at: note.updatedAt,
    updated_at: note.updatedAt,
    awardable_id: note.id,
    awardable_type: 'Note',
    url: null,
  };
}

function seconds(from: string | null, to: string | null): number | null {
  return from === null || to === null ? null : (Date.parse(to) - Date.parse(from)) / 1000;
}

/** A pipeline in short, as in lists. */
export function presentPipelineBasic(world: World, project: Project, pipeline: Pipeline) {
  return {
    id: pipeline.id,
    iid: pipeline.iid,
    project_id: project.id,
    sha: pipeline.sha,
    ref: pipelineRef(pipeline),
    status: pipeline.status,
    source: pipeline.source,
    created_at: pipeline.createdAt,
    updated_at: pipeline.finishedAt ?? pipeline.startedAt ?? pipeline.createdAt,
    web_url: `${projectUrl(world, project)}/-/pipelines/${pipeline.id}`,
    name: pipeline.name,
  };
}

/** What the API calls the ref of a pipeline: merge-request pipelines run on the merge request's own ref. */
export function pipelineRef(pipeline: Pipeline): string {
  return pipeline.mergeRequestIid !== null && pipeline.source === 'merge_request_event'
    ? `refs/merge-requests/${pipeline.mergeRequestIid}/head`
    : pipeline.ref;
}

/** A pipeline (doc: api/pipelines, "Get a single pipeline"). */
export function presentPipeline(world: World, project: Project, pipeline: Pipeline) {
  return {
    ...presentPipelineBasic(world, project, pipeline),
    before_sha: '0'.repeat(40),
    tag: pipeline.tag,
    yaml_errors: pipeline.yamlErrors.length === 0 ? null : pipeline.yamlErrors.join(' '),
    user: presentUserId(world, pipeline.userId),
    started_at: pipeline.startedAt,
    finished_at: pipeline.finishedAt,
    committed_at: null,
    duration: seconds(pipeline.startedAt, pipeline.finishedAt),
    queued_duration: seconds(pipeline.createdAt, pipeline.startedAt),
    coverage: null,
    detailed_status: {
      text: pipeline.status,
      label: pipeline.status,
      group: pipeline.status,
      has_details: true,
      details_path: `/${fullPath(project)}/-/pipelines/${pipeline.id}`,
    },
  };
}

/** A job (doc: api/jobs). */
export function presentJob(world: World, project: Project, job: Job) {
  const pipeline = project.pipelines.get(job.pipelineId);
  const size = job.hasArtifacts
    ? (statSync(join(job.folder, 'artifacts.zip'), { throwIfNoEntry: false })?.size ?? 0)
    : 0;
  return {
    id: job.id,
    status: job.status,
    stage: job.spec.stage,
    name: job.spec.name,
    ref: pipeline ? pipelineRef(pipeline) : null,
    tag: pipeline?.tag ?? false,
    coverage: null,
    allow_failure: job.spec.allowFailure,
    created_at: job.createdAt,
    started_at: job.startedAt,
    finished_at: job.finishedAt,
    erased_at: null,
    duration: seconds(job.startedAt, job.finishedAt),
    queued_duration: seconds(job.createdAt, job.startedAt),
    user: presentUserId(world, pipeline?.userId ?? null),
    commit: pipeline ? { id: pipeline.sha, short_id: pipeline.sha.slice(0, 8) } : null,
    pipeline: pipeline ? presentPipelineBasic(world, project, pipeline) : null,
    failure_reason: job.failureReason ?? undefined,
    web_url: `${projectUrl(world, project)}/-/jobs/${job.id}`,
    project: { ci_job_token_scope_enabled: false },
    artifacts: job.hasArtifacts
      ? [{ file_type: 'archive', size, filename: 'artifacts.zip', file_format: 'zip' }]
      : [],
    artifacts_file: job.hasArtifacts ? { filename: 'artifacts.zip', size } : undefined,
    runner: null,
    artifacts_expire_at: null,
    archived: false,
    tag_list: job.spec.tags,
  };
}

/** A commit status (doc: api/commits, "Set commit pipeline status"). */
export function presentStatus(world: World, status: CommitStatus) {
  return {
    id: status.id,
    sha: status.sha,
    ref: status.ref,
    status: status.status,
    name: status.name,
    target_url: status.targetUrl,
    description: status.description,
    created_at: status.createdAt,
    started_at: null,
    finished_at: null,
    allow_failure: false,
    coverage: null,
    pipeline_id: status.pipelineId,
    author: presentUserId(world, status.authorId),
  };
}

/** An environment (doc: api/environments). */
export function presentEnvironment(environment: Environment) {
  return {
    id: environment.id,
    name: environment.name,
    slug: environment.name
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .slice(0, 24),
    external_url: environment.externalUrl,
    state: environment.state,
    tier: /prod|live/i.test(environment.name)
      ? 'production'
      : /stag/i.test(environment.name)
        ? 'staging'
        : 'other',
    auto_stop_at: null,
  };
}

/** A deployment (doc: api/deployments). */
export function presentDeployment(world: World, project: Project, deployment: Deployment) {
  const environment = project.environments.find((entry) => entry.id === deployment.environmentId);
  const job = deployment.jobId === null ? null : project.jobs.get(deployment.jobId);
  return {
    id: deployment.id,
    iid: deployment.iid,
    ref: deployment.ref,
    sha: deployment.sha,
    created_at: deployment.createdAt,
    updated_at: deployment.finishedAt ?? deployment.createdAt,
    user: presentUserId(world, deployment.userId),
    environment: environment ? presentEnvironment(environment) : null,
    deployable: job ? presentJob(world, project, job) : null,
    status: deployment.status,
  };
}

/** A webhook (doc: api/project_webhooks); its secrets are never told again. */
export function presentHook(project: Project, hook: Hook) {
  return {
    id: hook.id,
    url: hook.url,
    name: null,
    description: null,
    created_at: null,
    project_id: project.id,
    ...hook.events,
    enable_ssl_verification: true,
    push_events_branch_filter: null,
    branch_filter_strategy: 'wildcard',
    custom_webhook_template: null,
    custom_headers: [],
    url_variables: [],
    token_present: hook.token !== null,
    signing_token_present: hook.signingToken !== null,
    alert_status:
      hook.failures >= 40 ? 'disabled' : hook.disabledUntil === null ? 'executable' : 'temporarily_disabled',
    disabled_until: hook.disabledUntil,
  };
}

/** An issue (doc: api/issues). */
export function presentIssue(world: World, project: Project, issue: Issue) {
  return {
    id: issue.id,
    iid: issue.iid,
    project_id: project.id,
    title: issue.title,
    description: issue.description,
    state: issue.state,
    created_at: issue.createdAt,
    updated_at: issue.createdAt,
    closed_at: null,
    labels: issue.labels,
    milestone: null,
    author: presentUserId(world, issue.authorId),
    assignees: issue.assigneeIds.map((id) => presentUserId(world, id)),
    type: 'ISSUE',
    user_notes_count: issue.notes.filter((note) => !note.system).length,
    web_url: `${projectUrl(world, project)}/-/issues/${issue.iid}`,
    references: {
      short: `#${issue.iid}`,
      relative: `#${issue.iid}`,
      full: `${fullPath(project)}#${issue.iid}`,
    },
    confidential: false,
  };
}
