import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { type Variable, variables } from '../../bot/variables.ts';

const table: readonly Variable[] = variables;

interface Manifest {
  kind: string;
  apiVersion: string;
  metadata: { name: string };
  data?: Record<string, string>;
  spec?: Record<string, unknown>;
}

async function manifests(): Promise<Manifest[]> {
  const documents = parseAllDocuments(await readFile('bot/kubernetes.yaml', 'utf8'), { uniqueKeys: true });
  return documents.map((one) => {
    if ('errors' in one) expect(one.errors).toEqual([]);
    return (one as { toJS(): Manifest }).toJS();
  });
}

interface Container {
  env: { name: string; value?: string; valueFrom?: { secretKeyRef?: { name: string; key: string } } }[];
  ports: { name: string; containerPort: number }[];
  securityContext: object;
  resources: { requests: object; limits: object };
  livenessProbe: { httpGet: { path: string; port: string } };
  readinessProbe: { httpGet: { path: string; port: string } };
  volumeMounts: { name: string; mountPath: string }[];
}

interface PodSpec {
  securityContext: object;
  containers: [Container];
  volumes: { name: string }[];
}

describe('the manifests for Kubernetes', () => {
  it('give the bot every variable that it needs, secrets from the Secret alone', async () => {
    const all = await manifests();
    const deployment = all.find((one) => one.kind === 'Deployment')!;
    const { template } = deployment.spec as { template: { spec: PodSpec } };
    const [container] = template.spec.containers;
    const config = all.find((one) => one.kind === 'ConfigMap')!.data!;
    const byName = new Map(table.map((one) => [one.name, one]));
    for (const name of Object.keys(config)) expect([name, byName.get(name)?.secret]).toEqual([name, false]);
    for (const { name, value, valueFrom } of container.env) {
      expect(byName.has(name)).toBe(true);
      expect(value).toBeUndefined();
      expect(valueFrom?.secretKeyRef).toMatchObject({ name: 'cdl-bot', key: name });
    }
    const image = await readFile('bot/Dockerfile', 'utf8');
    const given = new Set([
      ...Object.keys(config),
      ...container.env.map((one) => one.name),
      ...(image.match(/CDL_\w+(?==)/g) ?? []),
    ]);
    const needed = table.filter((one) => one.required.includes('gitlab')).map((one) => one.name);
    expect(needed.filter((name) => !given.has(name))).toEqual([]);
    // Two bots need one database, and cannot share an embedded one.
    expect(given).toContain('CDL_DATABASE');
  });

  it('run two of it without rights, with probes, and hang together', async () => {
    const all = await manifests();
    expect(all.map((one) => `${one.apiVersion} ${one.kind}`)).toEqual([
      'v1 ConfigMap',
      'v1 ServiceAccount',
      'apps/v1 Deployment',
      'policy/v1 PodDisruptionBudget',
      'v1 Service',
    ]);
    const deployment = all.find((one) => one.kind === 'Deployment')!.spec as {
      replicas: number;
      selector: { matchLabels: object };
      template: { metadata: { labels: object }; spec: PodSpec };
    };
    expect(deployment.replicas).toBe(2);
    const { template, selector } = deployment;
    for (const one of ['PodDisruptionBudget', 'Service']) {
      const { selector: chosen } = all.find(({ kind }) => kind === one)!.spec as { selector: object };
      expect('matchLabels' in chosen ? chosen.matchLabels : chosen).toEqual(selector.matchLabels);
    }
    expect(template.metadata.labels).toEqual(selector.matchLabels);
    expect(template.spec.securityContext).toMatchObject({
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    const [container] = template.spec.containers;
    expect(container.securityContext).toMatchObject({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    expect(container.livenessProbe.httpGet).toEqual({ path: '/healthz', port: container.ports[0]!.name });
    expect(container.readinessProbe.httpGet).toEqual({ path: '/readyz', port: container.ports[0]!.name });
    const names = container.volumeMounts.map((one) => one.name);
    expect(template.spec.volumes.map((one) => one.name)).toEqual(names);
    const image = await readFile('bot/Dockerfile', 'utf8');
    expect(container.volumeMounts.map((one) => one.mountPath)).toContain(
      /CDL_BOT_FOLDER=(\S+)/.exec(image)![1],
    );
  });
});

describe('the container file', () => {
  it('ends as a user without rights, holds no secret, and looks after itself', async () => {
    const text = await readFile('bot/Dockerfile', 'utf8');
    const last = text.slice(text.lastIndexOf('\nFROM '));
    expect(last).toMatch(/^USER node$/m);
    expect(last).toMatch(/^ENTRYPOINT \["node", "bin\/cdl.js", "bot"\]$/m);
    const secret = new Set(table.filter((one) => one.secret).map((one) => one.name));
    expect((text.match(/CDL_\w+/g) ?? []).filter((name) => secret.has(name))).toEqual([]);
    const check = /HEALTHCHECK .*\\\n {2}CMD (\[.+\])$/m.exec(text)![1]!;
    expect((JSON.parse(check) as string[]).slice(0, 2)).toEqual(['node', '-e']);
  });
});
