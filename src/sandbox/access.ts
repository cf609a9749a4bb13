import { ApiError, type Call } from './route.ts';
import type { AccessLevel, Job, MergeRequest, Project, Token, User, World } from './state.ts';

/** Access levels by the names people know. */
export const level = { guest: 10, reporter: 20, developer: 30, maintainer: 40, owner: 50 } as const;

/** The full path of a project, `namespace/name`. */
export function fullPath(project: Project): string {
  return `${project.namespace}/${project.path}`;
}

/** A project by number or full path; null when there is none. */
export function findProject(world: World, idOrPath: string): Project | null {
  if (/^\d+$/.test(idOrPath)) return world.projects.get(Number(idOrPath)) ?? null;
  const wanted = idOrPath.toLowerCase();
  for (const project of world.projects.values()) {
    if (fullPath(project).toLowerCase() === wanted) return project;
  }
  return null;
}

/** Who a secret belongs to; null for an unknown one. */
export function findToken(world: World, secret: string): { user: User; token: Token } | null {
  const token = world.tokens.find((entry) => entry.token === secret);
  const user = token && world.users.get(token.userId);
  return token && user ? { user, token } : null;
}

/** The running job a CI_JOB_TOKEN belongs to, with the user who started its pipeline. */
export function findJobToken(
  world: World,
  secret: string,
): { user: User; job: Job; project: Project } | null {
  for (const project of world.projects.values()) {
    for (const job of project.jobs.values()) {
      if (job.token !== secret || job.status !== 'running') continue;
      const user = world.users.get(project.pipelines.get(job.pipelineId)?.userId ?? -1);
      return user ? { user, job, project } : null;
    }
  }
  return null;
}

/** The role of a user, seen through the token used: a project token opens only its own project. 0 = none. */
export function accessOf(project: Project, user: User | null, token: Token | null): AccessLevel | 0 {
  if (!user || (token && token.projectId !== null && token.projectId !== project.id)) return 0;
  return project.members.get(user.id) ?? 0;
}

/**
 * The project a call is about. Throws an ApiError: 404 when it is not there or not the caller's to see, 403 when the
 * caller's role is below `needed` (doc: user/permissions).
 */
export function requireProject(call: Call, needed: AccessLevel): Project {
  const project = findProject(call.world, call.params.id ?? '');
  const role = project ? accessOf(project, call.user, call.token) : 0;
  if (!project || role === 0) throw new ApiError(404, '404 Project Not Found');
  if (call.job && call.job.projectId !== project.id) throw new ApiError(404, '404 Project Not Found');
  if (role < needed) throw new ApiError(403, '403 Forbidden');
  return project;
}

/** The merge request `params.iid` of a project. Throws an ApiError 404. */
export function requireMergeRequest(call: Call, project: Project): MergeRequest {
  const mr = project.mergeRequests.get(Number(call.params.merge_request_iid));
  if (!mr) throw new ApiError(404, '404 Not found');
  return mr;
}

/** The caller of a route that requires one. Throws an ApiError 401. */
export function requireUser(call: Call): User {
  if (!call.user) throw new ApiError(401, '401 Unauthorized');
  return call.user;
}

/** Whether a protected-branch pattern (`*` stands for anything) covers a branch. */
export function matchesPattern(pattern: string, branch: string): boolean {
  const source = pattern
    .split('*')
    .map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
    .join('.*');
  return new RegExp(`^${source}$`).test(branch);
}

/** The protection of a branch; null when it has none. With several matching patterns the most permissive counts, as on GitLab. */
export function protectionOf(
  project: Project,
  branch: string,
): { pushLevel: AccessLevel | 0; mergeLevel: AccessLevel | 0 } | null {
  const rules = project.protectedBranches.filter((rule) => matchesPattern(rule.name, branch));
  if (rules.length === 0) return null;
  const lowest = (levels: (AccessLevel | 0)[]): AccessLevel | 0 => {
    const open = levels.filter((value) => value !== 0).sort((a, b) => a - b);
    return open[0] ?? 0;
  };
  return {
    pushLevel: lowest(rules.map((rule) => rule.pushLevel)),
    mergeLevel: lowest(rules.map((rule) => rule.mergeLevel)),
  };
}

/** Whether somebody with this role may push to a branch (Developer and up, or what its protection says). */
export function mayPush(project: Project, role: AccessLevel | 0, branch: string): boolean {
  const rule = protectionOf(project, branch);
  if (!rule) return role >= level.developer;
  return rule.pushLevel !== 0 && role >= rule.pushLevel;
}

/** Whether somebody with this role may merge into a branch. Who may push may merge. */
export function mayMerge(project: Project, role: AccessLevel | 0, branch: string): boolean {
  const rule = protectionOf(project, branch);
  if (!rule) return role >= level.developer;
  return (rule.mergeLevel !== 0 && role >= rule.mergeLevel) || mayPush(project, role, branch);
}
