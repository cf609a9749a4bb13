import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import {
  createZone,
  type Database,
  describeError,
  keyId,
  openDatabase,
  openForge,
  openMirror,
  openQueue,
  openStore,
  type Queue,
  type SigningKey,
  UserError,
  type Zone,
} from '../src/index.ts';
import { createApp } from './app.ts';
import { type BotConfig, type Environment, forgeOptions, readBotConfig, type StoreConfig } from './config.ts';
import { scheduleDrift } from './drift.ts';
import { createEffects } from './effects.ts';
import { createForgetting } from './forget.ts';
import { createHealth } from './health.ts';
import { createHookKeeper, wantedHook } from './hook.ts';
import { botRedactor, discreet, startRedactor } from './mask.ts';
import { rememberChange } from './memory.ts';
import { countForge, createMetrics } from './metrics.ts';
import { mountReadiness, mountStatus } from './operations.ts';
import { currentDelivery, fromDelivery, type Origin, originOf } from './origin.ts';
import { measureQueue } from './queue-depth.ts';
import { openReception } from './reception.ts';
import { reconcile } from './reconcile.ts';
import { createBotState } from './state.ts';
import { createStatusReader } from './status.ts';
import { openTracing, untraced } from './trace.ts';
import type { BotContext, BotState, Task } from './types.ts';
import { readVersion } from './version.ts';
import { doTask, jobOf, letterOf, type QueuedTask, taskName } from './work.ts';

export { type BotConfig, type ForgeConfig, readBotConfig, type StoreConfig } from './config.ts';
export { examineForge } from './doctor.ts';
export { rebuildIndex } from './import.ts';
export { installHooks } from './install.ts';
export { tendQueue } from './queue.ts';

/** Milliseconds after which looking for what no webhook told covers every open change again. */
const wholeLookEvery = 10 * 60_000;

/** A bot that runs. */
export interface RunningBot {
  /** `http://host:port`. */
  url: string;
  /** Says something in its log. */
  warn(told: object, text: string): void;
  /** Resolves, with the reason, when the bot can no longer take deliveries in. */
  lost: Promise<Error>;
  /** Looks for what webhooks did not tell, now. */
  reconcile(): Promise<void>;
  close(): Promise<void>;
}

async function openZoneOf(name: Zone['name'], config: StoreConfig): Promise<Zone> {
  return createZone(name, await openStore(config.url, config.credentials), { manifests: 500 });
}

function readSigningKey(pem: string): SigningKey {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch (cause) {
    throw new UserError('config-invalid', 'CDL_SIGNING_KEY is not a private key in PEM', undefined, {
      cause,
    });
  }
  if (key.asymmetricKeyType !== 'ed25519') {
    throw new UserError('config-invalid', `CDL_SIGNING_KEY is ${key.asymmetricKeyType}, not Ed25519`);
  }
  return { id: keyId(key), key };
}

/**
 * Starts the bot: HTTP, queue and reconcile loop. It may be killed at any time and started again, also twice on one database.
 * `write` takes the lines of its log. Throws UserError config-invalid, forge-denied, store-denied; UpstreamError.
 */
export async function startBot(
  config: BotConfig,
  write: (line: string) => void = (line) => process.stdout.write(line),
): Promise<RunningBot> {
  const signer = readSigningKey(config.signingKey);
  const database = await openDatabase({ url: config.database, folder: join(config.folder, 'database') });
  try {
    return await startOn(database, signer, config, write);
  } catch (error) {
    await database.close();
    throw error;
  }
}

