import { fullPath, protectionOf } from './access.ts';
import { type Commit, gitText, log, readCommit, zeroSha } from './git.ts';
import { presentEnvironment, projectUrl } from './present.ts';
import { headPipeline } from './present-merge-request.ts';
import type {
  Deployment,
  Environment,
  Job,
  MergeRequest,
  Note,
  Pipeline,
  Project,
  World,
  WorldEvent,
} from './state.ts';

/** An event with copies of what changes later, taken when it happened. */
export type Snapshot =
  | Extract<WorldEvent, { kind: 'push' | 'merge_request' | 'note' | 'emoji' }>
  | { kind: 'pipeline'; project: Project; pipeline: Pipeline; jobs: Job[]; mr: MergeRequest | null }
  | { kind: 'job'; project: Project; job: Job; pipeline: Pipeline }
  | { kind: 'deployment'; project: Project; deployment: Deployment; environment: Environment };

/** Copies an event's changing parts; null for events that no webhook tells of. */
export function takeSnapshot(event: WorldEvent): Snapshot | null {
  const { project } = event;
  switch (event.kind) {
    case 'push':
      return event;
    case 'merge_request':
      return { ...event, mr: structuredClone(event.mr), changes: structuredClone(event.changes) };
    case 'note':
    case 'emoji':
      return { ...event, mr: structuredClone(event.mr), note: structuredClone(event.note) };
    case 'pipeline': {
      const { pipeline } = event;
      const jobs = [...project.jobs.values()].filter((job) => job.pipelineId === pipeline.id);
      const mr =
        pipeline.mergeRequestIid === null ? null : project.mergeRequests.get(pipeline.mergeRequestIid);
      return {
        kind: 'pipeline',
        project,
        pipeline: structuredClone(pipeline),
        jobs: structuredClone(jobs),
        mr: structuredClone(mr ?? null),
      };
    }
    case 'job': {
      const pipeline = project.pipelines.get(event.job.pipelineId);
      if (!pipeline) return null;
      return { kind: 'job', project, job: structuredClone(event.job), pipeline: structuredClone(pipeline) };
    }
    case 'deployment': {
      const environment = project.environments.find((entry) => entry.id === event.deployment.environmentId);
      if (!environment) return null;
      return {
        kind: 'deployment',
        project,
        deployment: structuredClone(event.deployment),
        environment: structuredClone(environment),
      };
    }
    case 'trace':
      return null;
  }
}

/** `2026-01-16 05:56:30 UTC`, as older parts of the payloads write times. */
function utc(iso: string | null): string | null {
  return iso === null ? null : `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`;
}

function isoSeconds(iso: string | null): string | null {
  return iso === null ? null : `${iso.slice(0, 19)}Z`;
}

function duration(from: string | null, to: string | null): number | null {
  return from === null || to === null ? null : (Date.parse(to) - Date.parse(from)) / 1000;
}

function userBlock(world: World, id: number) {
  const user = world.users.get(id);
  return {
    id,
    name: user?.name ?? '',
    username: user?.username ?? '',
    avatar_url: null,
    email: '[REDACTED]',
  };
}

function shortProject(world: World, project: Project) {
  const url = projectUrl(world, project);
  return {
    id: project.id,
    name: project.name,
    description: project.settings.description,
    web_url: url,
    avatar_url: null,
    git_ssh_url: `ssh://git@127.0.0.1/${fullPath(project)}.git`,
    git_http_url: `${url}.git`,
    namespace: project.namespace,
    visibility_level: 0,
    path_with_namespace: fullPath(project),
    default_branch: project.defaultBranch,
    ci_config_path: project.settings.ciConfigPath,
  };
}

function projectBlock(world: World, project: Project) {
  const short = shortProject(world, project);
  return {
    ...short,
    homepage: short.web_url,
    url: short.git_ssh_url,
    ssh_url: short.git_ssh_url,
    http_url: short.git_http_url,
  };
}

function repositoryBlock(world: World, project: Project) {
  const short = shortProject(world, project);
  return {
    name: project.name,
    url: short.git_ssh_url,
    description: short.description,
    homepage: short.web_url,
  };
}

