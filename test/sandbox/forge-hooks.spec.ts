import { createHmac } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { signWebhook } from '../../src/sandbox/hooks.ts';
import { announce, type Environment, type Job } from '../../src/sandbox/state.ts';
import { openReceiver, openRig, type Rig } from './forge-rig.ts';

const shared = process.env.CDL_SHARED ?? resolve(import.meta.dirname, '../../../shared');
const samples = join(shared, 'specs/gitlab-webhooks');
const signingToken = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const p = '/projects/1';

let rig: Rig;
let answer: number;
let receiver: Awaited<ReturnType<typeof openReceiver>>;
beforeEach(async () => {
  answer = 200;
  rig = await openRig();
  receiver = await openReceiver(() => answer);
});
afterEach(async () => {
  await rig.close();
  await receiver.close();
});

const all = {
  push_events: true,
  tag_push_events: true,
  merge_requests_events: true,
  note_events: true,
  emoji_events: true,
  pipeline_events: true,
  job_events: true,
  deployment_events: true,
};

async function hook(events: object = all) {
  const made = await rig.call('maintainer', 'POST', `${p}/hooks`, {
    url: receiver.url,
    token: 'secret',
    signing_token: signingToken,
    ...events,
  });
  expect(made.status).toBe(201);
  return made.json;
}

async function openChange() {
  await rig.call('developer', 'POST', `${p}/repository/commits`, {
    branch: 'exp/lr',
    start_branch: 'main',
    commit_message: 'Tune lr',
    actions: [{ action: 'create', file_path: 'train.yaml', content: 'lr: 1\n' }],
  });
  const { json } = await rig.call('developer', 'POST', `${p}/merge_requests`, {
    source_branch: 'exp/lr',
    target_branch: 'main',
    title: 'Tune lr',
    reviewer_ids: [rig.people.maintainer.user.id],
  });
  return json;
}

