import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { packageRoot } from '../../src/exec/root.ts';
import { run } from '../../src/exec/run.ts';

const root = packageRoot();
const read = (path: string) => readFile(join(root, path), 'utf8');
const manifest = JSON.parse(await read('package.json')) as {
  version: string;
  engines: { node: string };
  peerDependencies: Record<string, string>;
};

/** The instructions of a Dockerfile, lines that go on put together, comments left out. */
const instructions = (text: string) =>
  text
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll(/\\\n/g, ' ')
    .split('\n')
    .map((line) => line.trim().replaceAll(/\s+/g, ' '))
    .filter(Boolean)
    .map((line) => ({ name: line.split(' ')[0]!, rest: line.slice(line.indexOf(' ') + 1) }));

describe.each(['runners/gpu/Dockerfile', 'runners/gpu/Dockerfile.torch'])('%s', (path) => {
  it('builds from pinned images, leaves nothing of package managers behind, and ends as a user without rights', async () => {
    const all = instructions(await read(path));
    const last = all.slice(all.findLastIndex((one) => one.name === 'FROM'));
    for (const { name, rest } of all) {
      expect([name, ['FROM', 'WORKDIR', 'COPY', 'RUN', 'USER', 'ENV', 'CMD'].includes(name)]).toEqual([
        name,
        true,
      ]);
      if (name === 'FROM') expect(rest).toMatch(/^[a-z/]+:\d[\w.-]+( AS build)?$/);
      if (name !== 'RUN') continue;
      // hadolint: DL3009, DL3015, DL3042, DL3016, DL4006, DL3004.
      if (rest.includes('apt-get install')) {
        expect(rest).toMatch(
          /^apt-get update && apt-get install -y --no-install-recommends .* && rm -rf \/var\/lib\/apt\/lists\/\*$/,
        );
      }
      if (rest.includes('pip install')) expect(rest).toContain('--no-cache-dir');
      // Without --save-prod npm leaves an optional peer, or a package for development, out: "up to date".
      if (rest.startsWith('npm install'))
        expect(rest).toMatch(/ --save-prod --omit=dev .* [@\w/-]+@\d+\.\d+\.\d+$/);
      expect(rest).not.toMatch(/\| *(ba)?sh|sudo |--privileged/);
    }
    expect(last.filter((one) => one.name === 'USER')).toEqual([{ name: 'USER', rest: '1000' }]);
    // GitLab Runner clones as root.
    expect(last).toContainEqual({ name: 'RUN', rest: "git config --system safe.directory '*'" });
    expect(JSON.parse(last.at(-1)!.rest)).toEqual(['cdl', 'doctor', '--gpu']);
  });

  it('copies only what there is, and everything that the bot’s image does', async () => {
    const copied = (text: string) =>
      [...text.matchAll(/^COPY --from=build \/(?:opt\/cdl|app)\/(\S+) /gm)].map((match) => match[1]!);
    const text = await read(path);
    const here = copied(text);
    expect(here).toEqual(expect.arrayContaining(copied(await read('bot/Dockerfile'))));
    for (const source of [...here, ...[...text.matchAll(/^COPY (templates\S+)/gm)].map((match) => match[1]!)])
      expect([source, existsSync(join(root, source))]).toEqual([source, true]);
    expect(await read(`${path}.dockerignore`)).toBe(await read('bot/Dockerfile.dockerignore'));
  });

  it('has the versions that the project says', async () => {
    const text = await read(path);
    const least = /(\d+)/.exec(manifest.engines.node)![1];
    expect(text).toContain(`FROM node:${least}-`);
    const [, native, version] = / ([@\w/-]+)@(\d+\.\d+\.\d+)$/m.exec(text)!;
    expect(manifest.peerDependencies[native!]).toBe(`^${version}`);
    if (native === '@tensorflow/tfjs-node-gpu') {
      // What `cdl doctor --gpu` looks for: TensorFlow 2.9.1 is built for these.
      expect(text).toMatch(/^FROM nvidia\/cuda:11\.\d+\.\d+-cudnn8-runtime-/m);
    }
  });
});

/** Values of a TOML file, by Python's own parser (PEP 680); null where there is no Python 3.11. */
async function parseToml(text: string): Promise<unknown> {
  const script = 'import json,sys,tomllib; print(json.dumps(tomllib.loads(sys.stdin.read())))';
  const done = await run('python3', ['-c', script], { input: text }).catch(() => null);
  if (done?.stderr.includes('TOMLDecodeError')) throw new Error(done.stderr.toString());
  return done?.code === 0 ? JSON.parse(done.stdout.toString()) : null;
}
const hasToml = (await parseToml('a = 1')) !== null;
if (!hasToml)
  console.warn('skipped: the configuration of GitLab Runner (no python3 with tomllib to read TOML with)');