async function startOn(
  database: Database,
  signer: SigningKey,
  config: BotConfig,
  write: (line: string) => void,
): Promise<RunningBot> {
  const mask = botRedactor(config);
  let tracing = untraced;
  const log = pino(
    { level: config.log, base: null, mixin: () => originOf(tracing) },
    { write: (line: string) => write(mask(line)) },
  );
  const keys = new Map([...config.trustedKeys, [signer.id, createPublicKey(signer.key)] as const]);
  const [work, trusted] = await Promise.all([
    openZoneOf('work', config.stores.work),
    openZoneOf('trusted', config.stores.trusted),
  ]);
  const isolated = !config.stores.trusted.url.startsWith('file:');
  const metrics = createMetrics();
  const health = createHealth(new Date());
  const version = await readVersion();
  metrics.build.set({ version, node: process.versions.node }, 1);
  metrics.refresh = () => measureQueue(metrics, database, config.projects);
  tracing = await openTracing(config.traces ?? null, { version, mask });
  for (const project of config.projects) metrics.reconciled.set({ project }, 0);
  const contexts = new Map<string, BotContext>();
  const options = { database, isolated, metrics, log, mask, notify: config.notify ?? null };
  const handlers: Record<string, (payload: unknown) => Promise<void>> = {};
  let queue: Queue | null = null;

  const enqueueFor = (project: string) => async (task: Task) => {
    await tracing.run('queue add', { kind: 'producer' }, async () => {
      const [trace, delivery] = [tracing.parent(), currentDelivery()];
      const payload = { task, ...(trace !== null && { trace }), ...(delivery !== null && { delivery }) };
      await queue!.add(taskName(project), payload, jobOf(project, task));
    });
  };
  for (const project of config.projects) {
    const forge = discreet(await openForge(forgeOptions(config, project)), mask);
    const git = await openMirror({
      folder: join(config.folder, 'mirrors', encodeURIComponent(project)),
      access: forge.git(),
      path: config.path,
    });
    const mirror = tracing.port('git', discreet(git, mask));
    const state = createBotState(tracing.port('db', database), project);
    const zones = {
      work: tracing.port('store', work, { 'cdl.zone': 'work' }),
      trusted: tracing.port('store', trusted, { 'cdl.zone': 'trusted' }),
    };
    const base = { forge, mirror, ...zones, state, keys, signer, now: () => new Date() };
    const contextOn = (memory: BotState): BotContext => {
      const known = { ...base, state: memory };
      const effects = createEffects(known, enqueueFor(project), {
        report: (changed) => metrics.reports.inc({ outcome: changed ? 'written' : 'same' }),
        decision: (kind) => metrics.decisions.inc({ kind }),
      });
      return { ...known, effects };
    };
    contexts.set(project, contextOn(state));
    handlers[taskName(project)] = (payload) => {
      const { task, trace = null, delivery = null } = payload as QueuedTask;
      const attributes = { 'cdl.project': project, ...('change' in task && { 'cdl.change': task.change }) };
      const context = contextOn(
        'change' in task ? rememberChange(state, task.change, letterOf(project, task)) : state,
      );
      return fromDelivery(delivery, () =>
        tracing.run(`task ${task.kind}`, { kind: 'consumer', parent: trace, attributes }, () =>
          doTask(project, context, task, options),
        ),
      );
    };
  }

  queue = await openQueue(database, handlers, {
    concurrency: 4,
    onFailure: (name, error) => log.debug({ name }, String(error)),
  });

  const { forge } = config;
  const onError = (error: unknown, about: Origin = {}) => log.error(about, describeError(error).message);
  const pages = createApp({ receivers: new Map(), secrets: null, metrics, now: () => Date.now(), onError });
  mountReadiness(pages, { health, database, queue });
  if (config.statusToken) {
    const sources = { version, health, database, contexts, forge, mask };
    const read = createStatusReader({ ...sources, now: () => new Date() });
    const secure = config.publicUrl?.startsWith('https:') ?? false;
    mountStatus(pages, { token: config.statusToken, secure, now: () => Date.now(), read });
  }
  const reception = await openReception(
    {
      forge,
      projects: config.projects,
      ca: config.ca,
      proxy: config.proxy ?? null,
      host: config.host,
      port: config.port,
      bucketToken: config.bucketToken ?? null,
      database: database.url,
      traces: config.traces ?? null,
      version,
    },
    pages,
    { metrics, onError },
  );
  const url = `http://${config.host}:${reception.port}`;

  const stopCounting = countForge(metrics);
  const running = queue.run();
  running.catch((error: unknown) => log.fatal(describeError(error).message));
  const keepers = [...contexts].map(([project, context]) => {
    const base = config.publicUrl === 'auto' ? url : config.publicUrl;
    if (base === null) return async () => {};
    const wanted = wantedHook(forge, base);
    const repairs = metrics.hookRepairs;
    const keep = createHookKeeper({ project, forge: context.forge, wanted, repairs, log });
    return async () => {
      health.hooks.set(project, await keep());
    };
  });
  const forget = createForgetting(database);
  let wholeLook = Number.NEGATIVE_INFINITY;
  const look = async (whole = performance.now() - wholeLook >= wholeLookEvery) => {
    const began = performance.now();
    let isFine = true;
    await forget(new Date()).catch((error: unknown) =>
      log.warn(`old deliveries stay: ${describeError(error).message}`),
    );
    for (const keep of keepers) await keep();
    for (const [project, context] of contexts) {
      if (health.isStopping) return;
      const problem = await tracing
        .run('reconcile', { kind: 'internal', attributes: { 'cdl.project': project } }, () =>
          reconcile(context, whole),
        )
        .then(() => scheduleDrift(context, config.driftHours))
        .then(() => null)
        .catch((error: unknown) => describeError(error).message);
      isFine &&= problem === null;
      if (problem !== null) log.warn({ project }, `reconcile: ${problem}`);
      else metrics.reconciled.set({ project }, Date.now() / 1000);
      health.looks.set(project, {
        ended: new Date().toISOString(),
        problem: problem === null ? null : mask(problem),
      });
    }
    if (whole && isFine) wholeLook = began;
  };
  // Whoever started the bot may count on the webhook.
  for (const keep of keepers) await keep();
  let looking = look();
  const timer = setInterval(() => {
    looking = looking.then(() => look());
  }, config.reconcileSeconds * 1000);
  log.info({ url, projects: config.projects, key: signer.id }, 'the bot listens');
  return {
    url,
    lost: reception.lost,
    warn: (told, text) => log.warn(told, text),
    async reconcile() {
      looking = looking.then(() => look(true));
      await looking;
    },
    async close() {
      // Not ready any more, but deliveries are taken in to the end: others find them in the queue.
      health.isStopping = true;
      clearInterval(timer);
      await looking;
      await queue.stop();
      await running.catch(() => {});
      await reception.close();
      await pages.close();
      stopCounting();
      await tracing.close();
      await database.close();
    },
  };
}

