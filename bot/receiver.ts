// The thread that takes deliveries in: it verifies, remembers and queues them, and does nothing else.
import type { AddressInfo } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { describeError, openDatabase, openForge } from '../src/index.ts';
import { createApp, type ForwardedAnswer, type ForwardedRequest } from './app.ts';
import { forgeOptions } from './config.ts';
import { type GithubReceiver, mountGithub } from './github.ts';
import { createInbox } from './inbox.ts';
import { createMetrics } from './metrics.ts';
import type { Origin } from './origin.ts';
import type { FromReception, ReceptionData, ToReception } from './reception.ts';
import { openTracing } from './trace.ts';

/** Milliseconds for what is under way when it is told to close: forges hang up by then. */
const patience = 10_000;

const port = parentPort;
if (!port) throw new Error('this is a thread of the bot, not a program');
const data = workerData as ReceptionData;
const tell = (message: FromReception) => port.postMessage(message);
const onError = (error: unknown, origin: Origin = {}) =>
  tell({ kind: 'error', message: describeError(error).message, origin });

const database = await openDatabase({ url: data.database, folder: '' });
// What the process as a whole uses is counted by the bot itself.
const metrics = createMetrics({ process: false });

// What errors say of the forge or the database never leaves this thread unmasked: not at all here.
const { version } = data;
const tracing = await openTracing(data.traces, { version, mask: () => 'failed' });

const waiting = new Map<number, (answer: ForwardedAnswer) => void>();
let asked = 0;
async function forward(request: ForwardedRequest): Promise<ForwardedAnswer> {
  const id = ++asked;
  const answered = new Promise<ForwardedAnswer>((resolve) => waiting.set(id, resolve));
  const path = request.url.split('?', 1)[0];
  tell({
    kind: 'asked',
    id,
    request,
    metrics: path === '/metrics' ? await metrics.registry.getMetricsAsJSON() : [],
  });
  return answered;
}

const { forge } = data;

/** The bot's own id, asked for beside the deliveries, which never wait for the forge: null until it has answered. */
async function learnSelf(project: string): Promise<() => string | null> {
  const { self } = await openForge(forgeOptions(data, project));
  let known: string | null = null;
  let asking = false;
  const ask = () => {
    if (asking || known !== null) return;
    asking = true;
    // What it says of a failure is said again by the tasks, which need it.
    void self()
      .then(({ id }) => {
        known = id;
      })
      .catch(() => {})
      .finally(() => {
        asking = false;
      });
  };
  ask();
  return () => {
    ask();
    return known;
  };
}

const receivers = new Map<string, GithubReceiver>();
for (const project of data.projects) {
  receivers.set(project, {
    take: createInbox(tracing.port('db', database), project, tracing),
    // GitLab's deliveries are read without it.
    self: forge.kind === 'github' ? await learnSelf(project) : () => null,
  });
}
const app = createApp({
  receivers,
  secrets:
    forge.kind === 'gitlab'
      ? { signing: forge.signingToken.split(' ').filter(Boolean), token: forge.webhookSecret }
      : null,
  bucketToken: data.bucketToken ?? null,
  metrics,
  tracing,
  now: () => Date.now(),
  onError,
  forward,
});
if (forge.kind === 'github') {
  const { auth, url, webhookSecret: secret } = forge;
  await mountGithub(app, { receivers, metrics, tracing, auth, url, secret, onError });
}

/** Lets nobody new in, and answers what is under way. */
async function endDoor(): Promise<void> {
  // A connection whose answer is given stays open for more, and whoever does not end a request would hold everything up.
  const sweep = setInterval(() => app.server.closeIdleConnections(), 50);
  const cut = setTimeout(() => app.server.closeAllConnections(), patience);
  await app.close().finally(() => {
    clearInterval(sweep);
    clearTimeout(cut);
  });
}

port.on('message', (message: ToReception) => {
  if (message.kind === 'answer') {
    waiting.get(message.id)?.(message.answer);
    waiting.delete(message.id);
    return;
  }
  void endDoor()
    .then(() => database.close())
    .then(() => tracing.close())
    .catch((error: unknown) => onError(error))
    // Ends this thread alone, and with it a question that the forge has not answered.
    .then(() => process.exit());
});
await app.listen({ host: data.host, port: data.port });
tell({ kind: 'listening', port: (app.server.address() as AddressInfo).port });
