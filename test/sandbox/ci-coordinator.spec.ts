import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseDotenv } from '../../src/sandbox/ci/coordinator.ts';
import type { RunnerRegistration } from '../../src/sandbox/ci/queue.ts';
import { compositeStatus } from '../../src/sandbox/ci/status.ts';
import type { CiEngine } from '../../src/sandbox/ci-port.ts';
import type { JobStatus, Pipeline, World } from '../../src/sandbox/state.ts';
import { jobNamed, serveCi } from './ci-server.ts';
import { addProject, openWorld, request, type TestProject } from './ci-world.ts';

const runners: RunnerRegistration[] = [
  { token: 'glrt-open', description: 'open', access: 'untrusted', tags: ['gpu'], runUntagged: true },
  { token: 'glrt-prot', description: 'deploys', access: 'protected', tags: ['deploy'], runUntagged: true },
];
let world: World;
let engine: CiEngine;
let app: TestProject;
let close: () => Promise<void>;

beforeAll(async () => {
  const opened = await openWorld();
  world = opened.world;
  const served = await serveCi(world, runners);
  engine = served.engine;
  app = await addProject(world, 'team', 'app');
  close = async () => {
    await served.close();
    await opened.remove();
  };
});
afterAll(() => close());

async function start(yaml: string, branch: string): Promise<Pipeline> {
  const sha = await app.commit({ '.gitlab-ci.yml': yaml }, { branch });
  const outcome = await engine.createPipeline(app.project, request(sha, { ref: branch }));
  if (outcome.kind !== 'created') throw new Error(outcome.messages.join('\n'));
  return outcome.pipeline;
}

interface Taken {
  id: number;
  token: string;
  job_info: { name: string };
  variables: { key: string; value: string; masked: boolean; raw: boolean }[];
  steps: { name: string; script: string[]; timeout: number; when: string; allow_failure: boolean }[];
  git_info: Record<string, unknown>;
  artifacts: object[];
}

async function ask(token: string): Promise<Taken> {
  const response = await send('POST', '/jobs/request', { body: { token } });
  expect(response.status).toBe(201);
  return (await response.json()) as Taken;
}

function send(
  method: string,
  path: string,
  given: { body?: object; text?: string; headers?: Record<string, string> },
): Promise<Response> {
  return fetch(`${world.url}/api/v4${path}`, {
    method,
    headers: {
      ...(given.body ? { 'content-type': 'application/json' } : { 'content-type': 'text/plain' }),
      ...given.headers,
    },
    body: given.body ? JSON.stringify(given.body) : (given.text ?? null),
  });
}

const one = 'a: {script: [echo a]}';

