import { existsSync, readFileSync } from 'node:fs';
import { access, chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CiEngine, PipelineRequest } from '../../src/sandbox/ci-port.ts';
import type { Runner } from '../../src/sandbox/runner/run.ts';
import type { Job, Pipeline, World, WorldEvent } from '../../src/sandbox/state.ts';
import { finished, jobNamed, ownRunner, serveCi, until } from './ci-server.ts';
import { addProject, openWorld, request, type TestProject } from './ci-world.ts';

let world: World;
let engine: CiEngine;
let app: TestProject;
let runner: Runner;
const closing: (() => Promise<void>)[] = [];
const events: string[] = [];

beforeAll(async () => {
  const opened = await openWorld();
  world = opened.world;
  const served = await serveCi(world);
  engine = served.engine;
  app = await addProject(world, 'team', 'app');
  world.events.on('event', (event: WorldEvent) => {
    if (event.kind === 'job') events.push(`${event.job.spec.name} ${event.job.status}`);
  });
  const tools = join(world.folder, 'tools');
  await mkdir(tools);
  await writeFile(join(tools, 'cdl'), '#!/bin/sh\necho "cdl says $1"\n');
  await chmod(join(tools, 'cdl'), 0o755);
  runner = await ownRunner(world, undefined, tools);
  closing.push(() => runner.stop(), served.close, opened.remove);
});
afterAll(async () => {
  for (const close of closing) await close();
});

async function start(
  yaml: string,
  over: Partial<PipelineRequest> = {},
  files: Record<string, string> = {},
): Promise<Pipeline> {
  const sha = await app.commit({ ...files, '.gitlab-ci.yml': yaml }, { branch: over.ref ?? 'main' });
  const outcome = await engine.createPipeline(app.project, request(sha, over));
  if (outcome.kind !== 'created') throw new Error(outcome.messages.join('\n'));
  return outcome.pipeline;
}

const job = (pipeline: Pipeline, name: string): Job => jobNamed(app.project, pipeline, name);
const log = (of: Job): Promise<string> => readFile(join(of.folder, 'trace.log'), 'utf8');

