import * as branches from './api/branches.ts';
import * as commits from './api/commits.ts';
import * as deployments from './api/deployments.ts';
import * as files from './api/files.ts';
import * as hooks from './api/hooks.ts';
import * as issues from './api/issues.ts';
import * as jobs from './api/jobs.ts';
import * as merge from './api/merge.ts';
import * as mergeRequests from './api/merge-requests.ts';
import * as notes from './api/notes.ts';
import * as pipelines from './api/pipelines.ts';
import * as projects from './api/projects.ts';
import * as releases from './api/releases.ts';
import * as repository from './api/repository.ts';
import * as users from './api/users.ts';
import type { Route } from './route.ts';

type Options = Partial<Pick<Route, 'auth' | 'raw' | 'jobToken'>> & {
  operationId?: string;
  extra?: string[];
  extraDoc?: string;
};

/** The operationId GitLab's generator gives a route, unless its path has optional or greedy parts. */
function operationIdOf(method: string, path: string): string {
  const words = path.split(/[/_:]+/).filter((word) => word !== '');
  const name = words.map((word) => word.slice(0, 1).toUpperCase() + word.slice(1)).join('');
  return `${method.toLowerCase()}ApiV4${name}`;
}

/** A route that GitLab's OpenAPI file has; `extra` are parameters the file lacks, with the page that has them. */
function op(
  method: Route['method'],
  path: string,
  handler: Route['handler'],
  caller: string,
  options: Options = {},
): Route {
  const { extra, extraDoc, operationId = operationIdOf(method, path), ...rest } = options;
  const spec = { operationId, ...(extra && extraDoc ? { extra, extraDoc } : {}) };
  return { method, path, spec, handler, caller, ...rest };
}

/** A route that is missing in the OpenAPI file, with the page below docs.gitlab.com/api and the parameters it lists. */
function exception(
  method: Route['method'],
  path: string,
  doc: string,
  parameters: string[],
  handler: Route['handler'],
  caller: string,
): Route {
  return { method, path, spec: { doc: `https://docs.gitlab.com/api/${doc}`, parameters }, handler, caller };
}

const project = '/projects/:id';
const mr = `${project}/merge_requests/:merge_request_iid`;
const issue = `${project}/issues/:issue_iid`;

