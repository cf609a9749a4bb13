import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Digest } from '../core/digest.ts';
import type { Route, RouteVersion } from './gateway-state.ts';
import type { RouteState, VersionCounts } from './gateway-types.ts';
import { Instance } from './instance.ts';
import { pickWeighted } from './weighted.ts';

/** A version that is wanted, and its processes. */
export interface RunningVersion {
  spec: RouteVersion;
  counts: VersionCounts;
  instances: Instance[];
}

interface Version extends RunningVersion {
  crashes: { count: number; last: string | null };
  /** Crashes in a row, none of them of a process that had run steadily; decides how long to wait before the next start. */
  streak: number;
  restart: NodeJS.Timeout | null;
}

interface RunningRoute {
  model: string;
  environment: string;
  stable: Digest | null;
  versions: Version[];
  leaving: Set<Instance>;
  credits: Map<Version, number>;
}

/** What {@link Supervisor.pick} hands out. */
export interface Picked {
  version: RunningVersion;
  instance: Instance;
}

/** A process that lived longer than this, in milliseconds, ends a row of crashes. */
const steadyAfter = 10_000;

/** How the processes are started. */
export interface SupervisorOptions {
  program: string;
  /** The gateway's folder; logs and scoring records go below it. */
  folder: string;
  startTimeout: number;
  log(line: string): void;
}

