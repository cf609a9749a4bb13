import {
  announce,
  type Deployment,
  type Environment,
  type Job,
  type Pipeline,
  type Project,
  type World,
} from '../state.ts';
import { expandText } from './expand-variables.ts';

/** The environment of that name, made when it is new. */
export function ensureEnvironment(world: World, project: Project, name: string): Environment {
  const known = project.environments.find((environment) => environment.name === name);
  if (known !== undefined) return known;
  const created: Environment = {
    id: world.nextId('environment'),
    name,
    externalUrl: null,
    state: 'available',
  };
  project.environments.push(created);
  return created;
}

/** Records that a job with `environment:` begins to deploy; other actions than `start` deploy nothing (doc: ci/yaml#environmentaction). */
export function startDeployment(world: World, project: Project, pipeline: Pipeline, job: Job): void {
  const wanted = job.spec.environment;
  if (wanted === null || wanted.action !== 'start') return;
  const environment = ensureEnvironment(world, project, wanted.name);
  environment.state = 'available';
  const deployment: Deployment = {
    id: world.nextId('deployment'),
    iid: world.nextId(`deployment:${project.id}`),
    environmentId: environment.id,
    ref: pipeline.ref,
    sha: pipeline.sha,
    status: 'running',
    jobId: job.id,
    userId: pipeline.userId,
    createdAt: new Date().toISOString(),
    finishedAt: null,
  };
  project.deployments.push(deployment);
  announce(world, { kind: 'deployment', project, deployment });
}

/** Records how a deployment ended; `values` fill in the environment's address, which may come from a dotenv report. */
export function finishDeployment(
  world: World,
  project: Project,
  job: Job,
  values: ReadonlyMap<string, string>,
): void {
  const wanted = job.spec.environment;
  if (wanted === null) return;
  const environment = ensureEnvironment(world, project, wanted.name);
  if (job.status === 'success' && wanted.action === 'stop') environment.state = 'stopped';
  const deployment = project.deployments.find((one) => one.jobId === job.id && one.finishedAt === null);
  if (deployment === undefined) return;
  if (job.status === 'success' && wanted.url !== null)
    environment.externalUrl = expandText(wanted.url, values);
  deployment.status =
    job.status === 'success' ? 'success' : job.status === 'canceled' ? 'canceled' : 'failed';
  deployment.finishedAt = new Date().toISOString();
  announce(world, { kind: 'deployment', project, deployment });
}
