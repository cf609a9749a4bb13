import { protectionOf } from './access.ts';
import { readCommit, zeroSha } from './git.ts';
import {
  commitOf,
  duration,
  isoSeconds,
  projectBlock,
  repositoryWithUrls,
  shortProject,
  userBlock,
  utc,
} from './hook-blocks.ts';
import type { Snapshot } from './hook-snapshot.ts';
import { presentEnvironment, projectUrl } from './present.ts';
import type { Job, Pipeline, Project, World } from './state.ts';

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

/** The body of a pipeline hook. */
export async function pipelinePayload(world: World, event: Extract<Snapshot, { kind: 'pipeline' }>) {
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

/** The body of a job hook. */
export async function jobPayload(world: World, event: Extract<Snapshot, { kind: 'job' }>) {
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

/** The body of a deployment hook. */
export async function deploymentPayload(world: World, event: Extract<Snapshot, { kind: 'deployment' }>) {
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
    project: projectBlock(world, project),
    short_sha: deployment.sha.slice(0, 8),
    user,
    user_url: `${world.url}/${user.username}`,
    commit_url: `${url}/-/commit/${deployment.sha}`,
    commit_title: commit?.message.split('\n')[0] ?? null,
    ref: deployment.ref,
  };
}