/** Keeps the processes of all routes as they are wanted: starts, restarts after crashes with growing pauses, drains. */
export class Supervisor {
  /** Rises with every change of anything {@link state} shows, counts excepted. */
  revision = 1;
  readonly #options: SupervisorOptions;
  readonly #routes = new Map<string, RunningRoute>();
  readonly #waiting = new Set<() => void>();
  #isStopping = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** Makes a route what is wanted; an absent or empty one goes. Returns at once, `state` tells how far it is. */
  want(model: string, environment: string, wanted: Route): void {
    const key = `${environment}/${model}`;
    const route: RunningRoute = this.#routes.get(key) ?? {
      model,
      environment,
      stable: null,
      versions: [],
      leaving: new Set(),
      credits: new Map(),
    };
    this.#routes.set(key, route);
    route.stable = wanted.stable;
    const before = route.versions;
    route.versions = wanted.versions.map((spec) => {
      const known = before.find((version) => version.spec.candidate === spec.candidate);
      if (known) return Object.assign(known, { spec });
      const counts = { requests: 0, failures: 0, latency: 0 };
      return { spec, counts, instances: [], crashes: { count: 0, last: null }, streak: 0, restart: null };
    });
    for (const version of before.filter((one) => !route.versions.includes(one))) {
      if (version.restart) clearTimeout(version.restart);
      route.credits.delete(version);
      for (const instance of [...version.instances]) this.#retire(route, version, instance);
    }
    for (const version of route.versions) this.#fill(route, version);
    this.#changed();
  }

  #fill(route: RunningRoute, version: Version): void {
    const { replicas } = version.spec;
    while (version.instances.length > replicas) this.#retire(route, version, version.instances.at(-1)!);
    if (version.restart || this.#isStopping) return;
    while (version.instances.length < replicas) this.#start(route, version);
  }

  #start(route: RunningRoute, version: Version): void {
    const { spec } = version;
    const id = `${route.environment}-${route.model}-v${spec.version}-${randomBytes(4).toString('hex')}`;
    const { folder, program, startTimeout } = this.#options;
    const scores = join(folder, 'scores', route.environment, route.model, `${id}.jsonl`);
    const instance = new Instance({
      id,
      program,
      startTimeout,
      log: join(folder, 'logs', `${id}.log`),
      args: [
        ...['--package', spec.folder, '--digest', spec.package, '--candidate', spec.candidate],
        ...['--version', String(spec.version), '--host', '127.0.0.1', '--port', '0', '--scores', scores],
      ],
      onChange: () => this.#changed(),
      onGone: (reason) => {
        route.leaving.delete(instance);
        version.instances = version.instances.filter((one) => one !== instance);
        if (reason !== null) {
          if (instance.readyFor() > steadyAfter) version.streak = 0;
          this.#crashed(route, version, reason);
        }
        this.#forgetEmpty(route);
        this.#changed();
      },
    });
    version.instances.push(instance);
  }

  #crashed(route: RunningRoute, version: Version, reason: string): void {
    version.crashes = { count: version.crashes.count + 1, last: reason };
    this.#options.log(
      `${route.environment}/${route.model} version ${version.spec.version} crashed: ${reason}`,
    );
    if (!route.versions.includes(version) || this.#isStopping || version.restart) return;
    // The first one comes back at once: one crash is an accident, a row of them is a bad package.
    const pause = version.streak === 0 ? 0 : Math.min(10_000, 200 * 2 ** (version.streak - 1));
    version.streak++;
    version.restart = setTimeout(() => {
      version.restart = null;
      if (route.versions.includes(version)) this.#fill(route, version);
    }, pause);
  }

  #retire(route: RunningRoute, version: Version, instance: Instance): void {
    version.instances = version.instances.filter((one) => one !== instance);
    route.leaving.add(instance);
    instance.drain();
  }

  #forgetEmpty(route: RunningRoute): void {
    if (route.versions.length === 0 && route.leaving.size === 0) {
      this.#routes.delete(`${route.environment}/${route.model}`);
    }
  }

  /**
   * A ready process for a request to a model, by the weights of the versions (or of the one version named), the least
   * busy process first. `except` are processes that just failed this request. Null when there is none now.
   */
  pick(
    environment: string,
    model: string,
    version: string | null,
    except: ReadonlySet<Instance>,
  ): Picked | null {
    const route = this.#routes.get(`${environment}/${model}`);
    if (!route) return null;
    const usable = (one: Version) =>
      one.instances.filter((instance) => instance.status === 'ready' && !except.has(instance));
    const ready = route.versions.filter(
      (one) => usable(one).length > 0 && (version === null || String(one.spec.version) === version),
    );
    const chosen =
      version === null ? pickWeighted(ready, (one) => one.spec.weight, route.credits) : (ready[0] ?? null);
    if (!chosen) return null;
    const instance = usable(chosen).reduce((best, one) => (one.inFlight < best.inFlight ? one : best));
    return { version: chosen, instance };
  }

  /** Whether a model (and version) is wanted in an environment, ready or not. */
  knows(environment: string, model: string, version: string | null): boolean {
    const route = this.#routes.get(`${environment}/${model}`);
    return route?.versions.some((one) => version === null || String(one.spec.version) === version) ?? false;
  }

  /** The models of an environment, in order of their names. */
  models(environment: string): { model: string; isReady: boolean }[] {
    return [...this.#routes.values()]
      .filter((route) => route.environment === environment && route.versions.length > 0)
      .map((route) => ({
        model: route.model,
        isReady: route.versions.some(
          (version) => version.spec.weight > 0 && version.instances.some((one) => one.status === 'ready'),
        ),
      }))
      .sort((a, b) => (a.model < b.model ? -1 : 1));
  }

  /** The processes that answer, with what they serve. */
  ready(): { route: { model: string; environment: string }; instance: Instance }[] {
    return [...this.#routes.values()].flatMap((route) =>
      route.versions.flatMap((version) =>
        version.instances
          .filter((instance) => instance.status === 'ready')
          .map((instance) => ({ route, instance })),
      ),
    );
  }

  /** Everything as it is. */
  state(): RouteState[] {
    return [...this.#routes.values()].map((route) => ({
      model: route.model,
      environment: route.environment,
      stable: route.stable,
      leaving: route.leaving.size,
      versions: route.versions.map(({ spec, counts, crashes, instances }) => ({
        ...spec,
        counts: { ...counts },
        crashes: { ...crashes },
        instances: instances.map(({ id, pid, port, status }) => ({ id, pid, port, status })),
      })),
    }));
  }

  /** Resolves at the next change, or after `milliseconds`. */
  changed(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      this.#waiting.add(done);
    });
  }

  #changed(): void {
    this.revision++;
    for (const wake of [...this.#waiting]) wake();
  }

  /** Drains and stops every process; resolves when all are gone. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const { model, environment } of [...this.#routes.values()]) {
      this.want(model, environment, { stable: null, versions: [] });
    }
    for (const route of [...this.#routes.values()]) this.#forgetEmpty(route);
    while (this.#routes.size > 0) await this.changed(1_000);
  }
}
