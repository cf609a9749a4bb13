import { stringify } from 'yaml';
import { type Digest, digestJson } from '../core/digest.ts';
import type { EnvironmentConfig } from '../core/project.ts';
import { renderSeldonDeployment } from './manifest.ts';
import type { Plan, Resources } from './types.ts';

/** The image that runs `cdl serve` in a cluster, built from this package. */
export const serveImage = 'cdl/serve:0.1.0';

/** Resources of a model that names none for `serve`: the defaults of `cdl.yaml`. */
export const defaultResources: Resources = { gpu: 0, cpu: 1, memory: '1Gi' };

/** Everything a plan depends on. `fromPackage` is the package of `from`; both are null for a first deployment. */
export interface PlanInput {
  project: string;
  model: string;
  environment: string;
  from: Digest | null;
  fromPackage: Digest | null;
  to: Digest;
  package: Digest;
  /** Shown to people; hashed nowhere. */
  version: number;
  /** Of the package. */
  bytes: number;
  environmentConfig: EnvironmentConfig;
  resources: Resources | null;
  image?: string;
}

/**
 * Plans one deployment. Pure: the same facts give the same digest, in the merge request and at the merge, whatever commit
 * or version number they come with. A first deployment has nothing to share requests with and goes to 100 % at once.
 */
export function planDeployment(input: PlanInput): Plan {
  const { project, model, environment, from, to, environmentConfig } = input;
  const traffic = from === null ? [100] : environmentConfig.traffic;
  const resources = input.resources ?? defaultResources;
  const manifest =
    environmentConfig.target === 'seldon'
      ? seldonManifest(input, traffic, resources)
      : localManifest(input, traffic, resources);
  return {
    project,
    model,
    environment,
    from,
    to,
    package: input.package,
    version: input.version,
    target: environmentConfig.target,
    replicas: environmentConfig.replicas,
    traffic,
    maxErrorRate: environmentConfig.max_error_rate,
    manifest,
    bytes: input.bytes,
    digest: digestJson({ from, to, manifest, traffic }),
  };
}

/** The process table of a local target: what will run, and how it gets its requests. */
function localManifest(input: PlanInput, traffic: readonly number[], resources: Resources): string {
  const { project, model, environment, environmentConfig } = input;
  return stringify(
    {
      target: 'local',
      project,
      route: `${environment}/${model}`,
      processes: [
        {
          candidate: input.to,
          package: input.package,
          replicas: environmentConfig.replicas,
          traffic: traffic.map((share) => `${share}%`),
          resources: { cpu: resources.cpu, memory: resources.memory, gpu: resources.gpu },
        },
        ...(input.from === null
          ? []
          : [
              {
                candidate: input.from,
                traffic: traffic.map((share) => `${100 - share}%`),
                at_the_end: 'stopped',
              },
            ]),
      ],
      canary: { max_error_rate: environmentConfig.max_error_rate, smoke: 'before any traffic' },
    },
    { lineWidth: 0 },
  );
}

/** The SeldonDeployments of all traffic steps, in order, as one YAML stream. */
function seldonManifest(input: PlanInput, traffic: readonly number[], resources: Resources): string {
  const { from, fromPackage } = input;
  return traffic
    .map((share) =>
      renderSeldonDeployment({
        project: input.project,
        model: input.model,
        environment: input.environment,
        from: from && fromPackage ? { candidate: from, package: fromPackage } : null,
        to: { candidate: input.to, package: input.package },
        replicas: input.environmentConfig.replicas,
        traffic: share,
        maxErrorRate: input.environmentConfig.max_error_rate,
        resources,
        image: input.image ?? serveImage,
        namespace: input.environmentConfig.namespace ?? null,
      }),
    )
    .join('---\n');
}
