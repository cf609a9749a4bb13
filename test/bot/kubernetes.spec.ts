import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { packageRoot } from '../../src/exec/root.ts';
import { run } from '../../src/exec/run.ts';

const made = await run('sh', [join(packageRoot(), 'test', 'services', 'kubernetes-schemas.sh')], {});
const folder = made.code === 0 ? made.stdout.toString().trim() : null;
if (folder === null) console.warn(`skipped: Kubernetes’ schemas: ${made.stderr.toString().trim()}`);

/** Kinds of the manifests, as Kubernetes' API describes them. */
const definitions: Record<string, string> = {
  'v1 ConfigMap': 'io.k8s.api.core.v1.ConfigMap',
  'v1 ServiceAccount': 'io.k8s.api.core.v1.ServiceAccount',
  'apps/v1 Deployment': 'io.k8s.api.apps.v1.Deployment',
  'policy/v1 PodDisruptionBudget': 'io.k8s.api.policy.v1.PodDisruptionBudget',
  'v1 Service': 'io.k8s.api.core.v1.Service',
  'networking.k8s.io/v1 Ingress': 'io.k8s.api.networking.v1.Ingress',
  'v1 PersistentVolumeClaim': 'io.k8s.api.core.v1.PersistentVolumeClaim',
  'batch/v1 CronJob': 'io.k8s.api.batch.v1.CronJob',
};

interface Manifest {
  kind: string;
  apiVersion: string;
}

async function openSchemas(version: string): Promise<(manifest: Manifest) => string[]> {
  const text = await readFile(join(folder!, `${version}.json`), 'utf8');
  const schema = JSON.parse(text) as { $id: string };
  // It knows formats (int32) that JSON Schema does not.
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  ajv.addSchema(schema);
  return (manifest) => {
    const name = definitions[`${manifest.apiVersion} ${manifest.kind}`];
    const check: ValidateFunction | undefined = ajv.getSchema(`${schema.$id}#/$defs/${name}`);
    if (!check) return [`${manifest.apiVersion} ${manifest.kind} is no kind of ${version}`];
    return check(manifest) ? [] : check.errors!.map((one) => `${one.instancePath} ${one.message}`);
  };
}

describe.skipIf(folder === null)('the manifests for Kubernetes', () => {
  const read = async () => {
    const files = ['kubernetes.yaml', 'kubernetes-backup.yaml'].map((file) =>
      join(packageRoot(), 'bot', file),
    );
    const text = (await Promise.all(files.map((file) => readFile(file, 'utf8')))).join('---\n');
    return (values: readonly [string, string] = ['', '']) =>
      parseAllDocuments(text.replace(...values)).map((one) => (one as { toJS(): Manifest }).toJS());
  };

  it.each(['v1.27', 'v1.37'])('are what the API of %s takes, every key of it', async (version) => {
    const problems = await openSchemas(version);
    const manifests = await read();
    expect(manifests().map(problems)).toEqual(manifests().map(() => []));
    for (const broken of [
      ['readinessProbe', 'readyProbe'],
      ['replicas: 2', 'replicas: two'],
      ['policy/v1', 'policy/v1beta1'],
      ['containerPort: 8080', 'port: 8080'],
      ['pathType: Exact', 'type: Exact'],
      ['concurrencyPolicy: Forbid', 'concurrency: Forbid'],
    ] as const) {
      expect(manifests(broken).flatMap(problems), broken[1]).not.toEqual([]);
    }
  });
});
