import { fullPath, protectionOf } from '../access.ts';
import type { PipelineRequest } from '../ci-port.ts';
import type { Job, Pipeline, Project, World } from '../state.ts';
import { environmentSlug, serverFqdn, slug } from './names.ts';
import type { Repository } from './repository.ts';

const zeros = '0'.repeat(40);

function address(world: World): string {
  return world.url || 'http://sandbox.invalid';
}

/** Where a job clones from, with its token. */
export function repositoryUrl(world: World, project: Project, token: string): string {
  const url = new URL(`${address(world)}/${fullPath(project)}.git`);
  url.username = 'gitlab-ci-token';
  url.password = token;
  return url.href;
}

/** Whether the pipeline's ref is protected: a protected branch, but never a merge request's head. */
export function isProtectedRef(
  project: Project,
  request: Pick<PipelineRequest, 'ref' | 'tag' | 'mergeRequestIid'>,
): boolean {
  return request.mergeRequestIid === null && !request.tag && protectionOf(project, request.ref) !== null;
}

/** The predefined variables known before a pipeline exists; rules and includes see these (doc: ci/variables/predefined_variables). */
export async function pipelineVariables(
  world: World,
  project: Project,
  request: PipelineRequest,
  repository: Repository,
): Promise<Record<string, string>> {
  const path = fullPath(project);
  const namespace = path.slice(0, path.lastIndexOf('/'));
  const server = new URL(address(world));
  const base = address(world);
  const commit = (await repository.commit(request.sha)) ?? { message: '', author: '', timestamp: '' };
  const [title = '', ...rest] = commit.message.split('\n');
  const user = world.users.get(request.userId);
  const isMerge = request.mergeRequestIid !== null;
  const variables: Record<string, string> = {
    CI: 'true',
    GITLAB_CI: 'true',
    GITLAB_FEATURES: '',
    CI_SERVER: 'yes',
    CI_SERVER_NAME: 'GitLab',
    CI_SERVER_URL: base,
    CI_SERVER_HOST: server.hostname,
    CI_SERVER_PORT: server.port || (server.protocol === 'https:' ? '443' : '80'),
    CI_SERVER_PROTOCOL: server.protocol.replace(':', ''),
    CI_SERVER_FQDN: serverFqdn(world),
    CI_SERVER_VERSION: '17.8.0',
    CI_SERVER_VERSION_MAJOR: '17',
    CI_SERVER_VERSION_MINOR: '8',
    CI_SERVER_VERSION_PATCH: '0',
    CI_SERVER_REVISION: 'sandbox',
    CI_API_V4_URL: `${base}/api/v4`,
    CI_CONFIG_PATH: project.settings.ciConfigPath ?? '.gitlab-ci.yml',
    CI_DEFAULT_BRANCH: project.defaultBranch,
    CI_PROJECT_ID: String(project.id),
    CI_PROJECT_NAME: path.slice(path.lastIndexOf('/') + 1),
    CI_PROJECT_TITLE: project.name,
    CI_PROJECT_DESCRIPTION: project.settings.description,
    CI_PROJECT_PATH: path,
    CI_PROJECT_PATH_SLUG: slug(path),
    CI_PROJECT_NAMESPACE: namespace,
    CI_PROJECT_NAMESPACE_SLUG: slug(namespace),
    CI_PROJECT_ROOT_NAMESPACE: path.split('/')[0] ?? '',
    CI_PROJECT_URL: `${base}/${path}`,
    CI_PROJECT_VISIBILITY: 'private',
    CI_PIPELINE_SOURCE: request.source,
    CI_PIPELINE_TRIGGERED: request.source === 'trigger' ? 'true' : '',
    CI_COMMIT_SHA: request.sha,
    CI_COMMIT_SHORT_SHA: request.sha.slice(0, 8),
    CI_COMMIT_BEFORE_SHA: request.before ?? zeros,
    CI_COMMIT_REF_NAME: request.ref,
    CI_COMMIT_REF_SLUG: slug(request.ref),
    CI_COMMIT_REF_PROTECTED: String(isProtectedRef(project, request)),
    CI_COMMIT_TIMESTAMP: commit.timestamp,
    CI_COMMIT_AUTHOR: commit.author,
    CI_COMMIT_MESSAGE: commit.message,
    CI_COMMIT_TITLE: title,
    CI_COMMIT_DESCRIPTION: rest.join('\n').trim(),
    GITLAB_USER_ID: String(request.userId),
    GITLAB_USER_LOGIN: user?.username ?? '',
    GITLAB_USER_NAME: user?.name ?? '',
    GITLAB_USER_EMAIL: user === undefined ? '' : `${user.username}@sandbox.invalid`,
    ...(request.tag ? { CI_COMMIT_TAG: request.ref } : {}),
    ...(request.tag || isMerge ? {} : { CI_COMMIT_BRANCH: request.ref }),
    ...mergeRequestVariables(project, request, base),
  };
  const open = [...project.mergeRequests.values()]
    .filter(
      (mr) => mr.state === 'opened' && mr.sourceBranch === request.ref && mr.sourceProjectId === project.id,
    )
    .map((mr) => `${path}!${mr.iid}`);
  if (!request.tag && open.length > 0) variables.CI_OPEN_MERGE_REQUESTS = open.slice(0, 4).join(',');
  for (const [key, value] of Object.entries(variables)) if (value === '') delete variables[key];
  if (isMerge) {
    variables.CI_MERGE_REQUEST_DIFF_BASE_SHA =
      (await repository.mergeBase(
        request.sha,
        `refs/heads/${variables.CI_MERGE_REQUEST_TARGET_BRANCH_NAME}`,
      )) ?? '';
  }
  return variables;
}