describe('a pipeline', () => {
  it('runs stage after stage in fresh clones and hands artifacts and dotenv variables on', async () => {
    const pipeline = await start(
      `
stages: [build, test]
make:
  stage: build
  before_script: [echo "before in $CI_PROJECT_PATH"]
  script:
    - mkdir -p out/deep
    - cat file.txt > out/deep/copy.txt
    - chmod +x out/deep/copy.txt
    - echo "VERSION=9" > build.env
  after_script: [echo "after $CI_JOB_STATUS"]
  artifacts:
    paths: [out/]
    reports: {dotenv: build.env, metrics: metrics.txt}
check:
  stage: test
  variables: {RAW: {value: "a $VERSION", expand: false}, COOKED: "b $VERSION"}
  script:
    - test -x out/deep/copy.txt && cat out/deep/copy.txt
    - echo "$RAW / $COOKED"
    - cdl train
`,
      {},
      { 'file.txt': 'content of the file\n' },
    );
    await finished(world, pipeline);
    const check = job(pipeline, 'check');
    expect(await log(check)).toContain('content of the file');
    expect(pipeline.status).toBe('success');
    expect(await log(check)).toContain('a $VERSION / b 9');
    expect(await log(check)).toContain('cdl says train');
    expect(await log(job(pipeline, 'make'))).toMatch(
      /before in team\/app[\s\S]*after success[\s\S]*Job succeeded/,
    );
    expect(job(pipeline, 'make')).toMatchObject({ hasArtifacts: true, dotenv: { VERSION: '9' } });
    await expect(access(join(world.folder, 'builds', `job-${check.id}`))).rejects.toThrow();
  });

  it('follows needs instead of stages, and skips what cannot run', async () => {
    const pipeline = await start(`
stages: [one, two, three]
slow: {stage: one, script: ["until [ -e ${'$'}{TMPDIR}/never ]; do sleep 0.1; done"], timeout: 2 seconds}
quick: {stage: one, script: [echo quick]}
early: {stage: two, needs: [quick], script: [echo early]}
late: {stage: two, script: [echo late]}
cleanup: {stage: three, when: on_failure, script: [echo cleanup]}
always: {stage: three, when: always, script: [echo always]}
broken: {stage: three, needs: [slow], script: [echo broken]}
`);
    await finished(world, pipeline);
    const states = Object.fromEntries(
      pipeline.jobIds.map((id) => [app.project.jobs.get(id)?.spec.name, app.project.jobs.get(id)?.status]),
    );
    expect(states).toEqual({
      slow: 'failed',
      quick: 'success',
      early: 'success',
      late: 'skipped',
      cleanup: 'success',
      always: 'success',
      broken: 'skipped',
    });
    expect(job(pipeline, 'slow').failureReason).toBe('job_execution_timeout');
    expect(pipeline.status).toBe('failed');
  });

  it('tries a failed job again as often as retry says, and lets allowed failures pass', async () => {
    const pipeline = await start(`
flaky: {retry: 2, script: [exit 3]}
soft: {allow_failure: {exit_codes: [7]}, script: [exit 7]}
`);
    await finished(world, pipeline);
    const tries = [...app.project.jobs.values()].filter(
      (one) => one.pipelineId === pipeline.id && one.spec.name === 'flaky',
    );
    expect(tries.map((one) => one.status)).toEqual(['failed', 'failed', 'failed']);
    expect(job(pipeline, 'soft').spec.allowFailure).toBe(true);
    expect(pipeline.status).toBe('failed');
  });

  it('lets one job of a resource group run at a time, in order of creation', async () => {
    const seen = events.length;
    const yaml = 'deploy: {resource_group: production, script: [echo hello]}';
    const first = await start(yaml);
    const second = await start(yaml);
    const third = await start(yaml);
    await Promise.all([first, second, third].map((pipeline) => finished(world, pipeline)));
    const order = events.slice(seen).filter((line) => /running|success/.test(line));
    expect(order).toEqual(Array.from({ length: 3 }, () => ['deploy running', 'deploy success']).flat());
    const started = [first, second, third].map((pipeline) => job(pipeline, 'deploy').startedAt ?? '');
    expect([...started].sort()).toEqual(started);
  });

  it('stops the processes of a canceled job, also those that ignore SIGTERM', async () => {
    const pipeline = await start(`
hang:
  script:
    - trap '' TERM
    - echo "pid $$ up"
    - while true; do sleep 0.05; done
  after_script: [echo never]
`);
    const hang = job(pipeline, 'hang');
    const shown = () => {
      const file = join(hang.folder, 'trace.log');
      return existsSync(file) ? /pid (\d+) up\n/.exec(readFileSync(file, 'utf8')) : null;
    };
    await until(world, () => shown() !== null);
    const pid = Number(shown()?.[1]);
    await engine.cancelPipeline(app.project, pipeline);
    expect(pipeline.status).toBe('canceled');
    // The runner's last words come after the end of the processes.
    await until(world, () => {
      try {
        process.kill(pid, 0);
        return false;
      } catch {
        return true;
      }
    });
  });

  it('waits for people at manual jobs and records deployments with their address', async () => {
    const pipeline = await start(`
stages: [build, deploy, after]
build: {stage: build, script: [echo]}
deploy:
  stage: deploy
  rules: [{when: manual}]
  environment: {name: production, url: "https://$HOST/$CI_ENVIRONMENT_SLUG"}
  script: ["echo HOST=live.example > e.env"]
  artifacts: {reports: {dotenv: e.env}}
after: {stage: after, script: [echo]}
`);
    await until(world, () => pipeline.status === 'manual');
    expect(job(pipeline, 'after').status).toBe('created');
    await engine.playJob(app.project, job(pipeline, 'deploy'), 1, []);
    await finished(world, pipeline);
    expect(pipeline.status).toBe('success');
    expect(app.project.environments).toMatchObject([
      { name: 'production', externalUrl: 'https://live.example/production', state: 'available' },
    ]);
    expect(app.project.deployments).toMatchObject([{ status: 'success', sha: pipeline.sha }]);
  });

  it('runs failed jobs again in their place, and what was skipped because of them', async () => {
    const yaml = `
stages: [a, b]
first: {stage: a, script: ['test -n "$GO"']}
second: {stage: b, script: [echo]}
`;
    const pipeline = await start(yaml);
    await finished(world, pipeline);
    expect(job(pipeline, 'second').status).toBe('skipped');
    app.project.variables.push({
      key: 'GO',
      value: '1',
      protected: false,
      masked: false,
      environmentScope: '*',
    });
    await engine.retryPipeline(app.project, pipeline, 1);
    await finished(world, pipeline);
    expect(pipeline.status).toBe('success');
    expect(job(pipeline, 'second').status).toBe('success');
  });

  it('gives protected variables to protected refs only and hides masked values in the log', async () => {
    app.project.variables.push(
      { key: 'SECRET', value: 'hunter2-hunter2', protected: true, masked: true, environmentScope: '*' },
      { key: 'ONLY_PROD', value: 'x', protected: false, masked: false, environmentScope: 'production' },
    );
    const yaml =
      'show: {script: [\'echo "[$SECRET] [$ONLY_PROD]"; printf hunter2-; sleep 0.3; echo hunter2\']}';
    const main = await start(yaml);
    const branch = await start(yaml, { ref: 'feature' });
    await Promise.all([finished(world, main), finished(world, branch)]);
    const shown = await log(job(main, 'show'));
    expect(shown).toContain('[[MASKED]] []');
    expect(shown).not.toContain('hunter2-hunter2');
    expect(await log(job(branch, 'show'))).toContain('[] []');
  });

  it('makes a failed pipeline of a broken file for a push, and refuses it for the API', async () => {
    const pipeline = await start('a: {scirpt: [x]}');
    expect(pipeline).toMatchObject({ status: 'failed', jobIds: [] });
    expect(pipeline.yamlErrors).toEqual(['.gitlab-ci.yml:1: jobs:a config should implement a script:']);
    const outcome = await engine.createPipeline(app.project, request(pipeline.sha, { source: 'api' }));
    expect(outcome).toMatchObject({ kind: 'refused' });
  });

  it('cancels superseded pipelines of a ref where workflow:auto_cancel says so', async () => {
    const yaml = (text: string) => `
workflow: {auto_cancel: {on_new_commit: interruptible}}
work: {interruptible: true, script: ["${text}"]}
`;
    const older = await start(yaml('sleep 30'));
    await until(world, () => job(older, 'work').status === 'running');
    const newer = await start(yaml('true'));
    await finished(world, newer);
    expect([older.status, newer.status]).toEqual(['canceled', 'success']);
  });
});
