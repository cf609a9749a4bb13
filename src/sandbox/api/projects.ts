import { accessOf, fullPath, level, requireProject } from '../access.ts';
import { resolveRef } from '../git.ts';
import { paginate, sorted } from '../page.ts';
import { flag, integer, oneOf, requiredText, text } from '../params.ts';
import { presentProject, presentUser } from '../present.ts';
import { ApiError, type Call, type Reply } from '../route.ts';
import type { AccessLevel, Project } from '../state.ts';

/** `GET /projects`: those the caller is a member of. */
export function listProjects(call: Call): Promise<Reply> {
  const search = text(call, 'search')?.toLowerCase() ?? '';
  const least = integer(call, 'min_access_level') ?? 1;
  const mine = [...call.world.projects.values()].filter(
    (project) =>
      accessOf(project, call.user, call.token) >= least && fullPath(project).toLowerCase().includes(search),
  );
  return paginate(
    call,
    sorted(mine, (project) => project.id, call.query.sort),
    (project) => presentProject(call.world, project, accessOf(project, call.user, call.token)),
  );
}

/** `GET /projects/:id`. */
export function getProject(call: Call): Reply {
  const project = requireProject(call, level.guest);
  return {
    status: 200,
    body: presentProject(call.world, project, accessOf(project, call.user, call.token)),
  };
}

/** `PUT /projects/:id`: the settings the sandbox acts on. Others are answered 501. */
export async function editProject(call: Call): Promise<Reply> {
  const project = requireProject(call, level.maintainer);
  const known = [
    'id',
    'name',
    'description',
    'default_branch',
    'merge_method',
    'only_allow_merge_if_pipeline_succeeds',
    'ci_config_path',
  ];
  const other = Object.keys(call.body).find((key) => !known.includes(key));
  if (other !== undefined)
    throw new ApiError(501, { error: `the sandbox does not act on the project setting ${other}` });
  const branch = text(call, 'default_branch');
  if (branch !== null) {
    if ((await resolveRef(project.repository, `refs/heads/${branch}`)) === null)
      throw new ApiError(400, {
        message: { base: [`Could not change HEAD: branch '${branch}' does not exist`] },
      });
    project.defaultBranch = branch;
  }
  project.name = text(call, 'name') ?? project.name;
  const settings = project.settings;
  settings.description = text(call, 'description') ?? settings.description;
  settings.mergeMethod = oneOf(call, 'merge_method', ['merge', 'rebase_merge', 'ff']) ?? settings.mergeMethod;
  settings.onlyAllowMergeIfPipelineSucceeds =
    flag(call, 'only_allow_merge_if_pipeline_succeeds') ?? settings.onlyAllowMergeIfPipelineSucceeds;
  const path = text(call, 'ci_config_path');
  if (path !== null) settings.ciConfigPath = path === '' ? null : path;
  return getProject(call);
}

function presentMember(call: Call, userId: number, role: AccessLevel) {
  return {
    ...presentUser(call.world, call.world.users.get(userId)),
    access_level: role,
    expires_at: null,
    membership_state: 'active',
  };
}

/** `GET /projects/:id/members` and `/members/all`: the sandbox has no groups, so both are the same. */
export function listMembers(call: Call): Promise<Reply> {
  const project = requireProject(call, level.guest);
  const query = text(call, 'query')?.toLowerCase() ?? '';
  const members = [...project.members].filter(([id]) =>
    (call.world.users.get(id)?.username ?? '').toLowerCase().includes(query),
  );
  return paginate(call, members, ([id, role]) => presentMember(call, id, role));
}

/** `GET /projects/:id/members/:user_id` and `/members/all/:user_id`. */
export function getMember(call: Call): Reply {
  const project = requireProject(call, level.guest);
  const id = Number(call.params.user_id);
  const role = project.members.get(id);
  if (role === undefined) throw new ApiError(404, '404 Not found');
  return { status: 200, body: presentMember(call, id, role) };
}

/** Reads an access level. Throws an ApiError 400 for a number that is none. */
export function accessLevel(value: number | null): AccessLevel {
  if (value === 10 || value === 20 || value === 30 || value === 40 || value === 50) return value;
  throw new ApiError(400, { error: 'access_level does not have a valid value' });
}

/** `POST /projects/:id/members`. */
export function addMember(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  const id = Number(requiredText(call, 'user_id'));
  if (!call.world.users.has(id)) throw new ApiError(404, '404 User Not Found');
  if (project.members.has(id)) throw new ApiError(409, 'Member already exists');
  const role = accessLevel(integer(call, 'access_level'));
  project.members.set(id, role);
  return { status: 201, body: presentMember(call, id, role) };
}

/** `PUT /projects/:id/members/:user_id`. */
export function editMember(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  const id = Number(call.params.user_id);
  if (!project.members.has(id)) throw new ApiError(404, '404 Not found');
  const role = accessLevel(integer(call, 'access_level'));
  project.members.set(id, role);
  return { status: 200, body: presentMember(call, id, role) };
}

/** `DELETE /projects/:id/members/:user_id`. */
export function removeMember(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  if (!project.members.delete(Number(call.params.user_id))) throw new ApiError(404, '404 Not found');
  return { status: 204 };
}

