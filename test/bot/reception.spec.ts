import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApp } from '../../bot/app.ts';
import type { ForgeConfig } from '../../bot/config.ts';
import { createMetrics } from '../../bot/metrics.ts';
import { readQueue } from '../../bot/queue.ts';
import { openReception } from '../../bot/reception.ts';
import { signWebhook } from '../../bot/signature.ts';
import { type Database, openDatabase, openQueue } from '../../src/index.ts';

let folder: string;
let database: Database;
/** A forge that takes every request and answers none. */
let forge: Server;
let forgeUrl: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-reception-'));
  database = await openDatabase({ url: null, folder });
  await (await openQueue(database, {}, { concurrency: 1 })).stop();
  forge = createServer(() => {}).listen(0, '127.0.0.1');
  await once(forge, 'listening');
  forgeUrl = `http://127.0.0.1:${(forge.address() as AddressInfo).port}`;
});
afterAll(async () => {
  forge?.closeAllConnections();
  forge?.close();
  await database?.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
});

async function open(config: ForgeConfig, project: string) {
  const metrics = createMetrics();
  const onError = (message: unknown) => expect.soft(message).toBeUndefined();
  const pages = createApp({ receivers: new Map(), secrets: null, metrics, now: () => Date.now(), onError });
  const reception = await openReception(
    {
      forge: config,
      projects: [project],
      ca: null,
      proxy: null,
      host: '127.0.0.1',
      port: 0,
      database: database.url,
      traces: null,
      version: '0',
    },
    pages,
    { metrics, onError },
  );
  return {
    url: `http://127.0.0.1:${reception.port}`,
    async close() {
      await reception.close();
      await pages.close();
    },
  };
}

const token = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;

const gitlab = (): ForgeConfig => ({
  kind: 'gitlab',
  url: forgeUrl,
  token: 'glpat-x',
  evaluationToken: null,
  webhookSecret: null,
  signingToken: token,
});

/** A signed delivery as GitLab sends it. */
function deliver(url: string, id: string, event: object): Promise<Response> {
  const body = Buffer.from(JSON.stringify(event));
  const timestamp = String(Math.floor(Date.now() / 1000));
  return fetch(`${url}/webhooks/gitlab`, {
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      'webhook-signature': signWebhook(token, id, timestamp, body),
    },
  });
}

const queued = async (project: string) =>
  (await readQueue(database))
    .filter((row) => row.project === project)
    .map((row) => row.key.slice(project.length + 1))
    .sort();

describe('while the forge does not answer', () => {
  it('GitLab’s deliveries of every kind are queued and answered', async () => {
    const project = 'acme/fashion';
    const door = await open(gitlab(), project);
    const at = { project: { path_with_namespace: project } };
    const events = [
      { object_kind: 'push', ...at, ref: 'refs/heads/main', after: 'a'.repeat(40) },
      {
        object_kind: 'pipeline',
        ...at,
        object_attributes: { ref: 'exp/a', sha: 'a'.repeat(40), status: 'success' },
      },
      { object_kind: 'merge_request', ...at, object_attributes: { iid: 3, state: 'opened' } },
      {
        object_kind: 'note',
        ...at,
        object_attributes: { id: 5, noteable_type: 'MergeRequest', action: 'create' },
        merge_request: { iid: 3 },
      },
    ];
    try {
      for (const [number, event] of events.entries()) {
        const answer = await deliver(door.url, `${project} ${number}`, event);
        expect(answer.status, event.object_kind).toBe(202);
      }
    } finally {
      await door.close();
    }
    expect(await queued(project)).toEqual(['change:3', 'change:3 comment:5', 'push:exp/a', 'push:main']);
  });

  it('GitHub’s are too, comments among them though nobody knows yet whether they are the bot’s own', async () => {
    const project = 'acme/shoes';
    const secret = 'a secret of many letters';
    const door = await open(
      {
        kind: 'github',
        url: forgeUrl,
        auth: { kind: 'token', token: 'ghp_x' },
        webhookSecret: secret,
      } as ForgeConfig,
      project,
    );
    const repository = { full_name: project };
    const events = {
      push: { repository, ref: 'refs/heads/main' },
      pull_request: { repository, action: 'closed', number: 4 },
      issue_comment: {
        repository,
        action: 'created',
        issue: { number: 4, pull_request: {} },
        comment: { id: 9, user: { id: 7 } },
      },
    };
    try {
      for (const [name, event] of Object.entries(events)) {
        const body = JSON.stringify(event);
        const answer = await fetch(`${door.url}/webhooks/github`, {
          method: 'POST',
          body,
          headers: {
            'content-type': 'application/json',
            'x-github-event': name,
            'x-github-delivery': `${project} ${name}`,
            'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
          },
        });
        expect(answer.status, name).toBe(200);
      }
    } finally {
      await door.close();
    }
    expect(await queued(project)).toEqual(['branch', 'change:4', 'change:4 comment:9', 'push:main']);
  });
});

describe('a door that is told to close', () => {
  it('answers the delivery that is under way, which the database holds up, before it is shut', async () => {
    const project = 'acme/boots';
    const door = await open(gitlab(), project);
    let closed: Promise<void> | null = null;
    let answered: Promise<Response> | null = null;
    await database.transaction(async (transaction) => {
      await transaction.query('lock table deliveries in access exclusive mode');
      answered = deliver(door.url, project, {
        object_kind: 'merge_request',
        project: { path_with_namespace: project },
        object_attributes: { iid: 3, state: 'opened' },
      });
      answered.catch(() => undefined);
      const waits = `select 1 from pg_locks where relation = 'deliveries'::regclass and not granted`;
      await expect.poll(() => transaction.query(waits)).toHaveLength(1);
      closed = door.close();
      // Nobody new is let in any more.
      await expect
        .poll(() =>
          fetch(`${door.url}/healthz`).then(
            () => 'open',
            () => 'shut',
          ),
        )
        .toBe('shut');
    });
    expect((await answered!).status).toBe(202);
    await closed;
    expect(await queued(project)).toEqual(['change:3']);
  });
});