function repositoryWithUrls(world: World, project: Project) {
  const short = shortProject(world, project);
  return {
    ...repositoryBlock(world, project),
    git_http_url: short.git_http_url,
    git_ssh_url: short.git_ssh_url,
    visibility_level: 0,
  };
}

function commitBlock(world: World, project: Project, commit: Commit) {
  return {
    id: commit.id,
    message: commit.message,
    title: commit.message.split('\n')[0] ?? '',
    timestamp: commit.author.date,
    url: `${projectUrl(world, project)}/-/commit/${commit.id}`,
    author: { name: commit.author.name, email: commit.author.email },
  };
}

async function commitOf(world: World, project: Project, sha: string) {
  const commit = await readCommit(project.repository, sha);
  return commit && commitBlock(world, project, commit);
}

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

async function filesOf(project: Project, commit: Commit) {
  const text = await gitText(project.repository, [
    'diff-tree',
    '--root',
    '--no-commit-id',
    '--name-status',
    '-r',
    '-z',
    ...(commit.parents.length > 1 ? ['-m', '--first-parent'] : []),
    commit.id,
  ]);
  const fields = text.split('\0');
  const files = { added: [] as string[], modified: [] as string[], removed: [] as string[] };
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const path = fields[at + 1] ?? '';
    const list = fields[at] === 'A' ? files.added : fields[at] === 'D' ? files.removed : files.modified;
    list.push(path);
  }
  return files;
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
  const commits = tag || gone ? [] : await log(project.repository, revisions);
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

function runnerBlock(job: Job) {
  if (job.startedAt === null) return null;
  return {
    id: 1,
    description: 'sandbox',
    runner_type: 'instance_type',
    active: true,
    is_shared: true,
    tags: job.spec.tags,
  };
}

function environmentOfJob(project: Project, job: Job) {
  if (!job.spec.environment) return null;
  const { name, action } = job.spec.environment;
  const known = project.environments.find((entry) => entry.name === name);
  const tier = presentEnvironment(known ?? { id: 0, name, externalUrl: null, state: 'available' }).tier;
  return { name, action, deployment_tier: tier };
}

const detailed: Partial<Record<Pipeline['status'], string>> = { success: 'passed' };

async function pipelinePayload(world: World, event: Extract<Snapshot, { kind: 'pipeline' }>) {
  const { project, pipeline, jobs, mr } = event;
  const user = userBlock(world, pipeline.userId);
  return {
    object_kind: 'pipeline',
    object_attributes: {
      id: pipeline.id,
      iid: pipeline.iid,
      name: pipeline.name,
      ref: pipeline.ref,
      tag: pipeline.tag,
      sha: pipeline.sha,
      before_sha: zeroSha,
      source: pipeline.source,
      status: pipeline.status,
      detailed_status: detailed[pipeline.status] ?? pipeline.status,
      stages: pipeline.stages,
      created_at: utc(pipeline.createdAt),
      finished_at: utc(pipeline.finishedAt),
      duration: duration(pipeline.startedAt, pipeline.finishedAt),
      queued_duration: duration(pipeline.createdAt, pipeline.startedAt),
      protected_ref: !pipeline.tag && protectionOf(project, pipeline.ref) !== null && mr === null,
      variables: pipeline.variables,
      url: `${projectUrl(world, project)}/-/pipelines/${pipeline.id}`,
    },
    merge_request: mr && {
      id: mr.id,
      iid: mr.iid,
      title: mr.title,
      source_branch: mr.sourceBranch,
      source_project_id: mr.sourceProjectId,
      target_branch: mr.targetBranch,
      target_project_id: mr.projectId,
      state: mr.state,
      merge_status: 'checking',
      detailed_merge_status: mr.state === 'opened' ? 'checking' : 'not_open',
      url: `${projectUrl(world, project)}/-/merge_requests/${mr.iid}`,
    },
    user,
    project: shortProject(world, project),
    commit: await commitOf(world, project, pipeline.sha),
    builds: jobs.map((job) => ({
      id: job.id,
      stage: job.spec.stage,
      name: job.spec.name,
      status: job.status,
      created_at: utc(job.createdAt),
      started_at: utc(job.startedAt),
      finished_at: utc(job.finishedAt),
      duration: duration(job.startedAt, job.finishedAt),
      queued_duration: duration(job.createdAt, job.startedAt),
      failure_reason: job.failureReason,
      when: job.spec.when,
      manual: job.spec.when === 'manual',
      allow_failure: job.spec.allowFailure,
      user,
      runner: runnerBlock(job),
      artifacts_file: job.hasArtifacts
        ? { filename: 'artifacts.zip', size: null }
        : { filename: null, size: null },
      environment: environmentOfJob(project, job),
    })),
  };
}

