import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { createApp, type Receiver } from '../../bot/app.ts';
import { registrationIn } from '../../bot/bucket.ts';
import { createEffects } from '../../bot/effects.ts';
import { createInbox } from '../../bot/inbox.ts';
import { createMetrics } from '../../bot/metrics.ts';
import type { Task } from '../../bot/types.ts';
import { doTask, jobOf, taskName } from '../../bot/work.ts';
import { type Claim, candidateDigest, createZone, openQueue, openStore } from '../../src/index.ts';
import { findMinio, startMinio } from '../contract/minio.ts';
import { useDatabase } from './database.ts';
import { makeClaim } from './jobs.ts';
import { createBotWorld, projectYaml } from './world.ts';

const token = 'f3a1c2d4e5b6978812345678';
const authorization = `Bearer ${token}`;

const apps: ReturnType<typeof createApp>[] = [];
afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
});

function start(bucketToken: string | null = token) {
  const known = new Set<string>();
  const tasks: Task[] = [];
  const take = async (id: string, given: readonly Task[]) => {
    if (known.has(id)) return false;
    known.add(id);
    tasks.push(...given);
    return true;
  };
  const receivers = new Map([
    ['acme/dl-demo', { take }],
    ['acme/other', { take }],
  ]);
  const app = appOf(receivers, bucketToken);
  const post = (payload: unknown, headers: Record<string, string> = { authorization }) =>
    app.inject({
      method: 'POST',
      url: '/webhooks/bucket',
      headers,
      payload: typeof payload === 'string' ? payload : JSON.stringify(payload),
    });
  return { tasks, post };
}

function appOf(receivers: ReadonlyMap<string, Receiver>, bucketToken: string | null) {
  const metrics = createMetrics();
  const app = createApp({ receivers, secrets: null, bucketToken, metrics, now: () => 0, onError: () => {} });
  apps.push(app);
  return app;
}

const written = (key: string, eventName = 's3:ObjectCreated:Put', sequencer = '17') => ({
  Records: [{ eventName, s3: { object: { key, eTag: 'e', sequencer } } }],
});
const record = 'team%2Fwork%2Frecords%2Fversions%2Ftiny%2Fsides%2F00000001.json.json';

describe('a notification of the bucket', () => {
  it('has every project look once for what was registered, and is trusted with nothing else', async () => {
    const { tasks, post } = start();
    expect((await post(written(record))).statusCode).toBe(202);
    expect((await post(written(record))).statusCode).toBe(200);
    expect(tasks).toEqual([{ kind: 'registry' }, { kind: 'registry' }]);
    expect((await post(written(record, 's3:ObjectRemoved:Delete'))).statusCode).toBe(204);
    expect((await post(written('work/objects/sha256/ab/abcd'))).statusCode).toBe(204);
    expect((await post({ Records: 'all' })).statusCode).toBe(204);
    expect((await post('{')).statusCode).toBe(400);
    expect(registrationIn(written(record))).not.toBe(registrationIn(written(record, undefined, '18')));
  });

  it('is refused without the token, with another one, and where the bot has none', async () => {
    const { tasks, post } = start();
    expect((await post(written(record), {})).statusCode).toBe(401);
    expect((await post(written(record), { authorization: `${authorization}0` })).statusCode).toBe(401);
    expect((await post(written(record), { authorization: 'Bearer ' })).statusCode).toBe(401);
    expect(tasks).toEqual([]);
    expect((await start(null).post(written(record))).statusCode).toBe(404);
  });
});

const binary = findMinio();
if (!binary) console.warn('skipped: there is no MinIO; test/services/minio.sh fetches one, or set CDL_MINIO');
describe.skipIf(binary === null)('a real MinIO with a webhook target', () => {
  const database = useDatabase();
  const open: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const close of open.splice(0).reverse()) await close();
  });

  it('has a version that is written to the store evaluated on the change that waits for it', async () => {
    const receivers = new Map<string, Receiver>();
    const app = appOf(receivers, token);
    await app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = app.server.address() as AddressInfo;
    const minio = await startMinio(binary!, {
      MINIO_NOTIFY_WEBHOOK_ENABLE_CDL: 'on',
      MINIO_NOTIFY_WEBHOOK_ENDPOINT_CDL: `http://127.0.0.1:${port}/webhooks/bucket`,
      MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_CDL: token,
    });
    open.push(() => minio.dispose());
    await minio.notify('arn:minio:sqs::CDL:webhook', 'work/');
    const store = await openStore(`s3://${minio.bucket}?endpoint=${minio.endpoint}`, minio.root);
    const work = createZone('work', store);
    const world = await createBotWorld(database(), projectYaml(), {}, work);
    open.push(() => world.close());
    const project = world.context.forge.project;
    const silent = () => undefined;
    const options = {
      database: database(),
      isolated: false,
      metrics: createMetrics(),
      log: { info: silent, warn: silent, error: silent },
    };
    const done: Task[] = [];
    const bot = { ...world.context };
    const queue = await openQueue(
      database(),
      {
        [taskName(project)]: async (payload) => {
          const { task } = payload as { task: Task };
          await doTask(project, bot, task, options);
          done.push(task);
        },
      },
      { concurrency: 1 },
    );
    const enqueue = (task: Task) => queue.add(taskName(project), { task }, jobOf(project, task));
    bot.effects = createEffects(world.context, enqueue);
    const running = queue.run();
    open.push(async () => {
      await queue.stop();
      await running;
    });
    receivers.set(project, { take: createInbox(database(), project) });

    world.outcome = 'failed';
    const sha = await world.push('ada', 'exp/a', { 'model.ts': 'better\n' });
    const change = await world.openChange('exp/a');
    await enqueue({ kind: 'change', change });
    await expect.poll(() => done, { timeout: 20_000 }).toContainEqual({ kind: 'change', change });
    const evaluations = () =>
      [...world.project.pipelines.values()].filter(({ inputs }) => inputs.cdl_task === 'evaluate');
    expect(evaluations()).toEqual([]);

    // From here on nobody tells the bot anything but the bucket.
    const { repository } = world.project;
    const claim = (await makeClaim({ work, repository, sha, versions: new Map() })) as Claim;
    const candidate = candidateDigest(claim.candidate);
    await expect
      .poll(evaluations, { timeout: 20_000 })
      .toMatchObject([{ status: 'success', inputs: { cdl_candidate: candidate } }]);
    await expect.poll(() => done, { timeout: 20_000 }).toContainEqual({ kind: 'registry' });
  }, 60_000);
});
