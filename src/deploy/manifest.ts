import { stringify } from 'yaml';
import { type Digest, digestBytes, shortDigest } from '../core/digest.ts';
import type { Resources } from './types.ts';

/** What a SeldonDeployment is rendered from. */
export interface SeldonInput {
  project: string;
  model: string;
  environment: string;
  from: { candidate: Digest; package: Digest } | null;
  to: { candidate: Digest; package: Digest };
  replicas: number;
  /** Share of requests for `to` in percent; `from` gets the rest and goes at 100. */
  traffic: number;
  /** Largest share of failed requests the canary may show; told to whoever moves the traffic. */
  maxErrorRate: number;
  resources: Resources;
  /** The image that runs `cdl serve`. */
  image: string;
  namespace: string | null;
}

/** Label values hold 63 characters (Kubernetes, "Labels and Selectors"), a digest 71: labels carry this many digits. */
const labelDigits = 40;

/**
 * Renders a SeldonDeployment (machinelearning.seldon.io/v1, Seldon Core 1 "SeldonDeployment CRD") for one traffic step.
 *
 * Each version is a predictor; `seldon.io/no-engine` lets requests reach our server directly, which speaks both the v2
 * and the Seldon protocol itself. Full digests are annotations and environment, labels carry their first 40 digits.
 */
export function renderSeldonDeployment(input: SeldonInput): string {
  const predictors = [
    ...(input.from && input.traffic < 100 ? [predictor(input, input.from, 100 - input.traffic)] : []),
    predictor(input, input.to, input.traffic),
  ];
  return stringify(
    {
      apiVersion: 'machinelearning.seldon.io/v1',
      kind: 'SeldonDeployment',
      metadata: {
        name: dnsName(`${input.model}-${input.environment}`),
        ...(input.namespace ? { namespace: input.namespace } : {}),
        labels: labels(input, input.to),
        annotations: {
          'cdl.dev/candidate': input.to.candidate,
          'cdl.dev/package': input.to.package,
          'cdl.dev/max-error-rate': String(input.maxErrorRate),
        },
      },
      spec: {
        name: dnsName(input.model),
        protocol: 'v2',
        annotations: { 'seldon.io/no-engine': 'true' },
        predictors,
      },
    },
    { lineWidth: 0, aliasDuplicateObjects: false },
  );
}

/** A name as RFC 1123 labels may be: 63 letters, digits and hyphens; a longer one keeps its start and gets a digest. */
function dnsName(name: string): string {
  const plain = name.replaceAll('_', '-').replace(/-+$/, '');
  return plain.length <= 63 ? plain : `${plain.slice(0, 54)}-${shortDigest(digestBytes(name), 8)}`;
}

/** Our names may end in a hyphen or underscore, label values may not. */
function labelValue(name: string): string {
  return name.replace(/[-_]+$/, '');
}

function labels(input: SeldonInput, version: { candidate: Digest; package: Digest }): Record<string, string> {
  return {
    'app.kubernetes.io/managed-by': 'cdl',
    'cdl.dev/project': labelValue(input.project),
    'cdl.dev/model': labelValue(input.model),
    'cdl.dev/environment': labelValue(input.environment),
    'cdl.dev/candidate': shortDigest(version.candidate, labelDigits),
    'cdl.dev/package': shortDigest(version.package, labelDigits),
  };
}

function predictor(
  input: SeldonInput,
  version: { candidate: Digest; package: Digest },
  traffic: number,
): object {
  const { cpu, memory, gpu } = input.resources;
  const amount = {
    cpu: cpu < 1 || !Number.isInteger(cpu) ? `${Math.round(cpu * 1000)}m` : String(cpu),
    memory,
    ...(gpu > 0 ? { 'nvidia.com/gpu': String(gpu) } : {}),
  };
  const annotations = { 'cdl.dev/candidate': version.candidate, 'cdl.dev/package': version.package };
  const probe = (path: string) => ({
    httpGet: { path, port: 'http' },
    periodSeconds: 5,
    failureThreshold: 3,
  });
  return {
    // Named by content, so that the predictor of a version stays the same through all traffic steps.
    name: `v-${shortDigest(version.candidate, 12)}`,
    replicas: input.replicas,
    traffic,
    labels: labels(input, version),
    annotations,
    graph: { name: dnsName(input.model), type: 'MODEL', endpoint: { type: 'REST' } },
    componentSpecs: [
      {
        metadata: { labels: labels(input, version), annotations },
        spec: {
          terminationGracePeriodSeconds: 60,
          securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
          containers: [
            {
              name: dnsName(input.model),
              image: input.image,
              args: ['serve', version.package, '--host', '0.0.0.0', '--port', '9000'],
              env: [
                { name: 'CDL_PACKAGE', value: version.package },
                { name: 'CDL_CANDIDATE', value: version.candidate },
                { name: 'CDL_ENVIRONMENT', value: input.environment },
              ],
              envFrom: [{ secretRef: { name: 'cdl-store-read' } }],
              ports: [{ name: 'http', containerPort: 9000, protocol: 'TCP' }],
              resources: { requests: amount, limits: amount },
              readinessProbe: probe('/v2/health/ready'),
              livenessProbe: probe('/v2/health/live'),
              securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
            },
          ],
        },
      },
    ],
  };
}
