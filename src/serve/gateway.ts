import { rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { z } from 'zod';
import { controlSocket, prepareSocketFolder } from './control-socket.ts';
import { openGatewayMetrics } from './gateway-metrics.ts';
import { readPath } from './gateway-path.ts';
import {
  type Desired,
  prepareFolder,
  readDesired,
  reservedPrefixes,
  routeSchema,
  writeDesired,
} from './gateway-state.ts';
import type { GatewayState } from './gateway-types.ts';
import { defaultBodyLimit, parseJson, readBody, send, sendJson } from './http.ts';
import { serverMetadata } from './inference-v2.ts';
import { type Passed, passOn } from './proxy.ts';
import { badRequest, RequestError } from './request-error.ts';
import { seldonError } from './seldon-v1.ts';
import { Supervisor } from './supervisor.ts';

/** Milliseconds that requests in flight have when the gateway is told to stop. */
const stopGrace = 30_000;

/** A gateway and its server processes. */
export interface GatewayOptions {
  /** Owned by this gateway alone; made with mode 0700. */
  folder: string;
  host: string;
  /** The port of the first start (0: any free one); later starts take that of the folder. */
  port: number;
  /** The bundled `serve/main.js`. */
  program: string;
  /** Milliseconds a server process may take until it answers. */
  startTimeout: number;
  /** Milliseconds a request waits for a process to become ready. */
  hold: number;
  log(line: string): void;
  /** Called when somebody asked it to stop, after everything has. */
  onStopped(): void;
}

/** The port people's requests come to. */
export interface Gateway {
  readonly port: number;
  stop(): Promise<void>;
}

/**
 * Starts the supervisor of one machine: a stable front port for all models of the folder, processes behind it, and a
 * control API on a unix socket (`PUT /routes/<model>/<environment>`, `GET /state?after=<revision>`, `POST /stop`).
 *
 * What is wanted is on disk before a change is acknowledged, so a killed gateway comes back with the same routes on the
 * same port. Throws when the port is taken.
 */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { folder, host } = options;
  await prepareFolder(folder);
  const supervisor = new Supervisor(options);
  const metrics = await openGatewayMetrics(supervisor);
  let desired = (await readDesired(folder)) ?? null;
  let isStopping = false;
  let inFlight = 0;
  let onIdle: (() => void) | null = null;

  const front = createServer({ keepAliveTimeout: 75_000 }, (request, response) => {
    if (isStopping) {
      const error = new RequestError(503, 'this gateway is stopping');
      sendJson(response, 503, errorBody(request, error), { connection: 'close' });
      return;
    }
    inFlight++;
    response.once('close', () => {
      inFlight--;
      if (inFlight === 0) onIdle?.();
    });
    answer(request, response).catch((error: unknown) => {
      const known =
        error instanceof RequestError ? error : new RequestError(500, 'the gateway failed; see its log');
      if (known !== error)
        options.log(error instanceof Error ? (error.stack ?? error.message) : String(error));
      sendJson(response, known.status, errorBody(request, known), known.headers);
    });
  });

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const to = readPath(request.url ?? '/');
    if (to.kind === 'unknown') {
      throw new RequestError(
        404,
        'nothing here; ask /v2/models/<model>/infer, or /<environment>/v2/… for other environments than production',
      );
    }
    if (to.kind === 'own') {
      await answerOwn(to.what, to.environment, response);
      return;
    }
    const model = to.model ?? onlyModel(to.environment);
    if (!supervisor.knows(to.environment, model, to.version)) {
      const version = to.version === null ? '' : ` version ${to.version}`;
      throw new RequestError(404, `there is no model "${model}"${version} in ${to.environment}`);
    }
    const body = await readBody(request, defaultBodyLimit);
    const route = { model, environment: to.environment };
    await passOn(supervisor, request, response, {
      ...to,
      model,
      body,
      hold: options.hold,
      onTried(tried: Passed) {
        const { counts } = tried.picked.version;
        counts.requests++;
        counts.latency += tried.latency;
        if (tried.code === 0 || tried.code >= 500) counts.failures++;
        metrics.tried(route, tried);
      },
    });
  };

  const onlyModel = (environment: string): string => {
    const models = supervisor.models(environment);
    if (models.length === 1) return models[0]!.model;
    const names = models.map((one) => one.model).join(', ');
    throw new RequestError(
      404,
      models.length === 0
        ? `there is no model in ${environment}`
        : `${environment} has several models (${names}); ask /seldon/${environment}/<model>/api/v1.0/…`,
    );
  };

  const answerOwn = async (what: string, environment: string, response: ServerResponse): Promise<void> => {
    if (what === 'live') sendJson(response, 200, { live: true });
    else if (what === 'metadata') sendJson(response, 200, serverMetadata('1'));
    else if (what === 'metrics') {
      send(response, 200, 'text/plain; version=0.0.4; charset=utf-8', await metrics.text());
    } else {
      const unready = supervisor.models(environment).filter((one) => !one.isReady);
      if (unready.length === 0) sendJson(response, 200, { ready: true });
      else sendJson(response, 503, { error: `not ready: ${unready.map((one) => one.model).join(', ')}` });
    }
  };

  const state = (): GatewayState => ({
    revision: supervisor.revision,
    pid: process.pid,
    host,
    port: (front.address() as AddressInfo | null)?.port ?? desired?.port ?? 0,
    routes: supervisor.state(),
  });

  const stop = async (): Promise<void> => {
    if (isStopping) return;
    isStopping = true;
    // The front first: what it is answering still needs the processes.
    if (inFlight > 0) {
      await new Promise<void>((resolve) => {
        onIdle = resolve;
        // A client that never finishes its request must not keep the gateway.
        setTimeout(resolve, stopGrace);
      });
    }
    await supervisor.stop();
    front.close();
    front.closeAllConnections();
    control.close();
    await rm(controlSocket(folder), { force: true });
    options.onStopped();
  };

  const control = createServer((request, response) => {
    controlled(request, response).catch((error: unknown) => {
      const known = error instanceof RequestError ? error : new RequestError(500, String(error));
      sendJson(response, known.status, { error: known.message });
    });
  });

  const controlled = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(request.url ?? '/', 'http://gateway');
    const route = /^\/routes\/([^/]+)\/([^/]+)$/.exec(url.pathname);
    if (request.method === 'PUT' && route) {
      const [model, environment] = [decodeURIComponent(route[1]!), decodeURIComponent(route[2]!)];
      if (reservedPrefixes.includes(environment)) {
        throw badRequest(`an environment cannot be called "${environment}": paths begin with that word`);
      }
      const wanted = routeSchema.safeParse(parseJson(await readBody(request, defaultBodyLimit)));
      if (!wanted.success) throw badRequest(z.prettifyError(wanted.error));
      const routes = structuredClone(desired!.routes);
      routes[model] = { ...routes[model], [environment]: wanted.data };
      if (wanted.data.versions.length === 0) delete routes[model][environment];
      await save({ ...desired!, routes });
      supervisor.want(model, environment, wanted.data);
      sendJson(response, 200, state());
    } else if (request.method === 'GET' && url.pathname === '/state') {
      const after = Number(url.searchParams.get('after') ?? -1);
      if (after === supervisor.revision)
        await supervisor.changed(Number(url.searchParams.get('wait') ?? 10_000));
      sendJson(response, 200, state());
    } else if (request.method === 'POST' && url.pathname === '/stop') {
      sendJson(response, 200, state());
      await stop();
    } else throw new RequestError(404, `no ${request.method} ${url.pathname} here`);
  };

  // One writer at a time, in the order the changes came.
  let saving: Promise<void> = Promise.resolve();
  const save = (next: Desired): Promise<void> => {
    desired = next;
    saving = saving.catch(() => {}).then(() => writeDesired(folder, next));
    return saving;
  };

  await listen(front, { host, port: desired?.port ?? options.port });
  const { port } = front.address() as AddressInfo;
  if (!desired) await save({ v: 1, port, routes: {} });
  for (const [model, environments] of Object.entries(desired!.routes)) {
    for (const [environment, route] of Object.entries(environments))
      supervisor.want(model, environment, route);
  }
  // The front port is ours, so no other gateway of this folder lives and the socket is a dead one's.
  await prepareSocketFolder(folder);
  await rm(controlSocket(folder), { force: true });
  await listen(control, { path: controlSocket(folder) });
  return { port, stop };
}

function listen(server: Server, where: { host: string; port: number } | { path: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function errorBody(request: IncomingMessage, error: RequestError): object {
  return request.url?.includes('/api/v1.0/') ? seldonError(error) : { error: error.message };
}
