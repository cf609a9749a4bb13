import { accessOf, level, requireProject, requireUser } from '../access.ts';
import { now } from '../forge.ts';
import { paginate, sorted } from '../page.ts';
import { list, oneOf, requiredText, text } from '../params.ts';
import { presentIssue } from '../present.ts';
import { ApiError, type Call, type Reply } from '../route.ts';
import type { Issue, Project } from '../state.ts';

function requireIssue(call: Call, project: Project): Issue {
  const issue = project.issues.get(Number(call.params.issue_iid));
  if (!issue) throw new ApiError(404, '404 Issue Not Found');
  return issue;
}

/** `GET /projects/:id/issues`. */
export function listIssues(call: Call): Promise<Reply> {
  const project = requireProject(call, level.guest);
  const state = oneOf(call, 'state', ['opened', 'closed', 'all']) ?? 'all';
  const labels = list(call, 'labels') ?? [];
  const search = text(call, 'search')?.toLowerCase() ?? '';
  const author = text(call, 'author_id');
  const found = [...project.issues.values()].filter(
    (issue) =>
      (state === 'all' || issue.state === state) &&
      (author === null || String(issue.authorId) === author) &&
      labels.every((label) => issue.labels.includes(label)) &&
      `${issue.title}\n${issue.description}`.toLowerCase().includes(search),
  );
  return paginate(
    call,
    sorted(found, (issue) => issue.id, call.query.sort),
    (issue) => presentIssue(call.world, project, issue),
  );
}

/** `GET /projects/:id/issues/:issue_iid`. */
export function getIssue(call: Call): Reply {
  const project = requireProject(call, level.guest);
  return { status: 200, body: presentIssue(call.world, project, requireIssue(call, project)) };
}

/** `POST /projects/:id/issues`. */
export function createIssue(call: Call): Reply {
  const project = requireProject(call, level.guest);
  const user = requireUser(call);
  const issue: Issue = {
    id: call.world.nextId('issue'),
    iid: call.world.nextId(`issue:${project.id}`),
    title: requiredText(call, 'title'),
    description: text(call, 'description') ?? '',
    authorId: user.id,
    state: 'opened',
    labels: list(call, 'labels') ?? [],
    assigneeIds: (list(call, 'assignee_ids') ?? []).map(Number),
    createdAt: now(),
    notes: [],
  };
  project.issues.set(issue.iid, issue);
  return { status: 201, body: presentIssue(call.world, project, issue) };
}

/** `PUT /projects/:id/issues/:issue_iid`: by its author or a Reporter. */
export function editIssue(call: Call): Reply {
  const project = requireProject(call, level.guest);
  const issue = requireIssue(call, project);
  const user = requireUser(call);
  if (issue.authorId !== user.id && accessOf(project, user, call.token) < level.reporter)
    throw new ApiError(403, '403 Forbidden');
  issue.title = text(call, 'title') ?? issue.title;
  issue.description = text(call, 'description') ?? issue.description;
  const gone = list(call, 'remove_labels') ?? [];
  issue.labels = [
    ...new Set([...(list(call, 'labels') ?? issue.labels), ...(list(call, 'add_labels') ?? [])]),
  ].filter((label) => !gone.includes(label));
  issue.assigneeIds = (list(call, 'assignee_ids') ?? issue.assigneeIds).map(Number);
  const step = oneOf(call, 'state_event', ['close', 'reopen']);
  if (step) issue.state = step === 'close' ? 'closed' : 'opened';
  return { status: 200, body: presentIssue(call.world, project, issue) };
}
