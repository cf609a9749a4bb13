import { createHmac, randomUUID } from 'node:crypto';
import { payloadOf } from './hook-payloads.ts';
import { type Snapshot, takeSnapshot } from './hook-snapshot.ts';
import type { HookDelivery, HookLog } from './hook-types.ts';
import type { Hook, Project, World, WorldEvent } from './state.ts';

const names = {
  push: 'Push Hook',
  tag_push: 'Tag Push Hook',
  merge_request: 'Merge Request Hook',
  note: 'Note Hook',
  emoji: 'Emoji Hook',
  pipeline: 'Pipeline Hook',
  job: 'Job Hook',
  deployment: 'Deployment Hook',
};

function triggerOf(event: Snapshot): keyof typeof names {
  return event.kind === 'push' && event.ref.startsWith('refs/tags/') ? 'tag_push' : event.kind;
}

const switches = {
  push: 'push_events',
  tag_push: 'tag_push_events',
  merge_request: 'merge_requests_events',
  note: 'note_events',
  emoji: 'emoji_events',
  pipeline: 'pipeline_events',
  job: 'job_events',
  deployment: 'deployment_events',
};

/** Names of the events a hook can be switched to, with GitLab's defaults. */
export const hookEvents: Readonly<Record<string, boolean>> = {
  push_events: true,
  tag_push_events: false,
  merge_requests_events: false,
  note_events: false,
  confidential_note_events: false,
  emoji_events: false,
  pipeline_events: false,
  job_events: false,
  deployment_events: false,
  issues_events: false,
  confidential_issues_events: false,
  wiki_page_events: false,
  releases_events: false,
};

/** The signature of a body (Standard Webhooks: HMAC-SHA256 over `{id}.{timestamp}.{body}`). `token` is `whsec_` and base64. */
export function signWebhook(token: string, id: string, timestamp: string, body: string): string {
  const key = Buffer.from(token.replace(/^whsec_/, ''), 'base64');
  return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')}`;
}

/** Consecutive failures after which a hook rests, and after which it is off for good (doc: webhooks, "Auto-disabled webhooks"). */
const restAfter = 4;
const offAfter = 40;

/** Whether a hook takes events now. */
export function isEnabled(hook: Hook): boolean {
  if (hook.failures >= offAfter) return false;
  return hook.disabledUntil === null || Date.parse(hook.disabledUntil) <= Date.now();
}

function count(hook: Hook, success: boolean): void {
  if (success) {
    hook.failures = 0;
    hook.disabledUntil = null;
    return;
  }
  hook.failures += 1;
  if (hook.failures < restAfter) return;
  const minutes = Math.min(2 ** (hook.failures - restAfter), 24 * 60);
  hook.disabledUntil = new Date(Date.now() + minutes * 60_000).toISOString();
}

/** Starts to deliver the world's events. Attempts to one hook happen one after the other, each at most 10 s long, none repeated. */
export function openHooks(world: World): HookDelivery {
  const logs: HookLog[] = [];
  const queues = new Map<number, Promise<unknown>>();
  const stop = new AbortController();

  async function send(
    hook: Hook,
    trigger: keyof typeof names,
    payload: object,
    id: string,
  ): Promise<HookLog> {
    const body = JSON.stringify(payload);
    const timestamp = String(Math.floor(Date.now() / 1000));
    const headers: Record<string, string> = {
      'content-type': 'application/json',
      'user-agent': 'GitLab/19.4.0',
      'idempotency-key': id,
      'x-gitlab-event': names[trigger],
      'x-gitlab-webhook-uuid': randomUUID(),
      'x-gitlab-instance': world.url,
      'x-gitlab-event-uuid': randomUUID(),
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      ...(hook.token === null ? {} : { 'x-gitlab-token': hook.token }),
      ...(hook.signingToken === null
        ? {}
        : { 'webhook-signature': signWebhook(hook.signingToken, id, timestamp, body) }),
    };
    const started = Date.now();
    let status: number | null = null;
    let responseBody = '';
    try {
      const response = await fetch(hook.url, {
        method: 'POST',
        headers,
        body,
        redirect: 'manual',
        signal: AbortSignal.any([AbortSignal.timeout(10_000), stop.signal]),
      });
      responseBody = (await response.text()).slice(0, 8192);
      status = response.status;
    } catch (error) {
      responseBody = error instanceof Error ? error.message : String(error);
    }
    count(hook, status !== null && status >= 200 && status < 300);
    const entry: HookLog = {
      id: world.nextId('hook_log'),
      hookId: hook.id,
      trigger: switches[trigger],
      url: hook.url,
      requestHeaders: headers,
      requestData: payload,
      status,
      responseBody,
      duration: (Date.now() - started) / 1000,
      at: new Date(started).toISOString(),
    };
    logs.push(entry);
    if (logs.length > 5000) logs.shift();
    return entry;
  }

  function enqueue(hook: Hook, work: () => Promise<HookLog | null>): Promise<HookLog | null> {
    const done = (queues.get(hook.id) ?? Promise.resolve()).then(work);
    queues.set(
      hook.id,
      done.catch(() => null),
    );
    return done;
  }

  function post(hook: Hook, snapshot: Snapshot, payload: Promise<object>): Promise<HookLog | null> {
    return enqueue(hook, async () => {
      if (!isEnabled(hook) || stop.signal.aborted) return null;
      return send(hook, triggerOf(snapshot), await payload, randomUUID());
    });
  }

  const listen = (event: WorldEvent) => {
    const wanted = (snapshot: Snapshot, project: Project) =>
      project.hooks.filter((hook) => hook.events[switches[triggerOf(snapshot)]] === true);
    if (event.project.hooks.length === 0) return;
    const snapshot = takeSnapshot(event);
    if (!snapshot) return;
    const hooks = wanted(snapshot, event.project);
    if (hooks.length === 0) return;
    const payload = payloadOf(world, snapshot);
    // A payload that cannot be made (its commit is gone) must not end the process; the event is then not told.
    for (const hook of hooks) post(hook, snapshot, payload).catch(() => null);
  };
  world.events.on('event', listen);

  return {
    logs,
    async resend(hook, logId) {
      const earlier = logs.find((entry) => entry.id === logId && entry.hookId === hook.id);
      if (!earlier) return null;
      const trigger = (Object.keys(switches) as (keyof typeof names)[]).find(
        (name) => switches[name] === earlier.trigger,
      );
      const id = earlier.requestHeaders['webhook-id'];
      if (!trigger || id === undefined) return null;
      return enqueue(hook, () => send(hook, trigger, earlier.requestData, id));
    },
    async deliver(hook, event) {
      const snapshot = takeSnapshot(event);
      if (!snapshot) return null;
      const payload = await payloadOf(world, snapshot);
      return enqueue(hook, () => send(hook, triggerOf(snapshot), payload, randomUUID()));
    },
    async idle() {
      let before: Promise<unknown>[] = [];
      for (;;) {
        const all = [...queues.values()];
        if (all.length === before.length && all.every((item, at) => item === before[at])) return;
        before = all;
        await Promise.all(all);
      }
    },
    async close() {
      world.events.off('event', listen);
      stop.abort();
      await Promise.all(queues.values());
    },
  };
}
