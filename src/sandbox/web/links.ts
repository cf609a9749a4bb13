import { fullPath } from '../access.ts';
import type { Project, World } from '../state.ts';

/** The relative URL the sandbox is served under ("" or "/gitlab"); links are made from it, so that any host name works. */
export function basePath(world: World): string {
  return world.url === '' ? '' : new URL(world.url).pathname.replace(/\/+$/, '');
}

const encode = (path: string) => path.split('/').map(encodeURIComponent).join('/');

/** The addresses of a project's pages, as GitLab has them. */
export function linksOf(world: World, project: Project) {
  const root = `${basePath(world)}/${encode(fullPath(project))}`;
  return {
    root,
    mergeRequests: `${root}/-/merge_requests`,
    pipelines: `${root}/-/pipelines`,
    environments: `${root}/-/environments`,
    releases: `${root}/-/releases`,
    issues: `${root}/-/issues`,
    mergeRequest: (iid: number) => `${root}/-/merge_requests/${iid}`,
    pipeline: (id: number) => `${root}/-/pipelines/${id}`,
    job: (id: number) => `${root}/-/jobs/${id}`,
    issue: (iid: number) => `${root}/-/issues/${iid}`,
    commit: (id: string) => `${root}/-/commit/${encodeURIComponent(id)}`,
    commits: (ref: string) => `${root}/-/commits/${encode(ref)}`,
    tree: (ref: string, path = '') => `${root}/-/tree/${encode(ref)}${path === '' ? '' : `/${encode(path)}`}`,
    blob: (ref: string, path: string) => `${root}/-/blob/${encode(ref)}/${encode(path)}`,
    raw: (ref: string, path: string) => `${root}/-/raw/${encode(ref)}/${encode(path)}`,
    upload: (path: string) => `${root}/uploads/${encode(path)}`,
  };
}

/** An address somebody else gave, when it is one a browser may be sent to; null otherwise (`javascript:` and the like). */
export function safeAddress(address: string | null): string | null {
  if (address === null) return null;
  try {
    const url = new URL(address);
    return url.protocol === 'http:' || url.protocol === 'https:' ? url.href : null;
  } catch {
    return null;
  }
}
