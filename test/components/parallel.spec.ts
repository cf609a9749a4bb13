import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { packageRoot } from '../../src/exec/root.ts';
import type { CiEngine } from '../../src/sandbox/ci-port.ts';
import type { World } from '../../src/sandbox/state.ts';
import { finished, ownRunner, serveCi } from '../sandbox/ci-server.ts';
import { addProject, openWorld, request } from '../sandbox/ci-world.ts';
import { writeLauncher } from '../steps/project.ts';
import { textFiles } from '../steps/text-project.ts';
import { filesOf } from './starter.ts';

let world: World;
let engine: CiEngine;
const closing: (() => Promise<void>)[] = [];
beforeAll(async () => {
  const opened = await openWorld();
  world = opened.world;
  closing.push(opened.remove);
  const served = await serveCi(world);
  engine = served.engine;
  closing.unshift(served.close);
  const kit = await addProject(world, 'cdl', 'ci-components');
  await kit.commit(await filesOf(join(packageRoot(), 'ci-components')));
  await kit.git('tag', '1.0.0');
  await kit.git('push', '--quiet', 'origin', '1.0.0');
  const runner = await ownRunner(world, undefined, await writeLauncher(world.folder, packageRoot()));
  closing.unshift(() => runner.stop());
});
afterAll(async () => {
  for (const close of closing) await close();
});

it('a component with parallel: 3 is three jobs, and the next one works on what they made together', async () => {
  const app = await addProject(world, 'acme', 'words');
  const files = await textFiles();
  const tree = join(world.folder, 'acme-words');
  await mkdir(join(tree, 'data'), { recursive: true });
  await writeFile(join(tree, 'data', 'texts.zip'), files['data/texts.zip']!);
  const component = (name: string, inputs: object) => ({
    component: `$CI_SERVER_FQDN/cdl/ci-components/${name}@1.0.0`,
    inputs: { dataset: 'texts', ...inputs },
  });
  const sha = await app.commit(
    {
      'cdl.yaml': (files['cdl.yaml'] as string).replace('rules: {', 'clean: [lowercase, trim]\n    rules: {'),
      'model.ts': files['model.ts'] as string,
      '.gitignore': '.cdl/\n',
      '.gitlab-ci.yml': stringify({
        stages: ['data'],
        variables: { CDL_WORK_STORE: `file:${join(world.folder, 'work')}` },
        include: [
          component('ingest', {}),
          component('clean', { needs: ['ingest'], parallel: 3 }),
          component('validate', { needs: ['clean'], parallel: 2 }),
        ],
      }),
    },
    { branch: 'main' },
  );
  const outcome = await engine.createPipeline(app.project, request(sha));
  if (outcome.kind !== 'created') throw new Error(JSON.stringify(outcome));
  await finished(world, outcome.pipeline);
  const jobs = outcome.pipeline.jobIds.map((id) => app.project.jobs.get(id)!);
  const logs = await Promise.all(jobs.map((job) => readFile(join(job.folder, 'trace.log'), 'utf8')));
  expect(outcome.pipeline.status, logs.join('\n')).toBe('success');
  expect(jobs.map((job) => job.spec.name)).toEqual([
    'ingest',
    'clean 1/3',
    'clean 2/3',
    'clean 3/3',
    'validate 1/2',
    'validate 2/2',
  ]);
  const made = logs.flatMap((log) => /cleaned version ([0-9a-f]{12})/.exec(log)?.[1] ?? []);
  expect(new Set(made).size).toBe(1);
  const checked = logs.filter((log) => log.includes(`checks of data version ${made[0]}`));
  expect(checked.length).toBeGreaterThan(0);
});
