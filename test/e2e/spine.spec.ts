import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testItems } from '../../src/cli/demo-predict.ts';
import { lockEntry, parseLock } from '../../src/core/lock.ts';
import { generateGitlabApi, unknownParameters } from '../../src/sandbox/openapi.ts';
import { forgeRoutes } from '../../src/sandbox/routes.ts';
import { openStage, type Stage } from './stage.ts';
import { classes, model, randomOf } from './tiny-project.ts';

const root = resolve(import.meta.dirname, '../..');
const openapi = join(process.env.CDL_SHARED ?? join(root, '../shared'), 'specs/gitlab-openapi-v2.yaml');

/** Hyperparameters that learn the task, and some that cannot. */
const good = [
  { hidden: 24 },
  { hidden: 32, batch_size: 16 },
  { hidden: 16, epochs: 3 },
  { optimizer: 'sgd', learning_rate: 0.5 },
];
const bad = [
  { learning_rate: 0.000001 },
  { epochs: 1, learning_rate: 0.00001 },
  { optimizer: 'sgd', learning_rate: 0.00001 },
  { hidden: 1, epochs: 1, batch_size: 1024, learning_rate: 0.0001 },
];

/** Far more than it takes: pipelines run for real, on machines that do other things. */
const timeout = 400_000;

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
});
afterAll(async () => {
  await stage?.close();
});

