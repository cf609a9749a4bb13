import { accessOf, level, mayMerge, mayPush, protectionOf, requireProject, requireUser } from '../access.ts';
import { resolveRef } from '../git.ts';
import { paginate, sorted } from '../page.ts';
import { list, object, requiredText, text, variables } from '../params.ts';
import { pipelineRef, presentJob, presentPipeline, presentPipelineBasic, presentUserId } from '../present.ts';
import { ApiError, type Call, type Reply } from '../route.ts';
import type { Pipeline, Project, User } from '../state.ts';

function requirePipeline(call: Call, project: Project): Pipeline {
  const pipeline = project.pipelines.get(Number(call.params.pipeline_id));
  if (!pipeline) throw new ApiError(404, '404 Not found');
  return pipeline;
}

/** `GET /projects/:id/pipelines`. */
export function listPipelines(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const ref = text(call, 'ref');
  const sha = text(call, 'sha');
  const status = text(call, 'status');
  const source = text(call, 'source');
  const scope = text(call, 'scope');
  const after = text(call, 'updated_after');
  const finished = ['success', 'failed', 'canceled', 'skipped'];
  const found = [...project.pipelines.values()].filter(
    (pipeline) =>
      (ref === null || ref === pipelineRef(pipeline)) &&
      (sha === null || sha === pipeline.sha) &&
      (status === null || status === pipeline.status) &&
      (source === null || source === pipeline.source) &&
      (scope === null ||
        (scope === 'finished' && finished.includes(pipeline.status)) ||
        (scope === 'branches' && !pipeline.tag && pipeline.mergeRequestIid === null) ||
        (scope === 'tags' && pipeline.tag) ||
        scope === pipeline.status) &&
      (after === null || Date.parse(pipeline.finishedAt ?? pipeline.createdAt) >= Date.parse(after)),
  );
  return paginate(
    call,
    sorted(found, (pipeline) => pipeline.id, call.query.sort),
    (pipeline) => presentPipelineBasic(call.world, project, pipeline),
  );
}

/** `GET /projects/:id/pipelines/latest`. */
export function latestPipeline(call: Call): Reply {
  const project = requireProject(call, level.reporter);
  const ref = text(call, 'ref') ?? project.defaultBranch;
  const found = [...project.pipelines.values()].filter((pipeline) => pipelineRef(pipeline) === ref).at(-1);
  if (!found) throw new ApiError(403, '403 Forbidden');
  return { status: 200, body: presentPipeline(call.world, project, found) };
}

/** `GET /projects/:id/pipelines/:pipeline_id`. */
export function getPipeline(call: Call): Reply {
  const project = requireProject(call, level.reporter);
  return { status: 200, body: presentPipeline(call.world, project, requirePipeline(call, project)) };
}

/** `GET /projects/:id/pipelines/:pipeline_id/variables`. */
export function getPipelineVariables(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  const pipeline = requirePipeline(call, project);
  const body = pipeline.variables.map((entry) => ({ variable_type: 'env_var', ...entry, raw: false }));
  return { status: 200, body };
}

async function start(call: Call, project: Project, user: User, source: 'api' | 'trigger'): Promise<Pipeline> {
  const ref = requiredText(call, 'ref').replace(/^refs\/(heads|tags)\//, '');
  const branch = await resolveRef(project.repository, `refs/heads/${ref}`);
  const tag = branch === null ? await resolveRef(project.repository, `refs/tags/${ref}`) : null;
  const sha = branch ?? tag;
  if (sha === null) throw new ApiError(400, { message: { base: ['Reference not found'] } });
  const role = accessOf(project, user, call.token);
  // On a protected branch only those who may push or merge there may start pipelines (doc: ci/pipelines, protected branches).
  if (protectionOf(project, ref) && !mayPush(project, role, ref) && !mayMerge(project, role, ref))
    throw new ApiError(400, {
      message: {
        base: [
          `You do not have sufficient permission to run a pipeline on '${ref}'. Please select a different branch or contact your administrator for assistance.`,
        ],
      },
    });
  const given = param(call);
  const outcome = await call.engine.createPipeline(project, {
    ref,
    sha,
    tag: tag !== null,
    source,
    userId: user.id,
    inputs: object(call, 'inputs'),
    variables: given,
    mergeRequestIid: null,
    before: null,
  });
  if (outcome.kind === 'refused') throw new ApiError(400, { message: { base: outcome.messages } });
  return outcome.pipeline;
}

/** Variables of a create call are a list, those of a trigger call an object. */
function param(call: Call): { key: string; value: string }[] {
  const value = call.body.variables ?? call.query.variables;
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const entries = Object.entries(object(call, 'variables'));
    if (entries.every(([, item]) => typeof item !== 'object')) {
      return entries.map(([key, item]) => ({ key, value: String(item) }));
    }
  }
  return variables(call);
}

