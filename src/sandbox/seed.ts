import { randomBytes } from 'node:crypto';
import { chmod, mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fullPath } from './access.ts';
import { signatureOf } from './api/commits.ts';
import { commitTree, git, gitText } from './git.ts';
import { preReceiveHook } from './git-http.ts';
import { hookEvents } from './hooks.ts';
import type { AccessLevel, Hook, Project, ProjectSettings, Token, User, Variable, World } from './state.ts';

/** A new user. */
export function createUser(world: World, wanted: { username: string; name?: string; bot?: boolean }): User {
  const user = {
    id: world.nextId('user'),
    username: wanted.username,
    name: wanted.name ?? wanted.username,
    bot: wanted.bot ?? false,
  };
  world.users.set(user.id, user);
  return user;
}

/** A new access token of a user, with scope `api` unless said otherwise; `project` limits it to one project. */
export function createToken(
  world: World,
  user: User,
  options: { scopes?: string[]; project?: Project; token?: string } = {},
): Token {
  const token = {
    token: options.token ?? `glpat-${randomBytes(15).toString('base64url')}`,
    userId: user.id,
    scopes: options.scopes ?? ['api'],
    projectId: options.project?.id ?? null,
  };
  world.tokens.push(token);
  return token;
}

/** What {@link createProject} needs. `from` is a folder of files, or a git repository, to start with. */
export interface NewProject {
  namespace: string;
  path: string;
  name?: string;
  owner: User;
  from?: string;
  defaultBranch?: string;
  settings?: Partial<ProjectSettings>;
}

/** A new project; its default branch is protected for Maintainers, as GitLab does. Throws a GitError when `from` cannot be read. */
export async function createProject(world: World, wanted: NewProject): Promise<Project> {
  const id = world.nextId('project');
  const repository = join(world.folder, 'repositories', `${id}.git`);
  const defaultBranch = wanted.defaultBranch ?? 'main';
  await mkdir(repository, { recursive: true });
  await git(repository, ['init', '--quiet', '--bare', '--template=', `--initial-branch=${defaultBranch}`]);
  await mkdir(join(repository, 'hooks'));
  const hook = join(repository, 'hooks', 'pre-receive');
  await writeFile(hook, preReceiveHook);
  await chmod(hook, 0o755);
  const project: Project = {
    id,
    path: wanted.path,
    namespace: wanted.namespace,
    name: wanted.name ?? wanted.path,
    defaultBranch,
    repository,
    settings: {
      description: '',
      mergeMethod: 'merge',
      onlyAllowMergeIfPipelineSucceeds: false,
      ciConfigPath: null,
      ...wanted.settings,
    },
    members: new Map([[wanted.owner.id, 50]]),
    protectedBranches: [{ name: defaultBranch, pushLevel: 40, mergeLevel: 40 }],
    variables: [],
    mergeRequests: new Map(),
    pipelines: new Map(),
    jobs: new Map(),
    statuses: [],
    environments: [],
    deployments: [],
    hooks: [],
    issues: new Map(),
    uploads: new Map(),
    triggerTokens: [],
    releases: new Map(),
  };
  if (wanted.from !== undefined) await fill(project, wanted.from, wanted.owner);
  if ([...world.projects.values()].some((other) => fullPath(other) === fullPath(project)))
    throw new Error(`the sandbox already has a project ${fullPath(project)}`);
  world.projects.set(id, project);
  return project;
}

async function fill(project: Project, from: string, owner: User): Promise<void> {
  if (await stat(join(from, '.git')).catch(() => null)) {
    await git(project.repository, [
      'fetch',
      '--quiet',
      from,
      '+refs/heads/*:refs/heads/*',
      '+refs/tags/*:refs/tags/*',
    ]);
    return;
  }
  const env = { GIT_INDEX_FILE: join(project.repository, 'seed-index') };
  await git(project.repository, [`--work-tree=${from}`, 'add', '--all', '--force', '.'], { env });
  const tree = await gitText(project.repository, ['write-tree'], { env });
  const by = signatureOf(owner);
  const commit = await commitTree(project.repository, tree, [], 'Initial commit\n', by, by);
  await git(project.repository, ['update-ref', `refs/heads/${project.defaultBranch}`, commit]);
}

/** Gives a user a role in a project, or another one. */
export function addMember(project: Project, user: User, role: AccessLevel): void {
  project.members.set(user.id, role);
}

/** Makes a group of people; a second call replaces its members. */
export function setGroup(world: World, path: string, users: readonly User[]): void {
  world.groups.set(path.toLowerCase(), new Set(users.map((user) => user.id)));
}

/** Sets a CI/CD variable; a second one of the same key and environment replaces the first. */
export function setVariable(
  project: Project,
  variable: Pick<Variable, 'key' | 'value'> & Partial<Omit<Variable, 'key' | 'value'>>,
): void {
  const whole = { protected: false, masked: false, environmentScope: '*', ...variable };
  project.variables = [
    ...project.variables.filter(
      (old) => old.key !== whole.key || old.environmentScope !== whole.environmentScope,
    ),
    whole,
  ];
}

/** Protects a branch or a pattern (`release/*`); levels are the least role that may push or merge, 0 nobody. */
export function protectBranch(
  project: Project,
  name: string,
  levels: { push: AccessLevel | 0; merge: AccessLevel | 0 },
): void {
  project.protectedBranches = [
    ...project.protectedBranches.filter((rule) => rule.name !== name),
    { name, pushLevel: levels.push, mergeLevel: levels.merge },
  ];
}

/** A pipeline trigger token that acts as `user`. */
export function createTrigger(world: World, project: Project, user: User, description: string): string {
  const token = `glptt-${randomBytes(20).toString('hex')}`;
  project.triggerTokens.push({ id: world.nextId('trigger'), token, userId: user.id, description });
  return token;
}

/** A webhook; `events` as in the hooks API, e.g. `{note_events: true}`. */
export function addHook(
  world: World,
  project: Project,
  wanted: { url: string; token?: string; signingToken?: string; events: Record<string, boolean> },
): Hook {
  const hook = {
    id: world.nextId('hook'),
    url: wanted.url,
    token: wanted.token ?? null,
    signingToken: wanted.signingToken ?? null,
    events: { ...hookEvents, ...wanted.events },
    failures: 0,
    disabledUntil: null,
  };
  project.hooks.push(hook);
  return hook;
}
