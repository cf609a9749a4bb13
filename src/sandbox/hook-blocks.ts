import { fullPath } from './access.ts';
import { type Commit, readCommit } from './git.ts';
import { projectUrl } from './present.ts';
import type { Project, World } from './state.ts';

/** `2026-01-16 05:56:30 UTC`, as older parts of the payloads write times. */
export function utc(iso: string | null): string | null {
  return iso === null ? null : `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`;
}

/** `2026-01-16T05:56:30Z`, as newer parts write them. */
export function isoSeconds(iso: string | null): string | null {
  return iso === null ? null : `${iso.slice(0, 19)}Z`;
}

/** Seconds between two times; null while one is missing. */
export function duration(from: string | null, to: string | null): number | null {
  return from === null || to === null ? null : (Date.parse(to) - Date.parse(from)) / 1000;
}

/** A user; the address is always hidden. */
export function userBlock(world: World, id: number) {
  const user = world.users.get(id);
  return {
    id,
    name: user?.name ?? '',
    username: user?.username ?? '',
    avatar_url: null,
    email: '[REDACTED]',
  };
}

/** The project block of pipeline and job hooks. */
export function shortProject(world: World, project: Project) {
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

/** The project block of the other hooks. */
export function projectBlock(world: World, project: Project) {
  const short = shortProject(world, project);
  return {
    ...short,
    homepage: short.web_url,
    url: short.git_ssh_url,
    ssh_url: short.git_ssh_url,
    http_url: short.git_http_url,
  };
}

/** The repository block of merge request and note hooks. */
export function repositoryBlock(world: World, project: Project) {
  const short = shortProject(world, project);
  return {
    name: project.name,
    url: short.git_ssh_url,
    description: short.description,
    homepage: short.web_url,
  };
}

/** The repository block of push and job hooks. */
export function repositoryWithUrls(world: World, project: Project) {
  const short = shortProject(world, project);
  return {
    ...repositoryBlock(world, project),
    git_http_url: short.git_http_url,
    git_ssh_url: short.git_ssh_url,
    visibility_level: 0,
  };
}

/** A commit. */
export function commitBlock(world: World, project: Project, commit: Commit) {
  return {
    id: commit.id,
    message: commit.message,
    title: commit.message.split('\n')[0] ?? '',
    timestamp: commit.author.date,
    url: `${projectUrl(world, project)}/-/commit/${commit.id}`,
    author: { name: commit.author.name, email: commit.author.email },
  };
}

/** A commit by its id; null when the repository lacks it. */
export async function commitOf(world: World, project: Project, sha: string) {
  const commit = await readCommit(project.repository, sha);
  return commit && commitBlock(world, project, commit);
}
