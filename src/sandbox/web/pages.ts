import type { ServerResponse } from 'node:http';
import { fullPath } from '../access.ts';
import type { Forge } from '../route.ts';
import type { Pages } from '../server.ts';
import type { Project, World } from '../state.ts';
import { streamEvents } from './events.ts';
import { contentSecurityPolicy, frame, type Page } from './layout.ts';
import { linksOf } from './links.ts';
import { projectList, projectOverview, userPage } from './project-pages.ts';

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

/** The segments of a path, decoded; null when it is not well formed. */
function segmentsOf(path: string): string[] | null {
  try {
    return path
      .split('/')
      .filter((segment) => segment !== '')
      .map(decodeURIComponent);
  } catch {
    return null;
  }
}

function send(response: ServerResponse, world: World, page: Page): void {
  response.writeHead(page.status ?? 200, { ...safety, 'content-type': 'text/html; charset=utf-8' });
  response.end(frame(world, page));
}

/** The read-only web pages of the sandbox, at GitLab's addresses. They show everything to everybody who reaches the server. */
export function renderPages(forge: Forge): Pages {
  const { world } = forge;
  return async (request, response, path) => {
    const segments = segmentsOf(path);
    if (segments === null) return false;
    const url = new URL(request.url ?? '/', 'http://localhost');
    const home = { crumbs: [], menu: [], projectId: null };
    if (path === '/-/events') {
      const id = url.searchParams.get('project');
      streamEvents(world, id === null ? null : Number(id), request, response);
      return true;
    }
    if (segments.length === 0) {
      send(response, world, {
        ...home,
        title: 'Projects',
        body: projectList(world, [...world.projects.values()]),
      });
      return true;
    }
    const found = findByPath(world, segments);
    if (found && found.rest.length === 0) {
      const links = linksOf(world, found.project);
      send(response, world, {
        title: fullPath(found.project),
        crumbs: [{ text: fullPath(found.project), href: links.root }],
        menu: [],
        projectId: found.project.id,
        body: await projectOverview(world, found.project),
      });
      return true;
    }
    const name = segments.join('/').toLowerCase();
    const user = [...world.users.values()].find((entry) => entry.username.toLowerCase() === name);
    if (user) {
      send(response, world, {
        ...home,
        title: user.name,
        crumbs: [{ text: user.name, href: null }],
        body: userPage(world, user.id),
      });
      return true;
    }
    return false;
  };
}
