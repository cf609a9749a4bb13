import { level, requireProject, requireUser } from '../access.ts';
import { now } from '../forge.ts';
import { resolveCommit } from '../git.ts';
import { paginate, sorted } from '../page.ts';
import { oneOf, requiredText, text } from '../params.ts';
import { presentDeployment, presentEnvironment } from '../present.ts';
import { ApiError, type Call, type Reply } from '../route.ts';
import { announce, type Deployment, type Environment, type Project } from '../state.ts';

function requireEnvironment(call: Call, project: Project): Environment {
  const found = project.environments.find((entry) => entry.id === Number(call.params.environment_id));
  if (!found) throw new ApiError(404, '404 Environment Not Found');
  return found;
}

/** `GET /projects/:id/environments`. */
export function listEnvironments(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const name = text(call, 'name');
  const search = text(call, 'search') ?? '';
  const state = text(call, 'states');
  const found = project.environments.filter(
    (entry) =>
      (name === null || entry.name === name) &&
      entry.name.includes(search) &&
      (state === null || entry.state === state),
  );
  return paginate(call, found, presentEnvironment);
}

/** `GET /projects/:id/environments/:environment_id`, with its last deployment. */
export function getEnvironment(call: Call): Reply {
  const project = requireProject(call, level.reporter);
  const environment = requireEnvironment(call, project);
  const last = project.deployments.filter(
    (entry) => entry.environmentId === environment.id && entry.status === 'success',
  );
  const deployment = last.at(-1);
  return {
    status: 200,
    body: {
      ...presentEnvironment(environment),
      last_deployment: deployment ? presentDeployment(call.world, project, deployment) : null,
    },
  };
}

/** `POST /projects/:id/environments`. */
export function createEnvironment(call: Call): Reply {
  const project = requireProject(call, level.developer);
  const name = requiredText(call, 'name');
  if (project.environments.some((entry) => entry.name === name))
    throw new ApiError(400, { message: { name: ['has already been taken'] } });
  const environment: Environment = {
    id: call.world.nextId('environment'),
    name,
    externalUrl: text(call, 'external_url'),
    state: 'available',
  };
  project.environments.push(environment);
  return { status: 201, body: presentEnvironment(environment) };
}

/** `PUT /projects/:id/environments/:environment_id`. */
export function editEnvironment(call: Call): Reply {
  const project = requireProject(call, level.developer);
  const environment = requireEnvironment(call, project);
  environment.externalUrl = text(call, 'external_url') ?? environment.externalUrl;
  return { status: 200, body: presentEnvironment(environment) };
}

/** `POST …/environments/:environment_id/stop`. */
export function stopEnvironment(call: Call): Reply {
  const project = requireProject(call, level.developer);
  const environment = requireEnvironment(call, project);
  environment.state = 'stopped';
  return { status: 200, body: presentEnvironment(environment) };
}

/** `DELETE …/environments/:environment_id`: stopped ones only (403). */
export function deleteEnvironment(call: Call): Reply {
  const project = requireProject(call, level.developer);
  const environment = requireEnvironment(call, project);
  if (environment.state !== 'stopped') throw new ApiError(403, '403 Forbidden');
  project.environments.splice(project.environments.indexOf(environment), 1);
  return { status: 204 };
}

function requireDeployment(call: Call, project: Project): Deployment {
  const found = project.deployments.find((entry) => entry.id === Number(call.params.deployment_id));
  if (!found) throw new ApiError(404, '404 Deployment Not Found');
  return found;
}

/** `GET /projects/:id/deployments`. */
export function listDeployments(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const environment = text(call, 'environment');
  const status = text(call, 'status');
  const found = project.deployments.filter(
    (entry) =>
      (status === null || entry.status === status) &&
      (environment === null ||
        project.environments.find((place) => place.id === entry.environmentId)?.name === environment),
  );
  return paginate(
    call,
    sorted(found, (entry) => entry.id, call.query.sort ?? 'asc'),
    (entry) => presentDeployment(call.world, project, entry),
  );
}

/** `GET /projects/:id/deployments/:deployment_id`. */
export function getDeployment(call: Call): Reply {
  const project = requireProject(call, level.reporter);
  return { status: 200, body: presentDeployment(call.world, project, requireDeployment(call, project)) };
}

const states = ['running', 'success', 'failed', 'canceled'] as const;

/** `POST /projects/:id/deployments`: the environment is made when it is new. */
export async function createDeployment(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const name = requiredText(call, 'environment');
  const status = oneOf(call, 'status', states);
  if (status === null) throw new ApiError(400, { error: 'status is missing' });
  const sha = await resolveCommit(project.repository, requiredText(call, 'sha'));
  if (sha === null) throw new ApiError(400, { message: { sha: ['does not exist'] } });
  let environment = project.environments.find((entry) => entry.name === name);
  if (!environment) {
    environment = { id: call.world.nextId('environment'), name, externalUrl: null, state: 'available' };
    project.environments.push(environment);
  }
  const deployment: Deployment = {
    id: call.world.nextId('deployment'),
    iid: call.world.nextId(`deployment:${project.id}`),
    environmentId: environment.id,
    ref: requiredText(call, 'ref'),
    sha,
    status,
    jobId: null,
    userId: requireUser(call).id,
    createdAt: now(),
    finishedAt: status === 'running' ? null : now(),
  };
  project.deployments.push(deployment);
  announce(call.world, { kind: 'deployment', project, deployment });
  return { status: 201, body: presentDeployment(call.world, project, deployment) };
}

/** `PUT /projects/:id/deployments/:deployment_id`: a finished one stays as it is (400). */
export function editDeployment(call: Call): Reply {
  const project = requireProject(call, level.developer);
  const deployment = requireDeployment(call, project);
  const status = oneOf(call, 'status', states);
  if (status === null) throw new ApiError(400, { error: 'status is missing' });
  if (deployment.jobId !== null) throw new ApiError(403, '403 Forbidden');
  if (deployment.status === status || deployment.finishedAt !== null)
    throw new ApiError(400, { message: { status: ['Cannot transition'] } });
  deployment.status = status;
  if (status !== 'running') deployment.finishedAt = now();
  announce(call.world, { kind: 'deployment', project, deployment });
  return { status: 200, body: presentDeployment(call.world, project, deployment) };
}