/** Says in the log what is wrong between the bot and its forge, when it starts; it works as well as it can all the same. */
async function tellProblems(env: Environment, warn: (told: object, text: string) => void): Promise<void> {
  const { examineForge } = await import('./doctor.ts');
  // Its own mirrors show by themselves whether git works.
  for (const { project, findings } of await examineForge(env, { withGit: false })) {
    for (const { name, state, text } of findings) {
      if (state === 'problem') warn({ project, name }, `${text} (cdl doctor --forge tells more)`);
    }
  }
}

/** Runs the bot until it is told to stop (SIGTERM, SIGINT); the exit code. */
export async function main(env: Environment): Promise<number> {
  try {
    const bot = await startBot(await readBotConfig(env));
    void tellProblems(env, bot.warn).catch((error: unknown) => bot.warn({}, describeError(error).message));
    // Linux: of this thread alone (setpriority(2)), so that the one that answers the forge comes first.
    if (process.platform === 'linux') setPriority(10);
    const told = new Promise<null>((resolve) => {
      for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(null));
    });
    const lost = await Promise.race([told, bot.lost]);
    // Whoever runs the bot starts it again.
    if (lost) throw lost;
    await bot.close();
    return 0;
  } catch (error) {
    const { exit, message, hint } = describeError(error);
    const mask = startRedactor(env);
    process.stderr.write(`${mask(message)}\n${hint ? `→ ${hint}\n` : ''}`);
    return exit;
  }
}
