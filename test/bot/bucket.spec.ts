import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { createApp } from '../../bot/app.ts';
import { registrationIn } from '../../bot/bucket.ts';
import { createMetrics } from '../../bot/metrics.ts';
import type { Task } from '../../bot/types.ts';
import { versionKey } from '../../src/core/claim.ts';
import { createZone, openStore } from '../../src/store/index.ts';
import { findMinio, type MinioServer, startMinio } from '../contract/minio.ts';

const token = 'f3a1c2d4e5b6978812345678';
const authorization = `Bearer ${token}`;

const apps: ReturnType<typeof createApp>[] = [];
afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
});

function start(bucketToken: string | null = token) {
  const known = new Set<string>();
  const tasks: Task[] = [];
  let resolve = (_task: Task) => {};
  const first = new Promise<Task>((done) => {
    resolve = done;
  });
  const take = async (id: string, given: readonly Task[]) => {
    if (known.has(id)) return false;
    known.add(id);
    tasks.push(...given);
    resolve(given[0]!);
    return true;
  };
  const app = createApp({
    receivers: new Map([
      ['acme/dl-demo', { take }],
      ['acme/other', { take }],
    ]),
    secrets: null,
    bucketToken,
    metrics: createMetrics(),
    now: () => 0,
    onError: () => {},
  });
  apps.push(app);
  const post = (payload: unknown, headers: Record<string, string> = { authorization }) =>
    app.inject({
      method: 'POST',
      url: '/webhooks/bucket',
      headers,
      payload: typeof payload === 'string' ? payload : JSON.stringify(payload),
    });
  return { app, tasks, first, post };
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
  let minio: MinioServer | null = null;
  afterEach(() => minio?.dispose());

  it('tells the bot of a version that is written to the store', async () => {
    const { app, first } = start();
    await app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = app.server.address() as AddressInfo;
    minio = await startMinio(binary!, {
      MINIO_NOTIFY_WEBHOOK_ENABLE_CDL: 'on',
      MINIO_NOTIFY_WEBHOOK_ENDPOINT_CDL: `http://127.0.0.1:${port}/webhooks/bucket`,
      MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_CDL: token,
    });
    await minio.notify('arn:minio:sqs::CDL:webhook', 'work/');
    const store = await openStore(`s3://${minio.bucket}?endpoint=${minio.endpoint}`, minio.root);
    const zone = createZone('work', store);
    await zone.writeRecord(versionKey('tiny', 'sides', 1), { v: 1 }, { ifAbsent: true });
    expect(await first).toEqual({ kind: 'registry' });
  });
});
