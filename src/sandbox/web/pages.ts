import type { ServerResponse } from 'node:http';
import { type Html, html } from '../../report/html.ts';
import { fullPath } from '../access.ts';
import { GitError } from '../git.ts';
import type { Forge } from '../route.ts';
import type { Pages } from '../server.ts';
import type { Project, World } from '../state.ts';
import { streamEvents } from './events.ts';
import { sendUploadedFile } from './files.ts';
import { contentSecurityPolicy, frame, icon, type Page } from './layout.ts';
import { linksOf } from './links.ts';
import { projectList, projectOverview, userPage } from './project-pages.ts';
import { findPage, type Section, sectionOf } from './project-routes.ts';

/** Headers of everything a browser gets from here. */
const safety = {
  'content-security-policy': contentSecurityPolicy,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'same-origin',
  'cache-control': 'no-store',
};

/** The project whose path the segments begin with, and what is left of them; the longest path wins. */
function findByPath(world: World, segments: readonly string[]): { project: Project; rest: string[] } | null {
  for (let length = segments.length; length > 0; length -= 1) {
    const wanted = segments.slice(0, length).join('/').toLowerCase();
    for (const project of world.projects.values()) {
      if (fullPath(project).toLowerCase() === wanted) return { project, rest: segments.slice(length) };
    }
  }
  return null;
}

/** The segments of a path, decoded; null when it is not well formed. No name of git or of a file holds a NUL. */
function segmentsOf(path: string): string[] | null {
  try {
    return path.includes('%00')
      ? null
      : path
          .split('/')
          .filter((segment) => segment !== '')
          .map(decodeURIComponent);
  } catch {
    return null;
  }
}

function send(response: ServerResponse, world: World, page: Page): void {
  response.writeHead(page.status ?? 200, { ...safety, 'content-type': 'text/html; charset=utf-8' });
  response.end(response.req.method === 'HEAD' ? undefined : frame(world, page));
}

/** The project's menu, with the section one is in. */
function menuOf(world: World, project: Project, current: Section): Page['menu'] {
  const links = linksOf(world, project);
  const entries: [Section, string, string][] = [
    ['overview', 'Overview', links.root],
    ['merge_requests', 'Merge requests', links.mergeRequests],
    ['pipelines', 'Pipelines', links.pipelines],
    ['environments', 'Environments', links.environments],
    ['releases', 'Releases', links.releases],
    ['repository', 'Repository', links.tree(project.defaultBranch)],
    ['issues', 'Issues', links.issues],
  ];
  return entries.map(([section, text, href]) => ({ text, href, current: section === current }));
}

/** A page of a project: title, where it is, menu. */
function projectPage(world: World, project: Project, section: Section, title: string, body: Html): Page {
  const path = fullPath(project);
  const { root } = linksOf(world, project);
  return {
    title: section === 'overview' ? path : `${title} · ${path}`,
    crumbs:
      section === 'overview'
        ? [{ text: path, href: null }]
        : [
            { text: path, href: root },
            { text: title, href: null },
          ],
    menu: menuOf(world, project, section),
    projectId: project.id,
    body,
  };
}

/** The page of a person or a namespace; null when nobody and nothing has that name. */
function namePage(world: World, name: string): Page | null {
  const home = { menu: [], projectId: null };
  const user = [...world.users.values()].find((entry) => entry.username.toLowerCase() === name.toLowerCase());
  if (user) {
    return {
      ...home,
      title: user.name,
      crumbs: [{ text: user.name, href: null }],
      body: userPage(world, user.id),
    };
  }
  const projects = [...world.projects.values()].filter(
    (project) => project.namespace.toLowerCase() === name.toLowerCase(),
  );
  if (projects.length === 0) return null;
  return {
    ...home,
    title: name,
    crumbs: [{ text: name, href: null }],
    body: projectList(world, name, projects),
  };
}

/** What stands at an address, or that nothing does. */
function missing(path: string): Page {
  return {
    title: 'Not found',
    crumbs: [{ text: 'Not found', href: null }],
    menu: [],
    projectId: null,
    status: 404,
    body: html`<div class="head" data-part="head"><h1>There is nothing here</h1><p class="meta">${path}</p></div>`,
  };
}

/** Uploads of the project by number: `/-/project/ID/uploads/SECRET/NAME`. */
function uploadByNumber(
  world: World,
  segments: readonly string[],
): { project: Project; path: string } | null {
  const [dash, kind, id, uploads, ...path] = segments;
  if (dash !== '-' || kind !== 'project' || uploads !== 'uploads') return null;
  const project = world.projects.get(Number(id));
  return project ? { project, path: path.join('/') } : null;
}

/**
 * The read-only web pages of the sandbox, at the addresses GitLab has them at. They ask for no login and show everything
 * to everybody who reaches the server, which listens on the loopback interface.
 */
export function renderPages(forge: Forge): Pages {
  const { world } = forge;
  return async (request, response, path) => {
    const segments = segmentsOf(path);
    if (segments === null) return false;
    const url = new URL(request.url ?? '/', 'http://localhost');
    if (path === '/-/events') {
      const id = url.searchParams.get('project');
      streamEvents(world, id === null ? null : Number(id), request, response);
      return true;
    }
    if (path === '/-/icon.svg') {
      response.writeHead(200, {
        ...safety,
        'content-type': 'image/svg+xml',
        'cache-control': 'max-age=86400',
      });
      response.end(request.method === 'HEAD' ? undefined : icon);
      return true;
    }
    const page = await findAddress(world, segments, url.searchParams, response).catch((error: unknown) => {
      // Names that git does not take name nothing.
      if (error instanceof GitError && !response.headersSent) return null;
      throw error;
    });
    if (page === 'sent') return true;
    send(response, world, page ?? missing(path));
    return true;
  };
}

async function findAddress(
  world: World,
  segments: readonly string[],
  query: URLSearchParams,
  response: ServerResponse,
): Promise<Page | 'sent' | null> {
  if (segments.length === 0) {
    const body = projectList(world, 'Projects', [...world.projects.values()]);
    return { title: 'Projects', crumbs: [], menu: [], projectId: null, body };
  }
  const upload = uploadByNumber(world, segments);
  if (upload) return (await sendUploadedFile(response, upload.project, upload.path)) ? 'sent' : null;
  const found = findByPath(world, segments);
  if (!found) return namePage(world, segments.join('/'));
  const { project, rest } = found;
  if (rest.length === 0) {
    return projectPage(world, project, 'overview', project.name, await projectOverview(world, project));
  }
  if (rest[0] === 'uploads') {
    return (await sendUploadedFile(response, project, rest.slice(1).join('/'))) ? 'sent' : null;
  }
  if (rest[0] !== '-') return null;
  const inside = await findPage({ world, project, segments: rest.slice(1), query, response });
  if (inside === null || inside === 'sent') return inside;
  return projectPage(world, project, sectionOf(rest[1]), inside.title, inside.body);
}
