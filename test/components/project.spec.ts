import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/exec/root.ts';
import type { CiEngine, PipelineRequest } from '../../src/sandbox/ci-port.ts';
import type { Pipeline, World } from '../../src/sandbox/state.ts';
import { finished, jobNamed, ownRunner, serveCi } from '../sandbox/ci-server.ts';
import { addProject, openWorld, request, type TestProject } from '../sandbox/ci-world.ts';
import { writeLauncher } from '../steps/project.ts';

const folder = join(packageRoot(), 'ci-components');
let world: World;
let engine: CiEngine;
let kit: TestProject;
const closing: (() => Promise<void>)[] = [];

async function componentFiles(): Promise<Record<string, string>> {
  const names = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(
    await Promise.all(
      files.map(async (path) => [path.slice(folder.length + 1), await readFile(path, 'utf8')] as const),
    ),
  );
}

beforeAll(async () => {
  const opened = await openWorld();
  world = opened.world;
  closing.push(opened.remove);
  const served = await serveCi(world);
  engine = served.engine;
  closing.unshift(served.close);
  kit = await addProject(world, 'cdl', 'ci-components');
  const programs = await writeLauncher(world.folder, packageRoot());
  const runner = await ownRunner(world, undefined, programs);
  closing.unshift(() => runner.stop());
});
afterAll(async () => {
  for (const close of closing) await close();
});

async function start(files: Record<string, string>, over: Partial<PipelineRequest> = {}): Promise<Pipeline> {
  const sha = await kit.commit(files, { branch: 'main' });
  const outcome = await engine.createPipeline(kit.project, request(sha, over));
  if (outcome.kind !== 'created') throw new Error(JSON.stringify(outcome));
  return outcome.pipeline;
}

const logs = (pipeline: Pipeline): Promise<string> =>
  Promise.all(
    pipeline.jobIds.map(async (id) => {
      const job = kit.project.jobs.get(id)!;
      const trace = await readFile(join(job.folder, 'trace.log'), 'utf8').catch(() => '');
      return `${job.spec.name} ${job.status}\n${trace}`;
    }),
  ).then((all) => all.join('\n'));

describe("the component project's own pipeline", () => {
  it('runs the components of its commit for real, one after the other, and none that needs a bot', async () => {
    const pipeline = await start(await componentFiles());
    await finished(world, pipeline);
    expect(pipeline.status, await logs(pipeline)).toBe('success');
    const names = pipeline.jobIds.map((id) => kit.project.jobs.get(id)!.spec.name);
    expect(names).toEqual([
      'prepare',
      'ingest',
      'validate 1/1',
      'train',
      'package',
      'register',
      'report',
      'check',
    ]);
    const trained = jobNamed(kit.project, pipeline, 'train');
    expect(await readFile(join(trained.folder, 'trace.log'), 'utf8')).toContain('epoch 2');
  });

  it('fails when a component does, and names the job', async () => {
    const files = await componentFiles();
    const broken = files['templates/train.yml']!.replace('- cdl train', '- cdl trian');
    expect(broken).not.toBe(files['templates/train.yml']);
    const pipeline = await start({ ...files, 'templates/train.yml': broken });
    await finished(world, pipeline);
    expect(pipeline.status).toBe('failed');
    const job = jobNamed(kit.project, pipeline, 'train');
    expect(job.status).toBe('failed');
    expect(await readFile(join(job.folder, 'trace.log'), 'utf8')).toContain('did you mean train?');
    expect(jobNamed(kit.project, pipeline, 'check').status).toBe('skipped');
  });

  it('does not start when a component lost an input that it uses', async () => {
    const files = await componentFiles();
    const train = files['templates/train.yml']!.replace(/^ {4}model:\n(?: {6}.*\n)+/m, '');
    const changed = train.replace('$[[ inputs.model ]]', '');
    const sha = await kit.commit({ ...files, 'templates/train.yml': changed });
    const outcome = await engine.createPipeline(kit.project, request(sha));
    expect(JSON.stringify(outcome)).toMatch(/unknown input.*model|model.*unknown/i);
  });

  it('releases on a semantic version tag only, by a job with the release keyword', async () => {
    const { openCompiler } = await import('../../src/sandbox/ci/compile.ts');
    const compiler = openCompiler(world, process.env.PATH ?? '');
    const sha = await kit.commit(await componentFiles());
    const release = async (ref: string) => {
      const outcome = await compiler.compile(kit.project, request(sha, { ref, tag: true }));
      if (outcome.kind !== 'compiled') throw new Error(JSON.stringify(outcome));
      return outcome.pipeline.jobs.find((job) => job.name === 'release') ?? null;
    };
    for (const tag of ['1.2', 'v1.2.3', '1.2.3-beta', 'demo']) expect(await release(tag), tag).toBeNull();
    expect((await release('1.2.3'))?.release).toMatchObject({
      tagName: '1.2.3',
      description: expect.stringContaining('1.2.3'),
    });
  });

  it('has what a catalog release needs: a readme, a licence, at most 100 components in templates/', async () => {
    const files = await componentFiles();
    expect(files['README.md']).toContain('# CDL components');
    expect(files['LICENSE.md']).toContain('MIT');
    const components = Object.keys(files).filter((path) => path.startsWith('templates/'));
    expect(components.length).toBeLessThanOrEqual(100);
    // GitLab's own rule for where components lie.
    for (const path of components) expect(path).toMatch(/^templates\/[\w-]+(?:\/template)?\.yml$/);
  });
});