describe('webhooks', () => {
  it('are signed the Standard Webhooks way and carry GitLab’s headers', async () => {
    const made = await hook();
    expect(made).toMatchObject({ signing_token_present: true, token_present: true });
    expect(made.signing_token).toBeUndefined();
    await openChange();
    await rig.sandbox.settled();
    const delivery = receiver.deliveries.find((entry) => entry.body.object_kind === 'merge_request');
    if (!delivery) throw new Error('no merge request hook came');
    const { headers, raw } = delivery;
    const key = Buffer.alloc(32, 7);
    const mac = createHmac('sha256', key).update(
      `${headers['webhook-id']}.${headers['webhook-timestamp']}.${raw}`,
    );
    expect(headers).toMatchObject({
      'x-gitlab-event': 'Merge Request Hook',
      'x-gitlab-token': 'secret',
      'x-gitlab-instance': rig.sandbox.url,
      'idempotency-key': headers['webhook-id'],
      'webhook-signature': `v1,${mac.digest('base64')}`,
    });
    expect(new Set(receiver.deliveries.map((entry) => entry.headers['webhook-id'])).size).toBe(
      receiver.deliveries.length,
    );
  });

  it('tell of opening, new commits with oldrev, approval, merge and close', async () => {
    await hook({ merge_requests_events: true, push_events: false });
    const mr = await openChange();
    await rig.call('developer', 'POST', `${p}/repository/commits`, {
      branch: 'exp/lr',
      commit_message: 'more',
      actions: [{ action: 'update', file_path: 'train.yaml', content: 'lr: 2\n' }],
    });
    await rig.call('maintainer', 'POST', `${p}/merge_requests/${mr.iid}/approve`);
    await rig.call('maintainer', 'PUT', `${p}/merge_requests/${mr.iid}`, { add_labels: 'x' });
    await rig.call('maintainer', 'PUT', `${p}/merge_requests/${mr.iid}/merge`);
    await rig.sandbox.settled();
    const seen = receiver.deliveries.map(({ body }) => [
      body.object_attributes.action,
      body.object_attributes.oldrev ?? null,
      body.user.username,
    ]);
    expect(seen).toEqual([
      ['open', null, 'developer'],
      ['update', mr.sha, 'developer'],
      ['approved', null, 'maintainer'],
      ['update', null, 'maintainer'],
      ['merge', null, 'maintainer'],
    ]);
    expect(receiver.deliveries[3]?.body.changes.labels.current).toMatchObject([
      { title: 'x', project_id: 1 },
    ]);
  });

  it('fire for a new and an edited note, but not for system notes', async () => {
    await hook({ note_events: true, push_events: false });
    const mr = await openChange();
    const path = `${p}/merge_requests/${mr.iid}/notes`;
    const { id } = (await rig.call('reporter', 'POST', path, { body: '/approve 1' })).json;
    await rig.call('reporter', 'PUT', `${path}/${id}`, { body: '/approve 2' });
    await rig.call('maintainer', 'POST', `${p}/merge_requests/${mr.iid}/approve`);
    await rig.sandbox.settled();
    const seen = receiver.deliveries.map(({ body }) => [
      body.object_attributes.action,
      body.object_attributes.note,
    ]);
    expect(seen).toEqual([
      ['create', '/approve 1'],
      ['update', '/approve 2'],
    ]);
  });

  it('are not sent again when nobody takes them, rest after four failures, and can be resent by hand', async () => {
    const made = await hook({ note_events: true, push_events: false });
    const mr = await openChange();
    answer = 500;
    for (let at = 1; at <= 6; at += 1)
      await rig.call('reporter', 'POST', `${p}/merge_requests/${mr.iid}/notes`, { body: `note ${at}` });
    await rig.sandbox.settled();
    expect(receiver.deliveries).toHaveLength(4);
    const resting = await rig.call('maintainer', 'GET', `${p}/hooks/${made.id}`);
    expect(resting.json).toMatchObject({ alert_status: 'temporarily_disabled' });
    answer = 200;
    const [latest] = (await rig.call('maintainer', 'GET', `${p}/hooks/${made.id}/events`)).json;
    const again = await rig.call('maintainer', 'POST', `${p}/hooks/${made.id}/events/${latest.id}/resend`);
    expect(again.json).toEqual({ response_status: 200 });
    expect(receiver.deliveries[4]?.headers['webhook-id']).toBe(receiver.deliveries[3]?.headers['webhook-id']);
    expect((await rig.call('maintainer', 'GET', `${p}/hooks/${made.id}`)).json.alert_status).toBe(
      'executable',
    );
  });

  it('can be tried out', async () => {
    const made = await hook({});
    expect((await rig.call('maintainer', 'POST', `${p}/hooks/${made.id}/test/push_events`)).status).toBe(201);
    expect(receiver.deliveries[0]?.body).toMatchObject({ object_kind: 'push', ref: 'refs/heads/main' });
    expect((await rig.call('maintainer', 'POST', `${p}/hooks/${made.id}/test/note_events`)).status).toBe(422);
  });
});

/** Key paths of a JSON value; `[]` stands for the items of lists. */
function paths(value: unknown, at = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => paths(item, `${at}[]`));
  if (typeof value !== 'object' || value === null) return [at];
  return Object.entries(value).flatMap(([key, item]) => paths(item, `${at}.${key}`));
}

function keysOf(value: object): string[] {
  // `changes` names what changed, which differs from case to case; empty lists and nulls hide what is below them.
  return [...new Set(paths(value))].filter((path) => !path.startsWith('.changes'));
}

function covered(path: string, by: readonly string[]): boolean {
  if (by.includes(path)) return true;
  return by.some(
    (other) =>
      path.startsWith(`${other}.`) ||
      path.startsWith(`${other}[]`) ||
      other.startsWith(`${path}[]`) ||
      other.startsWith(`${path}.`),
  );
}