async function predict(endpoint: string): Promise<{ version: string | null; right: number; count: number }> {
  const { x, y } = await testItems(stage.rig, 200);
  const response = await fetch(`${endpoint}/v2/models/${model}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      inputs: [{ name: 'input', datatype: 'UINT8', shape: [y.length, 8, 8], data: x.flat() }],
    }),
  });
  expect(response.status).toBe(200);
  const answer = (await response.json()) as { outputs: { name: string; data: string[] }[] };
  const labels = answer.outputs.find((output) => output.name === 'label')!.data;
  return {
    version: response.headers.get('x-cdl-version'),
    right: labels.filter((label, item) => label === classes[y[item]!]).length,
    count: y.length,
  };
}

describe('from a push to a prediction', { timeout }, () => {
  const merges: string[] = [];

  it('a good change is reported, approved, merged, deployed, served and its promotion signed', async () => {
    const sha = await stage.push('scientist', 'first', { hidden: 12 });
    const mr = await stage.propose('scientist', 'first', 'Twelve units');
    const { note } = await stage.said(mr.iid, /\/approve [0-9a-f]{6,}/);
    expect(note.body).toContain('validator: vera');
    expect(note.body).toContain('accuracy ≥ 85 %');
    const review = await stage.approve(mr.iid);
    expect(review).toMatch(/^[0-9a-f]{12}$/);

    const head = (await stage.api.maintainer.mergeRequest(mr.iid)).sha;
    expect(head).not.toBe(sha);
    merges.push(await stage.merge(mr.iid));
    const job = await stage.deployJob(merges[0]!);
    expect(await stage.trace(job)).toContain('Version 1 serves all requests.');
    expect(job.status).toBe('success');
    const live = (await stage.live())!;
    expect(live).toMatchObject({
      current: { version: 1, commit: merges[0] },
      transition: null,
      failed: null,
    });

    await stage.git('maintainer', 'fetch', '--quiet', 'origin');
    const lock = parseLock(`${await stage.git('maintainer', 'show', 'origin/main:cdl.lock')}\n`);
    const entry = lockEntry(lock, model, 'production');
    expect(entry).toMatchObject({ candidate: live.current!.candidate, package: live.current!.package });

    const served = await predict(live.endpoint!);
    expect(served.version).toBe('1');
    expect(served.right / served.count).toBeGreaterThan(0.85);
    const seldon = await fetch(`${live.endpoint}/api/v1.0/predictions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ data: { tensor: { shape: [1, 8, 8], values: new Array(64).fill(7) } } }),
    });
    expect(seldon.status).toBe(200);

    const decisions = await stage.until('the promotion', async () => {
      const all = await stage.decisions();
      return all.length === 2 ? all : null;
    });
    expect(decisions.map((one) => one.decision)).toEqual(['approved', 'promoted']);
    for (const one of decisions) {
      expect(one).toMatchObject({ candidate: live.current!.candidate, baseline: null, change: `!${mr.iid}` });
      expect(one.approvers).toMatchObject([{ name: 'vera', role: 'validator' }]);
    }
    await stage.said(mr.iid, /is promoted in production/);
  });

  it("the lock commit's pipeline finds every unchanged step done already", async () => {
    const { project } = stage.rig;
    const mr = [...project.mergeRequests.values()][0]!;
    const pipeline = [...project.pipelines.values()].find(
      (one) => one.mergeRequestIid === mr.iid && one.sha === mr.sha,
    )!;
    const jobs = await stage.until('the pipeline of the lock commit', () => {
      const all = pipeline.jobIds.map((id) => project.jobs.get(id)!);
      return all.every((job) => job.status === 'success') ? all : null;
    });
    const traces = new Map<string, string>();
    for (const job of jobs) traces.set(job.spec.name, await stage.trace(job));
    for (const name of ['ingest', 'validate 1/1', 'train', 'package']) {
      expect(traces.get(name), name).toMatch(/^.*: cached, /m);
    }
    expect(traces.get('register')).toContain('already was version 1');
  });

  it('anybody’s change, good or bad, gets the verdict it deserves', async () => {
    const seed = Number(process.env.CDL_TEST_SEED ?? Math.floor(Math.random() * 1e6));
    const random = randomOf(seed);
    const pick = <T>(from: T[]): T => from[Math.floor(random() * from.length)]!;
    const [worse, better] = [pick(bad), pick(good)];
    console.info(`CDL_TEST_SEED=${seed}: ${JSON.stringify({ worse, better })}`);
    await stage.push('scientist', 'worse', worse);
    const refused = await stage.propose('scientist', 'worse', 'Save time');
    await stage.push('scientist', 'better', better);
    const accepted = await stage.propose('scientist', 'better', 'Another size');

    const before = await stage.live();
    const failed = await stage.reaches(refused.iid, 'failed', /^gate failed: accuracy/);
    await stage.said(refused.iid, /Refused by (a gate|\d of \d gates): accuracy/);
    await expect(stage.api.maintainer.merge(refused.iid, failed.sha)).rejects.toThrow(/: 405 /);
    const answer = await stage.ask(
      'validator',
      refused.iid,
      `/approve ${await stage.approveLine(refused.iid)}`,
    );
    expect(answer).toContain('A gate failed');

    await stage.approve(accepted.iid);
    merges.push(await stage.merge(accepted.iid));
    const job = await stage.deployJob(merges[1]!);
    expect(await stage.trace(job)).toMatch(/Version \d+ serves all requests\./);
    const live = (await stage.live())!;
    expect(live.current!.candidate).not.toBe(before!.current!.candidate);
    expect((await predict(live.endpoint!)).version).toBe(String(live.current!.version));
    await stage.said(accepted.iid, /is promoted in production/);
    // What is live has changed, so the refused change is measured against the new one, and refused again.
    await stage.until('the second measurement', () => {
      const asked = [...stage.rig.project.pipelines.values()].filter(
        ({ inputs }) => inputs.cdl_task === 'evaluate' && inputs.cdl_change === String(refused.iid),
      );
      return asked.length > 1 && asked.every((one) => one.finishedAt !== null) ? asked : null;
    });
    await stage.said(refused.iid, /Refused by (a gate|\d of \d gates): accuracy/);
    const now = await stage.reaches(refused.iid, 'failed', /^gate failed/);
    expect(now.sha).toBe(failed.sha);
  });

  it('a late deploy job of an older commit changes nothing', async () => {
    const { project } = stage.rig;
    const old = [...project.jobs.values()].find(
      (job) => job.spec.name === 'deploy' && project.pipelines.get(job.pipelineId)?.sha === merges[0],
    )!;
    const before = await stage.live();
    const again = await stage.api.maintainer.call<{ id: number }>('POST', `/jobs/${old.id}/retry`);
    const job = await stage.until('the late job', () => {
      const found = project.jobs.get(again.id)!;
      return found.finishedAt === null ? null : found;
    });
    expect(await stage.trace(job)).toContain('A newer commit of this branch says what is to be live');
    expect(job.status).toBe('success');
    expect(await stage.live()).toEqual(before);
  });

  it('a version that was promoted here before comes back by a revert, without a new approval', async () => {
    const approvals = (await stage.decisions()).filter((one) => one.decision === 'approved').length;
    await stage.git('maintainer', 'fetch', '--quiet', 'origin');
    await stage.git('maintainer', 'checkout', '--quiet', '--force', '-B', 'main', 'origin/main');
    await stage.git('maintainer', 'revert', '--no-edit', '-m', '1', merges[1]!);
    await stage.git('maintainer', 'push', '--quiet', 'origin', 'main');
    const sha = await stage.git('maintainer', 'rev-parse', 'HEAD');
    const job = await stage.deployJob(sha);
    expect(await stage.trace(job)).toContain('Version 1 serves all requests again.');
    expect(job.status).toBe('success');
    const live = (await stage.live())!;
    expect(live.current).toMatchObject({ version: 1, commit: sha });
    expect((await predict(live.endpoint!)).version).toBe('1');
    const now = (await stage.decisions()).filter((one) => one.decision === 'approved').length;
    expect(now).toBe(approvals);
  });

  it('every request was within the documented API', () => {
    const { violations, problems, requests } = stage.rig.sandbox;
    expect(violations).toEqual([]);
    expect(problems).toEqual([]);
    expect(requests.length).toBeGreaterThan(100);
  });

  it.skipIf(!existsSync(openapi))(
    'every request matches gitlab-openapi-v2.yaml (skipped where the file is not)',
    () => {
      const api = JSON.parse(generateGitlabApi(readFileSync(openapi, 'utf8'), forgeRoutes)) as Parameters<
        typeof unknownParameters
      >[0];
      const routes = new Map(forgeRoutes.map((route) => [`${route.method} ${route.path}`, route]));
      let checked = 0;
      for (const request of stage.rig.sandbox.requests) {
        const route = routes.get(`${request.method} ${request.route}`);
        // What is not in the forge's table is the runner's side, which has operations of its own.
        if (!route) {
          expect(request.route, request.path).toMatch(/^\/(jobs|runners)\b/);
          continue;
        }
        checked += 1;
        expect(unknownParameters(api, route, request), `${request.method} ${request.path}`).toEqual([]);
      }
      expect(checked).toBeGreaterThan(100);
    },
  );
});
