import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { digestBytes, isDigest } from '../../src/core/digest.ts';
import { openTarget } from '../../src/deploy/index.ts';
import { type PlanInput, planDeployment } from '../../src/deploy/plan.ts';
import type { Plan } from '../../src/deploy/types.ts';

const input: PlanInput = {
  project: 'shop',
  model: 'fashion_mnist',
  environment: 'production',
  from: digestBytes('old'),
  fromPackage: digestBytes('old package'),
  to: digestBytes('new'),
  package: digestBytes('new package'),
  version: 9,
  bytes: 407_000,
  environmentConfig: {
    target: 'seldon',
    replicas: 2,
    traffic: [20, 100],
    max_error_rate: 0.01,
    namespace: 'models',
  },
  resources: { gpu: 1, cpu: 0.5, memory: '2Gi' },
};

const local: PlanInput = { ...input, environmentConfig: { ...input.environmentConfig, target: 'local' } };

describe('a deployment plan', () => {
  test('for Kubernetes reads like this', async () => {
    await expect(planDeployment(input).manifest).toMatchFileSnapshot('../golden/deploy/seldon-canary.yaml');
    await expect(
      planDeployment({ ...input, from: null, fromPackage: null, resources: null }).manifest,
    ).toMatchFileSnapshot('../golden/deploy/seldon-first.yaml');
  });

  test('for this machine reads like this', async () => {
    await expect(planDeployment(local).manifest).toMatchFileSnapshot('../golden/deploy/local.yaml');
  });

  test('has a digest that depends on what will happen, not on numbers, sizes or the order of keys', () => {
    const { digest } = planDeployment(input);
    expect(isDigest(digest)).toBe(true);
    expect(planDeployment({ ...input, version: 10, bytes: 1 }).digest).toBe(digest);
    const config = input.environmentConfig;
    const changes: Partial<PlanInput>[] = [
      { from: digestBytes('x') },
      { to: digestBytes('x') },
      { package: digestBytes('x') },
      { environment: 'staging' },
      { image: 'other:1' },
      { resources: { gpu: 0, cpu: 0.5, memory: '2Gi' } },
      { environmentConfig: { ...config, replicas: 3 } },
      { environmentConfig: { ...config, traffic: [50, 100] } },
      { environmentConfig: { ...config, target: 'local' } },
    ];
    const digests = changes.map((change) => planDeployment({ ...input, ...change }).digest);
    expect(new Set([digest, ...digests]).size).toBe(changes.length + 1);
    const limit = { environmentConfig: { ...local.environmentConfig, max_error_rate: 0.5 } };
    expect(planDeployment({ ...local, ...limit }).digest).not.toBe(planDeployment(local).digest);
  });

  test('of a first version has no steps', () => {
    expect(planDeployment({ ...local, from: null }).traffic).toEqual([100]);
  });

  test('always renders names, labels and shares Kubernetes takes', () => {
    const name = fc.stringMatching(/^[a-z0-9][a-z0-9_-]{0,62}$/);
    fc.assert(
      fc.property(name, name, name, fc.integer({ min: 1, max: 99 }), (project, model, environment, share) => {
        const environmentConfig = { ...input.environmentConfig, traffic: [share, 100] };
        const { manifest } = planDeployment({ ...input, project, model, environment, environmentConfig });
        const documents = manifest.split(/^---\n/m).map((text) => parse(text)) as {
          metadata: { name: string; labels: Record<string, string> };
          spec: { predictors: { name: string; traffic: number; labels: Record<string, string> }[] };
        }[];
        expect(documents).toHaveLength(2);
        for (const { metadata, spec } of documents) {
          expect(spec.predictors.reduce((sum, one) => sum + one.traffic, 0)).toBe(100);
          for (const dns of [metadata.name, ...spec.predictors.map((one) => one.name)]) {
            expect(dns).toMatch(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);
          }
          for (const value of Object.values(metadata.labels)) {
            expect(value).toMatch(/^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$/);
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  test('names the full digests where programs read them', () => {
    const [canary] = planDeployment(input).manifest.split(/^---\n/m);
    const { spec } = parse(canary!);
    const env = spec.predictors[1].componentSpecs[0].spec.containers[0].env;
    expect(env).toContainEqual({ name: 'CDL_PACKAGE', value: input.package });
  });
});

describe('the Kubernetes target', () => {
  test('says plainly that this version does not apply', async () => {
    const target = await openTarget({ target: 'seldon' });
    const steps = target.apply({} as Plan, '', new AbortController().signal)[Symbol.asyncIterator]();
    const refusal = {
      code: 'not-available',
      message: 'applying to Kubernetes is not in this version; the manifest is in the report',
    };
    await expect(steps.next()).rejects.toMatchObject(refusal);
    await expect(target.live('m', 'production')).rejects.toMatchObject(refusal);
  });
});