describe('payloads', () => {
  it.skipIf(!existsSync(samples))(
    'have the fields of GitLab’s (skipped: no specs/gitlab-webhooks)',
    async () => {
      await hook();
      const mr = await openChange();
      const note = await rig.call('developer', 'POST', `${p}/merge_requests/${mr.iid}/notes`, {
        body: 'hello',
      });
      await rig.call('developer', 'POST', `${p}/merge_requests/${mr.iid}/notes/${note.json.id}/award_emoji`, {
        name: 'rocket',
      });
      await rig.call('developer', 'POST', `${p}/repository/commits`, {
        branch: 'exp/lr',
        commit_message: 'more',
        actions: [{ action: 'update', file_path: 'train.yaml', content: 'lr: 2\n' }],
      });
      await rig.sandbox.settled();
      await rig.call('maintainer', 'PUT', `${p}/merge_requests/${mr.iid}/merge`);
      await rig.call('developer', 'POST', `${p}/repository/tags`, { tag_name: 'v1.0.0', ref: 'main' });
      finishedJob();
      await rig.call('developer', 'POST', `${p}/deployments`, {
        environment: 'production',
        sha: mr.sha,
        ref: 'main',
        tag: false,
        status: 'success',
      });
      await rig.sandbox.settled();
      const find = (test: (body: (typeof receiver.deliveries)[number]['body']) => boolean) => {
        const found = receiver.deliveries.filter((entry) => test(entry.body)).at(-1);
        if (!found) throw new Error('not delivered');
        return found.body;
      };
      const cases: [string, object][] = [
        ['push_main', find((body) => body.object_kind === 'push' && body.commits.length === 1)],
        ['tag_push', find((body) => body.object_kind === 'tag_push')],
        ['merge_request_open', find((body) => body.object_attributes?.action === 'open')],
        ['merge_request_update_push', find((body) => body.object_attributes?.oldrev !== undefined)],
        ['merge_request_merge', find((body) => body.object_attributes?.action === 'merge')],
        ['note_mr', find((body) => body.object_kind === 'note')],
        ['emoji_award', find((body) => body.object_kind === 'emoji')],
        ['pipeline_success', find((body) => body.object_kind === 'pipeline' && body.builds.length > 0)],
        ['job_success', find((body) => body.object_kind === 'build')],
        ['deployment_success', find((body) => body.object_kind === 'deployment')],
      ];
      for (const [name, body] of cases) {
        const sample = keysOf(JSON.parse(readFileSync(join(samples, `${name}.json`), 'utf8')));
        const ours = keysOf(body);
        expect({ name, unknown: ours.filter((path) => !covered(path, sample)) }).toEqual({
          name,
          unknown: [],
        });
        expect({ name, missing: sample.filter((path) => !covered(path, ours)) }).toEqual({
          name,
          missing: [],
        });
      }
    },
  );

  it.skipIf(!existsSync(samples))(
    'verify against GitLab’s sample signatures (skipped: no headers.json)',
    () => {
      const { signing_token, headers } = JSON.parse(readFileSync(join(samples, 'headers.json'), 'utf8'));
      const names = Object.keys(headers);
      expect(names.length).toBeGreaterThan(5);
      for (const name of names) {
        const body = JSON.stringify(JSON.parse(readFileSync(join(samples, `${name}.json`), 'utf8')));
        const { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signature } = headers[name];
        expect(signWebhook(signing_token, id, at, body)).toBe(signature);
      }
    },
  );
});

/** Puts a finished job with an environment into the newest pipeline, as an engine would, and announces both. */
function finishedJob(): void {
  const { project, sandbox, folder } = rig;
  const pipeline = [...project.pipelines.values()].at(-1);
  if (!pipeline) throw new Error('no pipeline');
  pipeline.stages = ['train'];
  const environment: Environment = { id: 900, name: 'staging', externalUrl: null, state: 'available' };
  project.environments.push(environment);
  const at = new Date().toISOString();
  const job: Job = {
    id: 1,
    pipelineId: pipeline.id,
    projectId: project.id,
    spec: {
      name: 'train',
      stage: 'train',
      image: null,
      variables: [],
      beforeScript: [],
      script: ['true'],
      afterScript: [],
      needs: null,
      dependencies: null,
      when: 'on_success',
      allowFailure: false,
      allowFailureExitCodes: [],
      timeout: 60,
      retry: 0,
      retryWhen: ['always'],
      retryExitCodes: [],
      tags: ['gpu'],
      resourceGroup: null,
      environment: { name: 'staging', url: null, action: 'start', tier: null, onStop: null },
      artifacts: null,
      release: null,
      interruptible: false,
    },
    status: 'success',
    createdAt: at,
    startedAt: at,
    finishedAt: at,
    failureReason: null,
    token: 't',
    folder,
    hasArtifacts: false,
    dotenv: {},
    cancelRequested: false,
  };
  project.jobs.set(job.id, job);
  announce(sandbox.world, { kind: 'job', project, job });
  announce(sandbox.world, { kind: 'pipeline', project, pipeline });
}
