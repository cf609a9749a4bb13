import { join } from 'node:path';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { withFolderLock } from '../exec/folder-lock.ts';
import { packageRoot } from '../exec/root.ts';
import { readState } from '../model/encoder.ts';
import { type GatewayClient, openGatewayClient } from '../serve/gateway-client.ts';
import { defaultEnvironment } from '../serve/gateway-path.ts';
import type { RouteVersion } from '../serve/gateway-state.ts';
import type { GatewayState, RouteState, VersionState } from '../serve/gateway-types.ts';
import { readPackageManifest } from '../serve/package.ts';
import { type SmokeItems, smoke, smokeItems } from '../serve/smoke.ts';
import type { Signature } from '../serve/types.ts';
import { installPackage } from './install.ts';
import type { Plan, Progress, Target } from './types.ts';

/** The local target: a {@link Target} on this machine that can be stopped. */
export interface LocalTarget extends Target {
  /** Stops the gateway and every server of the folder, requests in flight finished. What was deployed comes back with the next `apply`. */
  stop(): Promise<void>;
}

/** Where and how a local target runs. */
export interface LocalOptions {
  /** Owned by this target; made with mode 0700. */
  folder: string;
  /** Address and port people's requests come to; the port is chosen at the first start and kept. */
  host?: string;
  port?: number;
  /** The bundled `serve/gateway-main.js`, when it is not the one of this package. */
  program?: string;
  /**
   * How long each traffic step is watched: until the new version has had `requests` requests, at most `milliseconds`.
   * An error rate is judged on what came.
   */
  observe?: { requests: number; milliseconds: number };
}

/**
 * Opens the target `local`: server processes of this machine behind one gateway process, which outlives the one that
 * deploys and is started when needed.
 *
 * `apply` starts the new version beside the old one, checks its answers, moves the traffic step by step, and ends with
 * the old one drained; no request fails meanwhile. Where it stands is the gateway's state alone, so calling it again
 * after a kill, with the same plan, goes on. An aborted `signal` leaves things as they are and throws UserError
 * interrupted. One `apply` per model and environment runs at a time; another one waits.
 */
export function openLocalTarget(options: LocalOptions): LocalTarget {
  const { folder, host = '127.0.0.1', port = 0, observe = { requests: 20, milliseconds: 2_000 } } = options;
  const program = options.program ?? join(packageRoot(), 'dist', 'serve', 'gateway-main.js');
  const gateway = openGatewayClient({ folder, program, host, port });
  return {
    async live(model, environment) {
      const state = await gateway.state();
      const route = state && routeOf(state, model, environment);
      if (!route?.stable) return null;
      const isReady = route.versions.some((one) => one.candidate === route.stable && readyOf(one) > 0);
      return isReady ? { candidate: route.stable, endpoint: endpointOf(state!, environment) } : null;
    },
    async *apply(plan, packageFolder, signal) {
      await gateway.ensure();
      // Held over all steps: the lock notices a killed holder, so that a second run can go on at once.
      const lock = join(folder, `apply-${plan.environment}-${plan.model}.lock`);
      const held = await holdLock(lock);
      try {
        const installed = await installPackage(folder, plan.package, packageFolder);
        yield* rollOut({ gateway, plan, folder: installed, observe, signal });
      } finally {
        await held.release();
      }
    },
    stop: () => gateway.stop(),
  };
}

interface RollOut {
  gateway: GatewayClient;
  plan: Plan;
  folder: string;
  observe: { requests: number; milliseconds: number };
  signal: AbortSignal;
}