async function jobPayload(world: World, event: Extract<Snapshot, { kind: 'job' }>) {
  const { project, job, pipeline } = event;
  const commit = await readCommit(project.repository, pipeline.sha);
  return {
    object_kind: 'build',
    ref: pipeline.ref,
    tag: pipeline.tag,
    before_sha: zeroSha,
    sha: pipeline.sha,
    build_id: job.id,
    build_name: job.spec.name,
    build_stage: job.spec.stage,
    build_status: job.status,
    build_created_at: utc(job.createdAt),
    build_created_at_iso: isoSeconds(job.createdAt),
    build_started_at: utc(job.startedAt),
    build_started_at_iso: isoSeconds(job.startedAt),
    build_finished_at: utc(job.finishedAt),
    build_finished_at_iso: isoSeconds(job.finishedAt),
    build_duration: duration(job.startedAt, job.finishedAt),
    build_queued_duration: duration(job.createdAt, job.startedAt),
    build_allow_failure: job.spec.allowFailure,
    build_failure_reason: job.failureReason ?? 'unknown_failure',
    pipeline_id: pipeline.id,
    runner: runnerBlock(job),
    project_id: project.id,
    project_name: `${project.namespace} / ${project.name}`,
    user: userBlock(world, pipeline.userId),
    commit: {
      // GitLab really puts the pipeline's number here.
      id: pipeline.id,
      name: null,
      sha: pipeline.sha,
      message: commit?.message ?? null,
      author_name: commit?.author.name ?? null,
      author_email: commit?.author.email ?? null,
      author_url: commit ? `mailto:${commit.author.email}` : null,
      status: pipeline.status,
      duration: duration(pipeline.startedAt, pipeline.finishedAt),
      started_at: utc(pipeline.startedAt),
      started_at_iso: isoSeconds(pipeline.startedAt),
      finished_at: utc(pipeline.finishedAt),
      finished_at_iso: isoSeconds(pipeline.finishedAt),
    },
    repository: repositoryWithUrls(world, project),
    project: shortProject(world, project),
    environment: environmentOfJob(project, job),
    retries_count: 0,
  };
}

async function deploymentPayload(world: World, event: Extract<Snapshot, { kind: 'deployment' }>) {
  const { project, deployment, environment } = event;
  const url = projectUrl(world, project);
  const place = presentEnvironment(environment);
  const commit = await readCommit(project.repository, deployment.sha);
  const user = userBlock(world, deployment.userId);
  return {
    object_kind: 'deployment',
    status: deployment.status,
    status_changed_at: (deployment.finishedAt ?? deployment.createdAt).replace(
      /^(.{10})T(.{8}).*$/,
      '$1 $2 +0000',
    ),
    deployment_id: deployment.id,
    deployable_id: deployment.jobId,
    deployable_url: deployment.jobId === null ? null : `${url}/-/jobs/${deployment.jobId}`,
    environment: environment.name,
    environment_tier: place.tier,
    environment_slug: place.slug,
    environment_external_url: environment.externalUrl,
    project: shortProject(world, project),
    short_sha: deployment.sha.slice(0, 8),
    user,
    user_url: `${world.url}/${user.username}`,
    commit_url: `${url}/-/commit/${deployment.sha}`,
    commit_title: commit?.message.split('\n')[0] ?? null,
    ref: deployment.ref,
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