/** `POST /projects/:id/pipeline`: 400 for a missing ref, invalid YAML, wrong inputs, and rules that leave no job. */
export async function createPipeline(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const pipeline = await start(call, project, requireUser(call), 'api');
  return { status: 201, body: presentPipeline(call.world, project, pipeline) };
}

/** `POST /projects/:id/trigger/pipeline` with a trigger token (doc: ci/triggers); it acts as the token's owner. */
export async function triggerPipeline(call: Call): Promise<Reply> {
  const token = requiredText(call, 'token');
  for (const project of call.world.projects.values()) {
    const trigger = project.triggerTokens.find((entry) => entry.token === token);
    if (!trigger) continue;
    const asked = call.params.id;
    if (
      asked !== String(project.id) &&
      asked?.toLowerCase() !== `${project.namespace}/${project.path}`.toLowerCase()
    )
      break;
    const owner = call.world.users.get(trigger.userId);
    if (!owner || accessOf(project, owner, null) < level.developer)
      throw new ApiError(400, '400 Bad request');
    const pipeline = await start(call, project, owner, 'trigger');
    return { status: 201, body: presentPipeline(call.world, project, pipeline) };
  }
  throw new ApiError(404, '404 Not found');
}

/** `POST …/pipelines/:pipeline_id/cancel`. */
export async function cancelPipeline(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const pipeline = await call.engine.cancelPipeline(project, requirePipeline(call, project));
  return { status: 200, body: presentPipeline(call.world, project, pipeline) };
}

/** `POST …/pipelines/:pipeline_id/retry`. */
export async function retryPipeline(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const user = requireUser(call);
  const pipeline = await call.engine.retryPipeline(project, requirePipeline(call, project), user.id);
  return { status: 201, body: presentPipeline(call.world, project, pipeline) };
}

/** `GET …/pipelines/:pipeline_id/jobs`, newest first. */
export function listPipelineJobs(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const pipeline = requirePipeline(call, project);
  const scope = list(call, 'scope') ?? [];
  const jobs = [...project.jobs.values()].filter((job) => job.pipelineId === pipeline.id);
  const retried = text(call, 'include_retried') === 'true';
  const shown = jobs.filter(
    (job) =>
      (scope.length === 0 || scope.includes(job.status)) &&
      (retried || !jobs.some((other) => other.id > job.id && other.spec.name === job.spec.name)),
  );
  return paginate(
    call,
    sorted(shown, (job) => job.id, 'desc'),
    (job) => presentJob(call.world, project, job),
  );
}

function presentTrigger(call: Call, trigger: Project['triggerTokens'][number]) {
  const own = trigger.userId === call.user?.id;
  return {
    id: trigger.id,
    token: own ? trigger.token : trigger.token.slice(0, 4),
    description: trigger.description,
    created_at: null,
    updated_at: null,
    last_used: null,
    expires_at: null,
    owner: presentUserId(call.world, trigger.userId),
  };
}

/** `GET /projects/:id/triggers`. */
export function listTriggers(call: Call): Promise<Reply> {
  const project = requireProject(call, level.maintainer);
  return paginate(call, project.triggerTokens, (trigger) => presentTrigger(call, trigger));
}

/** `POST /projects/:id/triggers`. */
export function createTrigger(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  const id = call.world.nextId('trigger');
  const trigger = {
    id,
    token: `glptt-${crypto.randomUUID().replaceAll('-', '')}`,
    userId: requireUser(call).id,
    description: requiredText(call, 'description'),
  };
  project.triggerTokens.push(trigger);
  return { status: 201, body: presentTrigger(call, trigger) };
}

/** `DELETE /projects/:id/triggers/:trigger_id`. */
export function deleteTrigger(call: Call): Reply {
  const project = requireProject(call, level.maintainer);
  const at = project.triggerTokens.findIndex((entry) => entry.id === Number(call.params.trigger_id));
  if (at < 0) throw new ApiError(404, '404 Trigger Not Found');
  project.triggerTokens.splice(at, 1);
  return { status: 204 };
}