async function* rollOut(work: RollOut): AsyncIterable<Progress> {
  const { gateway, plan, folder, signal } = work;
  const { signature } = await readPackageManifest(folder);
  const items = smokeItems(signature, (await readState(folder))?.encode ?? null);
  const fresh: Omit<RouteVersion, 'weight'> = {
    candidate: plan.to,
    package: plan.package,
    folder,
    version: plan.version,
    replicas: plan.replicas,
  };
  let { state, route } = await look(work);
  const endpoint = endpointOf(state, plan.environment);
  // What is stable stays the baseline; anything else but the new version is left over from a deployment that lost.
  const before = route?.stable ?? null;
  const old = before === null || before === plan.to ? null : version(route, before);
  const now = route?.versions.find((one) => one.candidate === plan.to) ?? null;
  const put = (weight: number) =>
    gateway.want(plan.model, plan.environment, {
      stable: before,
      versions: [...(old ? [bare(old, 100 - weight)] : []), { ...fresh, weight: old ? weight : 100 }],
    });

  // A first version gets its requests as soon as it answers: before that there is nobody else to answer them.
  let reached = before === plan.to ? 100 : old ? (now?.weight ?? 0) : 0;
  const crashes = now?.crashes.count ?? 0;
  await put(reached);
  yield { kind: 'step', text: `starting ${plan.replicas} of version ${plan.version}`, traffic: reached };

  const problem = (await untilReady(work, crashes)) ?? (await smokeAll(work, signature, items));
  if (problem) {
    yield await restore(work, before, old, problem, endpoint);
    return;
  }
  yield {
    kind: 'step',
    text: `version ${plan.version} answers smoke requests as its signature says`,
    traffic: reached,
  };

  for (const share of old ? plan.traffic.filter((step) => step >= reached) : []) {
    ({ state, route } = await look(work));
    const since = version(route, plan.to);
    await put(share);
    reached = share;
    yield { kind: 'step', text: `${share} % of the requests go to version ${plan.version}`, traffic: share };
    const refused = (await watch(work, since)) ?? (await smokeAll(work, signature, items));
    if (refused) {
      yield await restore(work, before, old, refused, endpoint);
      return;
    }
  }

  await gateway.want(plan.model, plan.environment, {
    stable: plan.to,
    versions: [{ ...fresh, weight: 100 }],
  });
  yield {
    kind: 'step',
    text: old ? `draining version ${old.version}` : `100 % of the requests go to version ${plan.version}`,
    traffic: 100,
  };
  for (;;) {
    ({ state, route } = await look(work));
    if ((route?.leaving ?? 0) === 0 && readyOf(version(route, plan.to)) >= plan.replicas) break;
    await changed(work, state);
  }
  signal.throwIfAborted();
  yield { kind: 'ready', endpoint };
}

/** Waits until every replica of the new version answers; says why when one crashes before. */
async function untilReady(work: RollOut, crashesBefore: number): Promise<string | null> {
  for (;;) {
    const { state, route } = await look(work);
    const fresh = version(route, work.plan.to);
    if (readyOf(fresh) >= work.plan.replicas) return null;
    if (fresh && fresh.crashes.count > crashesBefore) {
      return `version ${work.plan.version} does not start: ${fresh.crashes.last}`;
    }
    await changed(work, state);
  }
}

async function smokeAll(
  work: RollOut,
  signature: Signature,
  items: SmokeItems | null,
): Promise<string | null> {
  const { route } = await look(work);
  for (const instance of version(route, work.plan.to)?.instances ?? []) {
    if (instance.port === null) continue;
    const problem = await smoke(instance.port, work.plan.model, signature, items);
    if (problem) return `version ${work.plan.version} fails a smoke request: ${problem}`;
  }
  return null;
}