function mergeRequestVariables(
  project: Project,
  request: PipelineRequest,
  origin: string,
): Record<string, string> {
  const mr =
    request.mergeRequestIid === null ? undefined : project.mergeRequests.get(request.mergeRequestIid);
  if (mr === undefined) return {};
  const path = fullPath(project);
  return {
    CI_MERGE_REQUEST_ID: String(mr.id),
    CI_MERGE_REQUEST_IID: String(mr.iid),
    CI_MERGE_REQUEST_REF_PATH: `refs/merge-requests/${mr.iid}/head`,
    CI_MERGE_REQUEST_PROJECT_ID: String(project.id),
    CI_MERGE_REQUEST_PROJECT_PATH: path,
    CI_MERGE_REQUEST_PROJECT_URL: `${origin}/${path}`,
    CI_MERGE_REQUEST_SOURCE_PROJECT_ID: String(mr.sourceProjectId),
    CI_MERGE_REQUEST_SOURCE_PROJECT_PATH: path,
    CI_MERGE_REQUEST_SOURCE_PROJECT_URL: `${origin}/${path}`,
    CI_MERGE_REQUEST_SOURCE_BRANCH_NAME: mr.sourceBranch,
    CI_MERGE_REQUEST_SOURCE_BRANCH_PROTECTED: String(protectionOf(project, mr.sourceBranch) !== null),
    CI_MERGE_REQUEST_TARGET_BRANCH_NAME: mr.targetBranch,
    CI_MERGE_REQUEST_TARGET_BRANCH_PROTECTED: String(protectionOf(project, mr.targetBranch) !== null),
    CI_MERGE_REQUEST_TITLE: mr.title,
    CI_MERGE_REQUEST_DESCRIPTION: mr.description,
    CI_MERGE_REQUEST_LABELS: mr.labels.join(','),
    CI_MERGE_REQUEST_DRAFT: String(mr.draft),
    CI_MERGE_REQUEST_APPROVED: mr.approvedBy.length > 0 ? 'true' : '',
    CI_MERGE_REQUEST_EVENT_TYPE: 'detached',
    CI_MERGE_REQUEST_SQUASH_ON_MERGE: String(mr.squash),
  };
}

/** The predefined variables that need the pipeline and the job to exist. */
export function jobVariables(
  world: World,
  project: Project,
  pipeline: Pipeline,
  job: Job,
): Record<string, string> {
  const path = fullPath(project);
  const origin = address(world);
  const environment = job.spec.environment;
  return {
    CI_PIPELINE_ID: String(pipeline.id),
    CI_PIPELINE_IID: String(pipeline.iid),
    CI_PIPELINE_URL: `${origin}/${path}/-/pipelines/${pipeline.id}`,
    CI_PIPELINE_CREATED_AT: pipeline.createdAt,
    ...(pipeline.name === null ? {} : { CI_PIPELINE_NAME: pipeline.name }),
    CI_JOB_ID: String(job.id),
    CI_JOB_NAME: job.spec.name,
    CI_JOB_NAME_SLUG: slug(job.spec.name),
    CI_JOB_STAGE: job.spec.stage,
    CI_JOB_URL: `${origin}/${path}/-/jobs/${job.id}`,
    CI_JOB_TOKEN: job.token,
    CI_JOB_STARTED_AT: job.startedAt ?? '',
    CI_JOB_TIMEOUT: String(job.spec.timeout),
    ...(job.spec.image === null ? {} : { CI_JOB_IMAGE: job.spec.image }),
    ...(job.spec.when === 'manual' ? { CI_JOB_MANUAL: 'true' } : {}),
    CI_REPOSITORY_URL: repositoryUrl(world, project, job.token),
    ...(environment === null
      ? {}
      : {
          CI_ENVIRONMENT_NAME: environment.name,
          CI_ENVIRONMENT_SLUG: environmentSlug(environment.name),
          CI_ENVIRONMENT_ACTION: environment.action,
          ...(environment.url === null ? {} : { CI_ENVIRONMENT_URL: environment.url }),
          ...(environment.tier === null ? {} : { CI_ENVIRONMENT_TIER: environment.tier }),
        }),
  };
}
