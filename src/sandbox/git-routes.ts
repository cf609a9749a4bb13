import type { IncomingMessage, ServerResponse } from 'node:http';
import { accessOf, findJobToken, findProject, findToken, level, mayPush, protectionOf } from './access.ts';
import { openMergeRequest } from './api/merge-requests.ts';
import { refsMoved } from './forge.ts';
import { readCommit, zeroSha } from './git.ts';
import { advertiseRefs, type RefCommand, type RefRule, receivePack, uploadPack } from './git-http.ts';
import { ApiError, type Forge } from './route.ts';
import type { AccessLevel, Project, User } from './state.ts';

/** A request for a repository: `/namespace/project.git/info/refs` and the two services. */
export interface GitRequest {
  path: string;
  service: 'info/refs' | 'git-upload-pack' | 'git-receive-pack';
}

/** Whether a path (below the server's own) is git's; null when it is not. The `.git` may be left out, as on GitLab. */
export function matchGit(path: string): GitRequest | null {
  const match = /^\/(.+?)(?:\.git)?\/(info\/refs|git-upload-pack|git-receive-pack)$/.exec(path);
  const service = match?.[2];
  if (!match?.[1]) return null;
  if (service !== 'info/refs' && service !== 'git-upload-pack' && service !== 'git-receive-pack') return null;
  return { path: match[1], service };
}

function refuse(response: ServerResponse, status: number, message: string): void {
  if (status === 401) response.setHeader('www-authenticate', 'Basic realm="GitLab"');
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' });
  response.end(message);
}

/** Who asks, by Basic auth: any name with an access token as password, or `gitlab-ci-token` with a job's token. */
function authenticate(
  forge: Forge,
  request: IncomingMessage,
  project: Project | null,
): { user: User; role: AccessLevel | 0; scopes: string[]; job: boolean } | null {
  const match = /^Basic (.+)$/i.exec(request.headers.authorization ?? '');
  if (!match?.[1]) return null;
  const [name = '', ...rest] = Buffer.from(match[1], 'base64').toString('utf8').split(':');
  const secret = rest.join(':');
  if (name === 'gitlab-ci-token') {
    const found = findJobToken(forge.world, secret);
    if (!found) return null;
    const own = project !== null && found.project.id === project.id;
    // A job reaches other projects its user may see only when those allow it; the sandbox allows reading.
    const role = project ? accessOf(project, found.user, null) : 0;
    return { user: found.user, role: own || role > 0 ? role : 0, scopes: ['read_repository'], job: true };
  }
  const found = findToken(forge.world, secret);
  if (!found) return null;
  const role = project ? accessOf(project, found.user, found.token) : 0;
  return { user: found.user, role, scopes: found.token.scopes, job: false };
}

/** Serves git over HTTP (git's http-protocol document; the smart protocol only). */
export async function serveGit(
  forge: Forge,
  asked: GitRequest,
  query: URLSearchParams,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const service = asked.service === 'info/refs' ? (query.get('service') ?? '') : asked.service;
  const project = findProject(forge.world, asked.path);
  const caller = authenticate(forge, request, project);
  if (!caller) {
    const given = request.headers.authorization !== undefined;
    refuse(
      response,
      401,
      given
        ? 'HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect or you are required to use a token instead of a password.\n'
        : 'HTTP Basic: Access denied.\n',
    );
    return;
  }
  if (!project || caller.role === 0) {
    refuse(
      response,
      404,
      'The project you were looking for could not be found or you do not have permission to view it.\n',
    );
    return;
  }
  const scopes = ['api', 'write_repository', ...(service === 'git-upload-pack' ? ['read_repository'] : [])];
  const writes = service === 'git-receive-pack';
  if (!caller.scopes.some((scope) => scopes.includes(scope)) || (writes && caller.job)) {
    refuse(response, 403, 'You are not allowed to push code to this project.\n');
    return;
  }
  if (caller.role < (writes ? level.developer : level.reporter)) {
    refuse(
      response,
      403,
      `You are not allowed to ${writes ? 'push code to' : 'download code from'} this project.\n`,
    );
    return;
  }
  if (asked.service === 'info/refs') {
    if (request.method !== 'GET' || !(await advertiseRefs(project.repository, service, request, response)))
      refuse(response, 403, 'Only the smart HTTP protocol is served here.\n');
    return;
  }
  if (request.method !== 'POST') {
    refuse(response, 405, 'Method not allowed\n');
    return;
  }
  if (!writes) {
    await uploadPack(project.repository, request, response);
    return;
  }
  const { user, role } = caller;
  await receivePack(
    project.repository,
    request,
    response,
    (command) => pushRule(project, role, command),
    (commands, options) => moved(forge, project, user, commands, options),
  );
}

/** What a push may do to a ref, in GitLab's words (doc: user/project/repository/branches/protected). */
export function pushRule(project: Project, role: AccessLevel | 0, command: RefCommand): RefRule {
  const branch = /^refs\/heads\/(.+)$/.exec(command.ref)?.[1];
  if (branch === undefined) {
    return command.ref.startsWith('refs/tags/')
      ? { kind: 'allow' }
      : { kind: 'deny', message: 'You can only push branches and tags.' };
  }
  if (command.new === zeroSha) {
    if (branch === project.defaultBranch)
      return { kind: 'deny', message: 'The default branch of a project cannot be deleted.' };
    return protectionOf(project, branch)
      ? { kind: 'deny', message: 'You can only delete protected branches using the web interface.' }
      : { kind: 'allow' };
  }
  if (!mayPush(project, role, branch))
    return {
      kind: 'deny',
      message: 'You are not allowed to push code to protected branches on this project.',
    };
  return protectionOf(project, branch)
    ? {
        kind: 'no-force',
        message: 'You are not allowed to force push code to a protected branch on this project.',
      }
    : { kind: 'allow' };
}

/** Follows up a push, and its options (doc: topics/git/commit, "Push options"). */
async function moved(
  forge: Forge,
  project: Project,
  user: User,
  commands: RefCommand[],
  options: string[],
): Promise<void> {
  await refsMoved(forge, project, user, commands, { skipCi: options.includes('ci.skip') });
  if (!options.includes('merge_request.create')) return;
  const value = (name: string) =>
    options.find((option) => option.startsWith(`merge_request.${name}=`))?.slice(name.length + 15);
  for (const command of commands) {
    const branch = /^refs\/heads\/(.+)$/.exec(command.ref)?.[1];
    if (branch === undefined || command.new === zeroSha || branch === project.defaultBranch) continue;
    const commit = await readCommit(project.repository, command.new);
    try {
      await openMergeRequest(forge, project, user, {
        sourceBranch: branch,
        targetBranch: value('target') ?? project.defaultBranch,
        title: value('title') ?? commit?.message.split('\n')[0] ?? branch,
        description: value('description') ?? '',
        labels: options.flatMap((option) => /^merge_request\.label=(.+)$/.exec(option)?.[1] ?? []),
        reviewerIds: [],
        squash: false,
        removeSourceBranch: options.includes('merge_request.remove_source_branch'),
      });
    } catch (error) {
      // The push has happened; that a merge request is open already does not undo it.
      if (!(error instanceof ApiError)) throw error;
    }
  }
}