/** Watches one traffic step: crashes and the error rate of the new version since it began. Says why it must not go on. */
async function watch(work: RollOut, since: VersionState | null): Promise<string | null> {
  const { plan, observe } = work;
  const deadline = performance.now() + observe.milliseconds;
  for (;;) {
    const { state, route } = await look(work);
    const fresh = version(route, plan.to);
    if (!fresh) return `version ${plan.version} was taken away by somebody else`;
    // A gateway that was restarted meanwhile counts from zero again.
    const from = since && since.counts.requests <= fresh.counts.requests ? since : null;
    const requests = fresh.counts.requests - (from?.counts.requests ?? 0);
    const failures = fresh.counts.failures - (from?.counts.failures ?? 0);
    const left = deadline - performance.now();
    if (requests >= observe.requests || left <= 0) {
      const rate = requests === 0 ? 0 : failures / requests;
      if (rate > plan.maxErrorRate) {
        return `version ${plan.version} failed ${failures} of ${requests} requests; the limit is ${plan.maxErrorRate * 100} %`;
      }
      if (fresh.crashes.count > (since?.crashes.count ?? 0)) {
        return `version ${plan.version} crashed while it was watched: ${fresh.crashes.last}`;
      }
      return null;
    }
    // Counts alone are no change of the state, so this looks again after a short while too.
    await changed(work, state, Math.min(left, 50));
  }
}

/** Gives all requests back to what was live before and takes the new version away. */
async function restore(
  { gateway, plan, signal }: RollOut,
  stable: Digest | null,
  old: VersionState | null,
  reason: string,
  endpoint: string,
): Promise<Progress> {
  if (stable === plan.to)
    throw new UserError('deploy-failed', `${reason}; it is the version that was live before`);
  await gateway.want(plan.model, plan.environment, {
    stable: old?.candidate ?? null,
    versions: old ? [bare(old, 100)] : [],
  });
  for (let state = await alive(gateway); ; ) {
    const route = routeOf(state, plan.model, plan.environment);
    const back = old === null || readyOf(version(route, old.candidate)) > 0;
    if (back && (route?.leaving ?? 0) === 0) break;
    if (signal.aborted) throw interrupted();
    state = await alive(gateway, state.revision);
  }
  return { kind: 'restored', reason, endpoint: old ? endpoint : null };
}

async function look({
  gateway,
  plan,
  signal,
}: RollOut): Promise<{ state: GatewayState; route: RouteState | null }> {
  if (signal.aborted) throw interrupted();
  const state = await alive(gateway);
  return { state, route: routeOf(state, plan.model, plan.environment) };
}

async function changed({ gateway }: RollOut, state: GatewayState, milliseconds = 1_000): Promise<void> {
  await alive(gateway, state.revision, milliseconds);
}

async function alive(gateway: GatewayClient, after?: number, milliseconds = 1_000): Promise<GatewayState> {
  // A gateway that was killed meanwhile comes back with the routes it had.
  return (await gateway.state(after, milliseconds)) ?? (await gateway.ensure());
}

function interrupted(): UserError {
  return new UserError('interrupted', 'the deployment was stopped on its way; what answers keeps answering');
}

function routeOf(state: GatewayState, model: string, environment: string): RouteState | null {
  return state.routes.find((one) => one.model === model && one.environment === environment) ?? null;
}

function version(route: RouteState | null, candidate: Digest): VersionState | null {
  return route?.versions.find((one) => one.candidate === candidate) ?? null;
}

function readyOf(state: VersionState | null): number {
  return state?.instances.filter((one) => one.status === 'ready').length ?? 0;
}

function bare(state: VersionState, weight: number): RouteVersion {
  const { candidate, package: packaged, folder, version: number, replicas } = state;
  return { candidate, package: packaged, folder, version: number, weight, replicas };
}

function endpointOf({ host, port }: GatewayState, environment: string): string {
  const shownHost = host === '0.0.0.0' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host;
  const root = `http://${shownHost}:${port}`;
  return environment === defaultEnvironment ? root : `${root}/${environment}`;
}

/** Takes a folder lock for as long as its holder likes. */
async function holdLock(path: string): Promise<{ release(): Promise<void> }> {
  let free = (): void => {};
  const freed = new Promise<void>((resolve) => {
    free = resolve;
  });
  let lock: Promise<void> = Promise.resolve();
  await new Promise<void>((resolve, reject) => {
    lock = withFolderLock(path, () => {
      resolve();
      return freed;
    });
    lock.catch(reject);
  });
  return {
    release() {
      free();
      return lock;
    },
  };
}