/** The route table of the forge: everything it answers. The runner's routes come with the engine. */
export const forgeRoutes: readonly Route[] = [
  // users
  exception('GET', '/user', 'users/#retrieve-the-current-user', [], users.currentUser, 'bot: who am I'),
  exception('GET', '/users/:id', 'users/#retrieve-a-user', [], users.userById, 'bot: approvers in reports'),
  exception('GET', '/users', 'users/#list-users', ['username'], users.usersByName, 'cli: roles by username'),
  op('GET', '/personal_access_tokens/self', users.currentToken, 'cli doctor'),
  op('GET', '/version', users.version, 'cli doctor'),
  op('GET', '/metadata', users.metadata, 'cli doctor'),
  // projects
  op('GET', '/projects', projects.listProjects, 'tests'),
  op('GET', project, projects.getProject, 'bot, steps'),
  op('PUT', project, projects.editProject, 'tests, cli init'),
  op('GET', `${project}/members`, projects.listMembers, 'bot: roles'),
  op('POST', `${project}/members`, projects.addMember, 'cli init'),
  op('GET', `${project}/members/all`, projects.listMembers, 'bot: roles'),
  op('GET', `${project}/members/all/:user_id`, projects.getMember, 'bot: role of who commands'),
  op('GET', `${project}/members/:user_id`, projects.getMember, 'tests'),
  op('PUT', `${project}/members/:user_id`, projects.editMember, 'tests'),
  op('DELETE', `${project}/members/:user_id`, projects.removeMember, 'tests'),
  op('GET', `${project}/protected_branches`, projects.listProtected, 'cli init, doctor'),
  op('POST', `${project}/protected_branches`, projects.protectBranch, 'cli init, doctor'),
  op('GET', `${project}/protected_branches/:name`, projects.getProtected, 'cli init, doctor'),
  op('DELETE', `${project}/protected_branches/:name`, projects.unprotectBranch, 'cli init, doctor'),
  op('GET', `${project}/variables`, projects.listVariables, 'cli init'),
  op('POST', `${project}/variables`, projects.createVariable, 'cli init'),
  op('GET', `${project}/variables/:key`, projects.getVariable, 'cli init'),
  op('PUT', `${project}/variables/:key`, projects.editVariable, 'cli init'),
  op('DELETE', `${project}/variables/:key`, projects.deleteVariable, 'cli init'),
  // repository
  op('GET', `${project}/repository/files/:file_path`, repository.getFile, 'bot: cdl.yaml, cdl.lock'),
  op('HEAD', `${project}/repository/files/:file_path`, repository.getFile, 'tests'),
  op('GET', `${project}/repository/files/:file_path/raw`, repository.getRawFile, 'bot: cdl.yaml, cdl.lock'),
  op('GET', `${project}/repository/tree`, repository.getTree, 'bot: code digest'),
  op('GET', `${project}/repository/blobs/:sha/raw`, repository.getBlob, 'bot: code digest'),
  op('GET', `${project}/repository/merge_base`, repository.getMergeBase, 'bot: baseline'),
  op('GET', `${project}/repository/compare`, repository.compare, 'bot: changed files'),
  op('GET', `${project}/repository/commits`, commits.listCommits, 'bot: history'),
  op('POST', `${project}/repository/commits`, commits.createCommit, 'bot: lock commit'),
  op('GET', `${project}/repository/commits/:sha`, commits.getCommit, 'bot'),
  op('GET', `${project}/repository/commits/:sha/diff`, commits.getCommitDiff, 'tests'),
  op('GET', `${project}/repository/commits/:sha/refs`, commits.getCommitRefs, 'tests'),
  op(
    'GET',
    `${project}/repository/commits/:sha/merge_requests`,
    commits.getCommitMergeRequests,
    'bot: change of a merge commit',
  ),
  op('GET', `${project}/repository/commits/:sha/statuses`, commits.listStatuses, 'bot: status'),
  op('POST', `${project}/statuses/:sha`, commits.setStatus, 'bot: status'),
  op('GET', `${project}/repository/branches`, branches.listBranches, 'bot'),
  op('POST', `${project}/repository/branches`, branches.createBranch, 'bot: revert change'),
  op('GET', `${project}/repository/branches/:branch`, branches.getBranch, 'bot'),
  op('DELETE', `${project}/repository/branches/:branch`, branches.deleteBranch, 'bot'),
  op('GET', `${project}/repository/tags`, branches.listTags, 'tests'),
  op('POST', `${project}/repository/tags`, branches.createTag, 'tests'),
  op('GET', `${project}/repository/tags/:tag_name`, branches.getTag, 'tests'),
  op('DELETE', `${project}/repository/tags/:tag_name`, branches.deleteTag, 'tests'),
  op('POST', `${project}/releases`, releases.createRelease, 'bot: promoted'),
  op('GET', `${project}/releases/:tag_name`, releases.getRelease, 'bot: promoted'),
  op('PUT', `${project}/releases/:tag_name`, releases.editRelease, 'bot: promoted'),
  op('GET', '/groups/:id/members/all', users.groupMembers, 'bot: roles by group'),
  // merge requests
  op('GET', `${project}/merge_requests`, mergeRequests.listMergeRequests, 'bot: reconcile'),
  op('POST', `${project}/merge_requests`, mergeRequests.createMergeRequest, 'bot: retraining, revert; demo'),
  op('GET', mr, mergeRequests.getMergeRequest, 'bot'),
  op('PUT', mr, mergeRequests.editMergeRequest, 'bot: labels; tests'),
  op('GET', `${mr}/diffs`, mergeRequests.listDiffs, 'bot: changed files'),
  op('GET', `${mr}/changes`, mergeRequests.getChanges, 'tests'),
  op('GET', `${mr}/commits`, mergeRequests.listMergeRequestCommits, 'bot'),
  op('GET', `${mr}/pipelines`, mergeRequests.listMergeRequestPipelines, 'bot: reconcile'),
  op('POST', `${mr}/pipelines`, mergeRequests.createMergeRequestPipeline, 'bot'),
  op('PUT', `${mr}/merge`, merge.merge, 'validator; demo'),
  op('PUT', `${mr}/rebase`, merge.rebase, 'tests'),
  op('GET', `${mr}/approvals`, merge.getApprovals, 'bot'),
  op('POST', `${mr}/approve`, merge.approve, 'validator'),
  op('POST', `${mr}/unapprove`, merge.unapprove, 'validator'),
  // notes, discussions and reactions
  exception(
    'GET',
    `${mr}/notes`,
    'notes/#list-all-merge-request-notes',
    ['activity_filter', 'order_by', 'sort'],
    notes.listNotes,
    'bot: its own report',
  ),
  exception(
    'POST',
    `${mr}/notes`,
    'notes/#create-a-merge-request-note',
    ['body', 'created_at', 'internal'],
    notes.createNote,
    'bot: report; validator: commands',
  ),
  exception('GET', `${mr}/notes/:note_id`, 'notes/#retrieve-a-merge-request-note', [], notes.getNote, 'bot'),
  exception(
    'PUT',
    `${mr}/notes/:note_id`,
    'notes/#update-a-merge-request-note',
    ['body'],
    notes.editNote,
    'bot: report',
  ),
  exception(
    'DELETE',
    `${mr}/notes/:note_id`,
    'notes/#delete-a-merge-request-note',
    [],
    notes.deleteNote,
    'tests',
  ),
  op('GET', `${mr}/notes/:note_id/award_emoji`, notes.listEmoji, 'bot'),
  op('POST', `${mr}/notes/:note_id/award_emoji`, notes.awardEmoji, 'bot: command seen'),
  op('DELETE', `${mr}/notes/:note_id/award_emoji/:award_id`, notes.removeEmoji, 'tests'),
  exception(
    'GET',
    `${issue}/notes`,
    'notes/#list-all-issue-notes',
    ['activity_filter', 'order_by', 'sort'],
    notes.listNotes,
    'bot: its own report',
  ),
  exception(
    'POST',
    `${issue}/notes`,
    'notes/#create-an-issue-note',
    ['body', 'created_at', 'internal'],
    notes.createNote,
    'bot: report; validator: commands',
  ),
  exception('GET', `${issue}/notes/:note_id`, 'notes/#retrieve-a-issue-note', [], notes.getNote, 'bot'),
  exception(
    'PUT',
    `${issue}/notes/:note_id`,
    'notes/#update-a-issue-note',
    ['body'],
    notes.editNote,
    'bot: report',
  ),
  exception('DELETE', `${issue}/notes/:note_id`, 'notes/#delete-a-issue-note', [], notes.deleteNote, 'tests'),
  op('GET', `${issue}/notes/:note_id/award_emoji`, notes.listEmoji, 'bot'),
  op('POST', `${issue}/notes/:note_id/award_emoji`, notes.awardEmoji, 'bot: command seen'),
  op('DELETE', `${issue}/notes/:note_id/award_emoji/:award_id`, notes.removeEmoji, 'tests'),
  exception(
    'GET',
    `${mr}/discussions`,
    'discussions/#list-all-merge-request-discussion-items',
    [],
    notes.listDiscussions,
    'bot',
  ),
  exception(
    'POST',
    `${mr}/discussions`,
    'discussions/#create-a-merge-request-thread',
    ['body', 'commit_id', 'created_at', 'position'],
    notes.createDiscussion,
    'bot: replies',
  ),
  exception(
    'GET',
    `${mr}/discussions/:discussion_id`,
    'discussions/#retrieve-a-merge-request-discussion-item',
    [],
    notes.getDiscussion,
    'bot',
  ),
  exception(
    'PUT',
    `${mr}/discussions/:discussion_id`,
    'discussions/#resolve-a-merge-request-thread',
    ['resolved'],
    notes.resolveDiscussion,
    'bot: problems at lines of cdl.yaml',
  ),
  exception(
    'POST',
    `${mr}/discussions/:discussion_id/notes`,
    'discussions/#add-a-note-to-a-merge-request-thread',
    ['body', 'created_at'],
    notes.replyToDiscussion,
    'bot: replies',
  ),
  // issues
  op('GET', `${project}/issues`, issues.listIssues, 'bot: drift'),
  op('POST', `${project}/issues`, issues.createIssue, 'bot: drift'),
  op('GET', issue, issues.getIssue, 'bot'),
  op('PUT', issue, issues.editIssue, 'bot: drift'),
  // pipelines and jobs
  op('GET', `${project}/pipelines`, pipelines.listPipelines, 'bot: reconcile'),
  op('POST', `${project}/pipeline`, pipelines.createPipeline, 'bot: evaluation'),
  op('GET', `${project}/pipelines/latest`, pipelines.latestPipeline, 'tests'),
  op('GET', `${project}/pipelines/:pipeline_id`, pipelines.getPipeline, 'bot'),
  op('GET', `${project}/pipelines/:pipeline_id/variables`, pipelines.getPipelineVariables, 'bot'),
  op('GET', `${project}/pipelines/:pipeline_id/jobs`, pipelines.listPipelineJobs, 'bot: artifacts'),
  op('POST', `${project}/pipelines/:pipeline_id/cancel`, pipelines.cancelPipeline, 'bot'),
  op('POST', `${project}/pipelines/:pipeline_id/retry`, pipelines.retryPipeline, 'bot'),
  op('POST', `${project}/trigger/pipeline`, pipelines.triggerPipeline, 'bot: evaluation project', {
    operationId: 'postApiV4ProjectsId(refRef)triggerPipeline',
    auth: 'none',
    extra: ['ref'],
    extraDoc: 'https://docs.gitlab.com/api/pipeline_triggers/#trigger-a-pipeline-with-a-token',
  }),
  op('GET', `${project}/triggers`, pipelines.listTriggers, 'cli init'),
  op('POST', `${project}/triggers`, pipelines.createTrigger, 'cli init'),
  op('DELETE', `${project}/triggers/:trigger_id`, pipelines.deleteTrigger, 'tests'),
  op('GET', `${project}/jobs`, jobs.listJobs, 'tests'),
  op('GET', `${project}/jobs/:job_id`, jobs.getJob, 'bot'),
  op('GET', `${project}/jobs/:job_id/trace`, jobs.getTrace, 'bot, web'),
  op('GET', `${project}/jobs/:job_id/artifacts`, jobs.getArtifacts, 'bot', { jobToken: true }),
  op('GET', `${project}/jobs/:job_id/artifacts/*`, jobs.getArtifactFile, 'bot: evaluation.json', {
    operationId: 'getApiV4ProjectsIdJobsJobIdArtifacts*artifactPath',
    jobToken: true,
  }),
  op('GET', `${project}/jobs/artifacts/:ref_name/download`, jobs.downloadLatest, 'tests', { jobToken: true }),
  op('GET', `${project}/jobs/artifacts/:ref_name/raw/*`, jobs.rawLatest, 'bot', {
    operationId: 'getApiV4ProjectsIdJobsArtifactsRefNameRaw*artifactPath',
    jobToken: true,
  }),
  op('POST', `${project}/jobs/:job_id/cancel`, jobs.cancelJob, 'bot, tests'),
  op('POST', `${project}/jobs/:job_id/retry`, jobs.retryJob, 'bot, tests'),
  op('POST', `${project}/jobs/:job_id/play`, jobs.playJob, 'bot, tests'),
  // environments and deployments
  op('GET', `${project}/environments`, deployments.listEnvironments, 'bot'),
  op('POST', `${project}/environments`, deployments.createEnvironment, 'cli init'),
  op('GET', `${project}/environments/:environment_id`, deployments.getEnvironment, 'bot'),
  op('PUT', `${project}/environments/:environment_id`, deployments.editEnvironment, 'tests'),
  op('DELETE', `${project}/environments/:environment_id`, deployments.deleteEnvironment, 'tests'),
  op('POST', `${project}/environments/:environment_id/stop`, deployments.stopEnvironment, 'tests'),
  op('GET', `${project}/deployments`, deployments.listDeployments, 'bot: what is live'),
  op('POST', `${project}/deployments`, deployments.createDeployment, 'bot'),
  op('GET', `${project}/deployments/:deployment_id`, deployments.getDeployment, 'bot'),
  op('PUT', `${project}/deployments/:deployment_id`, deployments.editDeployment, 'bot'),
  // webhooks
  op('GET', `${project}/hooks`, hooks.listHooks, 'cli init, doctor'),
  op('POST', `${project}/hooks`, hooks.createHook, 'cli init', {
    extra: ['signing_token'],
    extraDoc: 'https://docs.gitlab.com/api/project_webhooks/#add-a-webhook-to-a-project',
  }),
  op('GET', `${project}/hooks/:hook_id`, hooks.getHook, 'cli doctor'),
  op('PUT', `${project}/hooks/:hook_id`, hooks.editHook, 'cli init', {
    extra: ['signing_token'],
    extraDoc: 'https://docs.gitlab.com/api/project_webhooks/#add-a-webhook-to-a-project',
  }),
  op('DELETE', `${project}/hooks/:hook_id`, hooks.deleteHook, 'tests'),
  op('GET', `${project}/hooks/:hook_id/events`, hooks.listHookEvents, 'bot: reconcile'),
  op('POST', `${project}/hooks/:hook_id/events/:hook_log_id/resend`, hooks.resendHookEvent, 'bot: reconcile'),
  op('POST', `${project}/hooks/:hook_id/test/:trigger`, hooks.testHook, 'cli doctor'),
  // uploads and packages
  op('POST', `${project}/uploads`, files.upload, 'bot: pictures of the report'),
  op('GET', `${project}/uploads/:secret/:filename`, files.getUpload, 'tests'),
  op(
    'PUT',
    `${project}/packages/generic/:package_name/:package_version/:file_name`,
    files.publishPackage,
    'steps: package',
    {
      operationId: 'putApiV4ProjectsIdPackagesGenericPackageName*packageVersion(*path)FileName',
      raw: true,
      jobToken: true,
    },
  ),
  op(
    'GET',
    `${project}/packages/generic/:package_name/:package_version/:file_name`,
    files.getPackage,
    'steps: package',
    {
      operationId: 'getApiV4ProjectsIdPackagesGenericPackageName*packageVersion(*path)FileName',
      jobToken: true,
    },
  ),
];