describe('the coordinator', () => {
  it('gives jobs of protected refs to the protected runner only, and others to the untrusted one only', async () => {
    const open = ask('glrt-open');
    const guarded = ask('glrt-prot');
    await start(one, 'main');
    await start(one, 'feature');
    const [first, second] = [await guarded, await open];
    expect(first.git_info).toMatchObject({ ref: 'main', protected: true });
    expect(second.git_info).toMatchObject({ ref: 'feature', protected: false });
    for (const taken of [first, second]) {
      await send('PUT', `/jobs/${taken.id}`, { body: { token: taken.token, state: 'success' } });
    }
  });

  it('gives a job with tags only to a runner that has them all', async () => {
    const pipeline = await start('a: {tags: [tpu], script: [x]}\nb: {tags: [gpu], script: [x]}', 'feature');
    expect((await ask('glrt-open')).job_info.name).toBe('b');
    await engine.cancelPipeline(app.project, pipeline);
  });

  it('describes a job as gitlab-runner expects it', async () => {
    await start(
      'a: {before_script: [one], script: [two], after_script: [three], timeout: 1m, image: "node:20", artifacts: {paths: [x], reports: {junit: j.xml}}}',
      'feature',
    );
    const taken = await ask('glrt-open');
    expect(taken.steps).toEqual([
      { name: 'script', script: ['one', 'two'], timeout: 60, when: 'on_success', allow_failure: false },
      { name: 'after_script', script: ['three'], timeout: 300, when: 'always', allow_failure: true },
    ]);
    expect(taken).toMatchObject({
      image: { name: 'node:20' },
      services: [],
      cache: [],
      credentials: [],
      artifacts: [
        { artifact_type: 'archive', artifact_format: 'zip', paths: ['x'], when: 'on_success' },
        { artifact_type: 'junit', artifact_format: 'gzip', paths: ['j.xml'], when: 'always' },
      ],
    });
    const variable = (key: string) => taken.variables.find((entry) => entry.key === key);
    expect(variable('CI_JOB_TOKEN')).toMatchObject({ value: taken.token, masked: true });
    expect(variable('CI_COMMIT_BRANCH')?.value).toBe('feature');
    expect(variable('GITLAB_CI')?.value).toBe('true');
    expect(variable('CI_COMMIT_REF_PROTECTED')?.value).toBe('false');
    await send('PUT', `/jobs/${taken.id}`, { body: { token: taken.token, state: 'success' } });
  });

  it('appends a log only where it ends, says where that is, and only for who holds the job', async () => {
    const pipeline = await start(one, 'feature');
    const { id, token } = await ask('glrt-open');
    const patch = (range: string, text: string, secret = token) =>
      send('PATCH', `/jobs/${id}/trace`, { text, headers: { 'job-token': secret, 'content-range': range } });
    const first = await patch('0-4', 'hello');
    expect([first.status, first.headers.get('range'), first.headers.get('job-status')]).toEqual([
      202,
      '0-5',
      'running',
    ]);
    const again = await patch('0-4', 'hello');
    expect([again.status, again.headers.get('range')]).toEqual([416, '0-5']);
    expect((await patch('5-6', ' y')).status).toBe(202);
    expect((await patch('5-6', ' y', 'glcbt-other')).status).toBe(403);
    expect((await patch('', '')).status).toBe(400);
    await engine.cancelJob(app.project, jobNamed(app.project, pipeline, 'a'));
    expect((await patch('7-7', '!')).headers.get('job-status')).toBe('canceled');
    expect((await send('PUT', `/jobs/${id}`, { body: { token, state: 'failed' } })).status).toBe(200);
    expect((await patch('8-8', '!')).status).toBe(403);
    expect(jobNamed(app.project, pipeline, 'a').status).toBe('canceled');
  });

  it('knows its runners', async () => {
    expect((await send('POST', '/runners/verify', { body: { token: 'glrt-open' } })).status).toBe(200);
    expect((await send('POST', '/runners/verify', { body: { token: 'nope' } })).status).toBe(403);
    expect((await send('POST', '/jobs/request', { body: { token: 'nope' } })).status).toBe(403);
  });

  it('reads dotenv reports strictly', () => {
    expect(parseDotenv(Buffer.from('A=1\nB= x=y \n'))).toEqual({ A: '1', B: 'x=y' });
    expect(() => parseDotenv(Buffer.from('A=1\n# comment\n'))).toThrow(/Invalid Format/);
    expect(() => parseDotenv(Buffer.from(`A=${'x'.repeat(6000)}`))).toThrow(/Too Big/);
  });
});

describe('the status of several jobs', () => {
  const jobs = (...states: (JobStatus | `${JobStatus}?`)[]) =>
    states.map((state) => ({
      status: state.replace('?', '') as JobStatus,
      spec: { allowFailure: state.endsWith('?') },
    }));
  it.each([
    [jobs('success', 'failed?'), 'success'],
    [jobs('success', 'failed'), 'failed'],
    [jobs('success', 'manual?'), 'success'],
    [jobs('success', 'manual', 'created'), 'manual'],
    [jobs('success', 'created'), 'running'],
    [jobs('pending', 'created'), 'pending'],
    [jobs('success', 'canceled'), 'canceled'],
    [jobs('skipped', 'skipped'), 'skipped'],
    [jobs('failed', 'running'), 'running'],
  ])('%j is %s', (parts, expected) => {
    expect(compositeStatus(parts, false)).toBe(expected);
  });
});
