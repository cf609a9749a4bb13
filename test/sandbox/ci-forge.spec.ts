import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createCiEngine } from '../../src/sandbox/ci/engine.ts';
import type { Pipeline } from '../../src/sandbox/state.ts';
import { anyRunner, until } from './ci-server.ts';
import { openRig, type Rig } from './forge-rig.ts';

let rig: Rig;
let runner: ChildProcess;

beforeAll(async () => {
  rig = await openRig({
    engine: (world) =>
      createCiEngine(world, { runners: [anyRunner], path: process.env.PATH ?? '', holdMs: 2000 }),
  });
  const program = join(rig.folder, 'runner.cjs');
  await build({
    entryPoints: [fileURLToPath(new URL('../../src/sandbox/runner-main.ts', import.meta.url))],
    outfile: program,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    logLevel: 'error',
  });
  const flags = [
    '--url',
    rig.sandbox.url,
    '--token',
    anyRunner.token,
    '--builds',
    join(rig.folder, 'builds'),
  ];
  runner = spawn(process.execPath, [program, ...flags], { stdio: ['ignore', 'inherit', 'inherit'] });
});
afterAll(async () => {
  const gone = once(runner, 'exit');
  runner.kill('SIGTERM');
  expect((await gone)[0]).toBe(0);
  await rig.close();
});

async function pipelineOf(sha: string, source: Pipeline['source']): Promise<Pipeline> {
  const find = () =>
    [...rig.project.pipelines.values()].find((one) => one.sha === sha && one.source === source);
  await until(rig.sandbox.world, () => find()?.finishedAt != null);
  const found = find();
  if (found === undefined) throw new Error('no pipeline');
  return found;
}

describe('a push into the sandbox', () => {
  it('becomes a pipeline whose jobs a separate runner process runs, and a merge request gets its own', async () => {
    const clone = await rig.clone('developer');
    const yaml = `
stages: [build, test]
workflow:
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
    - if: $CI_COMMIT_BRANCH && $CI_OPEN_MERGE_REQUESTS
      when: never
    - if: $CI_COMMIT_BRANCH
make:
  stage: build
  script: [git log --oneline, echo "$CI_PIPELINE_SOURCE" > source.txt]
  artifacts: {paths: [source.txt]}
look:
  stage: test
  needs: [make]
  script: [cat source.txt README.md]
`;
    await writeFile(join(clone, '.gitlab-ci.yml'), yaml);
    await rig.git(clone, 'checkout', '-q', '-b', 'feature');
    await rig.git(clone, 'add', '-A');
    await rig.git(clone, 'commit', '-q', '-m', 'add pipeline');
    await rig.git(clone, 'push', '-q', 'origin', 'feature');
    const pushed = await pipelineOf(await rig.git(clone, 'rev-parse', 'HEAD'), 'push');
    expect(pushed.status).toBe('success');

    const opened = await rig.call('developer', 'POST', `/projects/${rig.project.id}/merge_requests`, {
      source_branch: 'feature',
      target_branch: 'main',
      title: 'Feature',
    });
    expect(opened.status).toBe(201);
    const merge = await pipelineOf(pushed.sha, 'merge_request_event');
    expect(merge.status).toBe('success');
    const job = rig.project.jobs.get(merge.jobIds[1] ?? 0);
    const trace = await rig.call('developer', 'GET', `/projects/${rig.project.id}/jobs/${job?.id}/trace`);
    expect(trace.text).toMatch(/merge_request_event\nhello/);
    const file = await rig.call(
      'developer',
      'GET',
      `/projects/${rig.project.id}/jobs/${merge.jobIds[0]}/artifacts/source.txt`,
    );
    expect(file.text).toBe('merge_request_event\n');

    await rig.git(clone, 'commit', '-q', '--allow-empty', '-m', 'again');
    await rig.git(clone, 'push', '-q', 'origin', 'feature');
    const again = await rig.git(clone, 'rev-parse', 'HEAD');
    expect((await pipelineOf(again, 'merge_request_event')).status).toBe('success');
    await rig.sandbox.settled();
    expect([...rig.project.pipelines.values()].filter((one) => one.sha === again)).toHaveLength(1);
    expect(rig.sandbox.violations).toEqual([]);
    expect(rig.sandbox.problems).toEqual([]);
  });
});
