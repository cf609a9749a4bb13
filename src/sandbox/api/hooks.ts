import { level, requireProject, requireUser } from '../access.ts';
import { resolveRef, zeroSha } from '../git.ts';
import { hookEvents } from '../hooks.ts';
import { paginate } from '../page.ts';
import { flag, requiredText, text } from '../params.ts';
import { presentHook } from '../present.ts';
import { ApiError, type Call, type Reply } from '../route.ts';
import type { Hook, Project, WorldEvent } from '../state.ts';

function requireHook(call: Call, project: Project): Hook {
  const hook = project.hooks.find((entry) => entry.id === Number(call.params.hook_id));
  if (!hook) throw new ApiError(404, '404 Not found');
  return hook;
}

function readUrl(call: Call): string {
  const url = requiredText(call, 'url');
  if (!URL.canParse(url) || !/^https?:/.test(url)) throw new ApiError(422, { error: 'Invalid url given' });
  return url;
}

function readSigningToken(call: Call): string | null {
  const token = text(call, 'signing_token');
  if (token === null || token === '') return null;
  // Standard Webhooks: `whsec_` and 24 to 64 bytes in base64.
  const match = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(token);
  const bytes = match?.[1] ? Buffer.from(match[1], 'base64').length : 0;
  if (bytes < 24 || bytes > 64) throw new ApiError(422, { message: { signing_token: ['is invalid'] } });
  return token;
}

/** `GET /projects/:id/hooks`. */
export function listHooks(call: Call): Promise<Reply> {
  const project = requireProject(call, level.maintainer);
  return paginate(call, project.hooks, (hook) => presentHook(project, hook));
}

/** `GET /projects/:id/hooks/:hook_id`. */
export function getHook(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  return { status: 200, body: presentHook(project, requireHook(call, project)) };
}

/** `POST /projects/:id/hooks`, with `signing_token` (GitLab 19.0). */
export function createHook(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  const hook: Hook = {
    id: call.world.nextId('hook'),
    url: readUrl(call),
    token: text(call, 'token'),
    signingToken: readSigningToken(call),
    events: Object.fromEntries(
      Object.entries(hookEvents).map(([name, initial]) => [name, flag(call, name) ?? initial]),
    ),
    failures: 0,
    disabledUntil: null,
  };
  project.hooks.push(hook);
  return { status: 201, body: presentHook(project, hook) };
}

/** `PUT /projects/:id/hooks/:hook_id`; it also puts a disabled hook back to work. */
export function editHook(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  const hook = requireHook(call, project);
  if (call.body.url !== undefined) hook.url = readUrl(call);
  if (call.body.token !== undefined) hook.token = text(call, 'token') || null;
  if (call.body.signing_token !== undefined) hook.signingToken = readSigningToken(call);
  for (const name of Object.keys(hookEvents))
    hook.events[name] = flag(call, name) ?? hook.events[name] ?? false;
  hook.failures = 0;
  hook.disabledUntil = null;
  return { status: 200, body: presentHook(project, hook) };
}

/** `DELETE /projects/:id/hooks/:hook_id`. */
export function deleteHook(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  project.hooks.splice(project.hooks.indexOf(requireHook(call, project)), 1);
  return { status: 204 };
}

/** `GET …/hooks/:hook_id/events`: the attempts, newest first. */
export function listHookEvents(call: Call): Promise<Reply> {
  const project = requireProject(call, level.maintainer);
  const hook = requireHook(call, project);
  const logs = call.hooks.logs.filter((entry) => entry.hookId === hook.id).reverse();
  return paginate(call, logs, (entry) => ({
    id: entry.id,
    url: entry.url,
    trigger: entry.trigger,
    request_headers: { ...entry.requestHeaders, 'x-gitlab-token': '[REDACTED]' },
    request_data: entry.requestData,
    response_headers: {},
    response_body: entry.responseBody,
    execution_duration: entry.duration,
    response_status: entry.status === null ? 'internal error' : String(entry.status),
  }));
}

/** `POST …/hooks/:hook_id/events/:hook_log_id/resend`. */
export async function resendHookEvent(call: Call): Promise<Reply> {
  const project = requireProject(call, level.maintainer);
  const entry = await call.hooks.resend(requireHook(call, project), Number(call.params.hook_log_id));
  if (!entry) throw new ApiError(404, '404 Not found');
  return { status: 201, body: { response_status: entry.status } };
}

/** `POST …/hooks/:hook_id/test/:trigger`: sends the newest event of a kind; 422 when there is none to show. */
export async function testHook(call: Call): Promise<Reply> {
  const project = requireProject(call, level.maintainer);
  const hook = requireHook(call, project);
  const event = await sample(project, call.params.trigger ?? '', requireUser(call).id);
  if (!event) throw new ApiError(422, 'Ensure the project has data of this kind.');
  const entry = await call.hooks.deliver(hook, event);
  if (entry?.status === null || entry?.status === undefined || entry.status >= 300)
    throw new ApiError(422, entry?.responseBody || 'The hook did not answer.');
  return { status: 201, body: { message: '201 Created' } };
}

async function sample(project: Project, trigger: string, userId: number): Promise<WorldEvent | null> {
  const mr = [...project.mergeRequests.values()].at(-1);
  const pipeline = [...project.pipelines.values()].at(-1);
  const job = [...project.jobs.values()].at(-1);
  const note = mr?.notes.filter((entry) => !entry.system).at(-1);
  switch (trigger) {
    case 'push_events': {
      const ref = `refs/heads/${project.defaultBranch}`;
      const after = await resolveRef(project.repository, ref);
      return after === null ? null : { kind: 'push', project, ref, before: zeroSha, after, userId };
    }
    case 'merge_requests_events':
      return mr
        ? { kind: 'merge_request', project, mr, action: 'open', userId, oldrev: null, changes: {} }
        : null;
    case 'note_events':
      return mr && note ? { kind: 'note', project, mr, note, action: 'create' } : null;
    case 'pipeline_events':
      return pipeline ? { kind: 'pipeline', project, pipeline } : null;
    case 'job_events':
      return job ? { kind: 'job', project, job } : null;
    default:
      throw new ApiError(501, { error: `the sandbox cannot test the trigger ${trigger}` });
  }
}