/** Keys of GitLab Runner's documentation (docs.gitlab.com/runner/configuration/advanced-configuration); it passes over others. */
const runnerSchema = z.strictObject({
  name: z.string(),
  url: z.url(),
  token: z.string().startsWith('__TOKEN_OF_'),
  executor: z.literal('docker'),
  limit: z.int(),
  environment: z.array(z.string()).optional(),
  docker: z.strictObject({
    image: z.string(),
    gpus: z.literal('all').optional(),
    privileged: z.literal(false),
    security_opt: z.tuple([z.literal('no-new-privileges:true')]),
    allowed_images: z.array(z.string()),
    allowed_services: z.array(z.string()),
    pull_policy: z.array(z.enum(['always', 'if-not-present', 'never'])),
    shm_size: z.int().optional(),
    // Folders of the machine would be shared by all projects, and belong to root.
    volumes: z.array(z.string().regex(/^\/[^:]*$/)).optional(),
  }),
});

describe.skipIf(!hasToml)('the configuration of GitLab Runner', () => {
  it('has a runner with GPUs and another one for protected branches, both for images of cdl only', async () => {
    const config = z
      .object({ concurrent: z.int(), check_interval: z.int(), runners: z.array(runnerSchema) })
      .parse(await parseToml(await read('runners/gpu/config.toml')));
    expect(config.runners.map(({ name, docker }) => [name, docker.gpus])).toEqual([
      ['gpu-untrusted', 'all'],
      ['deploy-protected', undefined],
    ]);
    expect(new Set(config.runners.map((one) => one.token)).size).toBe(2);
    for (const { docker } of config.runners) {
      const [allowed] = docker.allowed_images;
      expect(docker.allowed_services).toEqual(docker.allowed_images);
      expect(docker.image.startsWith(allowed!.replace('*', ''))).toBe(true);
      // The name under which the images are built.
      for (const file of ['Dockerfile', 'Dockerfile.torch']) {
        const tag = / -t (\S+) /.exec(await read(`runners/gpu/${file}`))![1]!;
        expect(tag.startsWith(allowed!.replace('*', ''))).toBe(true);
      }
    }
    // The cache is in the volume; the protected runner has none that other jobs write.
    const [untrusted, trusted] = config.runners;
    const cache = untrusted!.environment!.find((one) => one.startsWith('CDL_CACHE='))!.slice(10);
    expect(untrusted!.docker.volumes!.some((volume) => cache.startsWith(`${volume}/`))).toBe(true);
    expect(trusted!.docker.volumes).toBeUndefined();
  });

  it('gives on Kubernetes one GPU to the build container, and no rights', async () => {
    // Values of the chart (docs.gitlab.com/runner/install/kubernetes), keys of the executor (…/executors/kubernetes).
    const values = z
      .strictObject({
        gitlabUrl: z.url(),
        concurrent: z.int(),
        rbac: z.strictObject({ create: z.literal(true) }),
        serviceAccount: z.strictObject({ create: z.literal(true) }),
        runners: z.strictObject({ secret: z.string(), config: z.string() }),
      })
      .parse(parse(await read('runners/gpu/values.yaml')));
    const patchSchema = z.strictObject({
      name: z.string(),
      patch_type: z.literal('strategic'),
      patch: z.string(),
    });
    const { runners } = z
      .strictObject({
        runners: z.tuple([
          z.strictObject({
            environment: z.tuple([z.literal('FF_USE_ADVANCED_POD_SPEC_CONFIGURATION=true')]),
            kubernetes: z.strictObject({
              namespace: z.literal('{{.Release.Namespace}}'),
              image: z.string(),
              privileged: z.literal(false),
              allow_privilege_escalation: z.literal(false),
              allowed_images: z.array(z.string()),
              allowed_services: z.array(z.string()),
              cpu_request_overwrite_max_allowed: z.string(),
              memory_request_overwrite_max_allowed: z.string(),
              poll_timeout: z.int(),
              pod_spec: z.array(patchSchema),
            }),
          }),
        ]),
      })
      .parse(await parseToml(values.runners.config));
    const { kubernetes } = runners[0];
    expect(kubernetes.allowed_services).toEqual(kubernetes.allowed_images);
    expect(kubernetes.pod_spec.map(({ patch }) => parse(patch))).toEqual([
      { containers: [{ name: 'build', resources: { limits: { 'nvidia.com/gpu': '1' } } }] },
      { automountServiceAccountToken: false },
    ]);
  });
});
