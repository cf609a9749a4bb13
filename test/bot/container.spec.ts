import { cp, mkdir, mkdtemp, readFile, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { readVariable, type Variable, variables } from '../../bot/variables.ts';
import { run } from '../../src/exec/run.ts';
import { packageRoot } from '../../src/index.ts';

const table: readonly Variable[] = variables;

interface Manifest {
  kind: string;
  apiVersion: string;
  metadata: { name: string };
  data?: Record<string, string>;
  spec?: Record<string, unknown>;
}

async function manifests(file = 'bot/kubernetes.yaml'): Promise<Manifest[]> {
  const documents = parseAllDocuments(await readFile(file, 'utf8'), { uniqueKeys: true });
  return documents.map((one) => {
    if ('errors' in one) expect(one.errors).toEqual([]);
    return (one as { toJS(): Manifest }).toJS();
  });
}

interface Container {
  image: string;
  command?: string[];
  env?: { name: string; value?: string; valueFrom?: { secretKeyRef?: { name: string; key: string } } }[];
  envFrom?: { configMapRef?: { name: string }; secretRef?: { name: string } }[];
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
    expect(container).not.toHaveProperty('env');
    expect(container.envFrom).toEqual([
      { configMapRef: { name: 'cdl-bot' } },
      { secretRef: { name: 'cdl-bot' } },
    ]);
    // What the comment above says to put into the Secret.
    const [head] = (await readFile('bot/kubernetes.yaml', 'utf8')).split('\napiVersion', 1);
    const secrets = head!.match(/CDL_\w+/g) ?? [];
    for (const name of secrets) expect([name, byName.has(name)]).toEqual([name, true]);
    const image = await readFile('bot/Dockerfile', 'utf8');
    const given = new Set([...Object.keys(config), ...secrets, ...(image.match(/CDL_\w+(?==)/g) ?? [])]);
    const needed = table.filter((one) => one.required.includes('gitlab')).map((one) => one.name);
    expect(needed.filter((name) => !given.has(name))).toEqual([]);
    // Two bots need one database, and cannot share an embedded one.
    expect(given).toContain('CDL_DATABASE');
  });

  it('may make its Secret of files, which end in a newline', () => {
    expect(readVariable({ CDL_BOT_TOKEN: 'glpat-x\n' }, 'CDL_BOT_TOKEN')).toBe('glpat-x');
    expect(readVariable({ CDL_BOT_PORT: ' \n' }, 'CDL_BOT_PORT')).toBe('8080');
  });

  it('run two of it without rights, with probes, and hang together', async () => {
    const all = await manifests();
    expect(all.map((one) => `${one.apiVersion} ${one.kind}`)).toEqual([
      'v1 ConfigMap',
      'v1 ServiceAccount',
      'apps/v1 Deployment',
      'policy/v1 PodDisruptionBudget',
      'v1 Service',
      'networking.k8s.io/v1 Ingress',
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

describe('the door from outside', () => {
  it('is where the forge is told the bot is, and leads to nothing but webhooks and the status page', async () => {
    const all = await manifests();
    const of = (kind: string) => all.find((one) => one.kind === kind)!;
    const { host } = new URL(of('ConfigMap').data!.CDL_BOT_URL!);
    const ingress = of('Ingress').spec as {
      tls: { hosts: string[] }[];
      rules: { host: string; http: { paths: { path: string; pathType: string; backend: object }[] } }[];
    };
    expect(ingress.tls.flatMap((one) => one.hosts)).toEqual([host]);
    expect(ingress.rules.map((one) => one.host)).toEqual([host]);
    const paths = ingress.rules[0]!.http.paths;
    expect(paths.map(({ path, pathType }) => `${pathType} ${path}`)).toEqual([
      'Prefix /webhooks/',
      'Exact /status',
      'Exact /status.json',
    ]);
    const service = of('Service');
    const [port] = service.spec!.ports as { name: string; targetPort: string }[];
    for (const { backend } of paths)
      expect(backend).toEqual({ service: { name: service.metadata.name, port: { name: port!.name } } });
  });
});

describe('the nightly backup', () => {
  it('is made by the image and the Secret of the bot, by nobody with more rights, to a volume that stays', async () => {
    const bot = (await manifests()).find((one) => one.kind === 'Deployment')!;
    const { template } = bot.spec as { template: { spec: PodSpec } };
    const [claim, job] = await manifests('bot/kubernetes-backup.yaml');
    const made = (job!.spec as { jobTemplate: { spec: { template: { spec: PodSpec } } } }).jobTemplate.spec;
    const pod = made.template.spec;
    expect(pod.securityContext).toEqual(template.spec.securityContext);
    const [container] = pod.containers;
    const [like] = template.spec.containers;
    expect(container.image).toBe(like.image);
    expect(container.securityContext).toEqual(like.securityContext);
    expect(container.env).toEqual([
      { name: 'CDL_DATABASE', valueFrom: { secretKeyRef: { name: 'cdl-bot', key: 'CDL_DATABASE' } } },
    ]);
    const [, path] = /cdl db backup "(\/\w+)\//.exec(container.command!.join(' '))!;
    const { name } = container.volumeMounts.find((one) => one.mountPath === path)!;
    expect(pod.volumes).toContainEqual({ name, persistentVolumeClaim: { claimName: claim!.metadata.name } });
    // The command is there by its name.
    expect(await readFile('bot/Dockerfile', 'utf8')).toContain('ln -s /app/bin/cdl.js /usr/local/bin/cdl');
  });
});

describe('the container file', () => {
  it('copies all that the command needs, wherever it is called from', async () => {
    const text = await readFile('bot/Dockerfile', 'utf8');
    const folder = await mkdtemp(join(tmpdir(), 'cdl-image-'));
    try {
      const copied = [...text.matchAll(/^COPY --from=build \/app\/(\S+) \.\/(\S*)$/gm)];
      expect(copied.length).toBeGreaterThan(3);
      for (const [, from, to] of copied) {
        const target = join(folder, 'app', to || from!);
        await mkdir(dirname(target), { recursive: true });
        if (from === 'node_modules') await symlink(join(packageRoot(), from), target);
        else await cp(join(packageRoot(), from!), target, { recursive: true });
      }
      await symlink(join(folder, 'app', 'bin', 'cdl.js'), join(folder, 'cdl'));
      const env = { PATH: process.env.PATH ?? '', CDL_BOT_FOLDER: join(folder, 'bot') };
      const file = join(folder, 'backup.gz');
      for (const args of [
        ['db', 'backup', file],
        ['bot', 'queue'],
      ]) {
        const done = await run(join(folder, 'cdl'), args, { cwd: folder, env });
        expect([args, done.code, done.stderr.toString()]).toEqual([args, 0, '']);
      }
      expect((await stat(file)).size).toBeGreaterThan(0);
    } finally {
      await rm(folder, { recursive: true, force: true, maxRetries: 10 });
    }
  });

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
