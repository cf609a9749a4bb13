import { createHash } from 'node:crypto';
import type { Project, World } from '../state.ts';

/** `group/project`, as in URLs. */
export function fullPath(project: Project): string {
  return project.path.includes('/') ? project.path : `${project.namespace}/${project.path}`;
}

/** Host and port as components are addressed (CI_SERVER_FQDN). */
export function serverFqdn(world: World): string {
  return world.url === '' ? 'sandbox.invalid' : new URL(world.url).host;
}

/** As CI_COMMIT_REF_SLUG: lower case, at most 63 characters, only letters, digits and inner dashes. */
export function slug(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]/g, '-')
    .slice(0, 63)
    .replace(/^-+|-+$/g, '');
}

/** As CI_ENVIRONMENT_SLUG: at most 24 characters, made unique by a hash when the name had to be changed (lib/gitlab/slug/environment.rb). */
export function environmentSlug(name: string): string {
  let text = name.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  if (!/^[a-z]/.test(text)) text = `env-${text}`;
  if (text.length <= 24 && text === name) return text.replace(/-$/, '');
  const hash = BigInt(`0x${createHash('sha256').update(name).digest('hex')}`)
    .toString(36)
    .slice(-6);
  return `${text.slice(0, 17).replace(/-$/, '')}-${hash}`;
}

/** Whether pushes and jobs on a branch are protected; `*` in a rule stands for anything. */
export function isProtectedBranch(project: Project, branch: string): boolean {
  return project.protectedBranches.some(({ name }) => {
    const pattern = name.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
    return new RegExp(`^${pattern.join('.*')}$`).test(branch);
  });
}