function presentProtection(rule: Project['protectedBranches'][number]) {
  const levels = (value: AccessLevel | 0) => [
    {
      id: value,
      access_level: value,
      access_level_description:
        value === 0 ? 'No one' : value === 30 ? 'Developers + Maintainers' : 'Maintainers',
    },
  ];
  return {
    name: rule.name,
    push_access_levels: levels(rule.pushLevel),
    merge_access_levels: levels(rule.mergeLevel),
    allow_force_push: false,
  };
}

/** `GET /projects/:id/protected_branches`. */
export function listProtected(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  return paginate(call, project.protectedBranches, presentProtection);
}

/** `GET /projects/:id/protected_branches/:name`. */
export function getProtected(call: Call): Reply {
  const project = requireProject(call, level.developer);
  const rule = project.protectedBranches.find((entry) => entry.name === call.params.name);
  if (!rule) throw new ApiError(404, '404 Not found');
  return { status: 200, body: presentProtection(rule) };
}

function protectionLevel(call: Call, name: string): AccessLevel | 0 {
  const value = integer(call, name) ?? 40;
  if (value === 0) return 0;
  return accessLevel(value);
}

/** `POST /projects/:id/protected_branches`. */
export function protectBranch(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  const name = requiredText(call, 'name');
  if (project.protectedBranches.some((entry) => entry.name === name))
    throw new ApiError(409, `Protected branch '${name}' already exists`);
  if (flag(call, 'allow_force_push') === true)
    throw new ApiError(501, { error: 'the sandbox does not allow force pushes to protected branches' });
  const rule = {
    name,
    pushLevel: protectionLevel(call, 'push_access_level'),
    mergeLevel: protectionLevel(call, 'merge_access_level'),
  };
  project.protectedBranches.push(rule);
  return { status: 201, body: presentProtection(rule) };
}

/** `DELETE /projects/:id/protected_branches/:name`. */
export function unprotectBranch(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  const at = project.protectedBranches.findIndex((entry) => entry.name === call.params.name);
  if (at < 0) throw new ApiError(404, '404 Not found');
  project.protectedBranches.splice(at, 1);
  return { status: 204 };
}

function presentVariable(variable: Project['variables'][number]) {
  return {
    variable_type: 'env_var',
    key: variable.key,
    value: variable.value,
    hidden: false,
    protected: variable.protected,
    masked: variable.masked,
    raw: false,
    environment_scope: variable.environmentScope,
    description: null,
  };
}

function findVariable(call: Call, project: Project) {
  const filter = call.query.filter ?? call.body.filter;
  const scope =
    typeof filter === 'object' && filter !== null && 'environment_scope' in filter
      ? String(filter.environment_scope)
      : null;
  const found = project.variables.filter(
    (entry) => entry.key === call.params.key && (scope === null || entry.environmentScope === scope),
  );
  if (found.length > 1)
    throw new ApiError(
      409,
      "There are multiple variables with provided parameters. Please use 'filter[environment_scope]'",
    );
  if (!found[0]) throw new ApiError(404, '404 Variable Not Found');
  return found[0];
}

function checkMasked(value: string, masked: boolean): void {
  if (masked && (value.length < 8 || /\s/.test(value)))
    throw new ApiError(400, { message: { value: ['is invalid'] } });
}

/** `GET /projects/:id/variables`. */
export function listVariables(call: Call): Promise<Reply> {
  return paginate(call, requireProject(call, level.maintainer).variables, presentVariable);
}

/** `GET /projects/:id/variables/:key`. */
export function getVariable(call: Call): Reply {
  return { status: 200, body: presentVariable(findVariable(call, requireProject(call, level.maintainer))) };
}

/** `POST /projects/:id/variables`. File variables and raw ones are answered 501. */
export function createVariable(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  if ((text(call, 'variable_type') ?? 'env_var') !== 'env_var' || flag(call, 'raw') === true)
    throw new ApiError(501, { error: 'the sandbox has only plain environment variables' });
  const key = requiredText(call, 'key');
  if (!/^[a-zA-Z0-9_]{1,255}$/.test(key))
    throw new ApiError(400, { message: { key: ["can contain only letters, digits and '_'."] } });
  const variable = {
    key,
    value: text(call, 'value') ?? '',
    protected: flag(call, 'protected') ?? false,
    masked: flag(call, 'masked') ?? false,
    environmentScope: text(call, 'environment_scope') ?? '*',
  };
  checkMasked(variable.value, variable.masked);
  if (project.variables.some((old) => old.key === key && old.environmentScope === variable.environmentScope))
    throw new ApiError(400, { message: { key: [`(${key}) has already been taken`] } });
  project.variables.push(variable);
  return { status: 201, body: presentVariable(variable) };
}

/** `PUT /projects/:id/variables/:key`. */
export function editVariable(call: Call): Reply {
  const variable = findVariable(call, requireProject(call, level.maintainer));
  const value = text(call, 'value') ?? variable.value;
  const masked = flag(call, 'masked') ?? variable.masked;
  checkMasked(value, masked);
  variable.value = value;
  variable.masked = masked;
  variable.protected = flag(call, 'protected') ?? variable.protected;
  variable.environmentScope = text(call, 'environment_scope') ?? variable.environmentScope;
  return { status: 200, body: presentVariable(variable) };
}

/** `DELETE /projects/:id/variables/:key`. */
export function deleteVariable(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  const variable = findVariable(call, project);
  project.variables.splice(project.variables.indexOf(variable), 1);
  return { status: 204 };
}
