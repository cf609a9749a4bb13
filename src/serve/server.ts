import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { defaultBodyLimit, parseJson, readBody, requestIdOf, send, sendJson } from './http.ts';
import { inferResponse, modelMetadata, readInferRequest, serverMetadata } from './inference-v2.ts';
import { openServerMetrics } from './metrics.ts';
import { RequestError } from './request-error.ts';
import { type ScoringLog, scoredTensor } from './scoring.ts';
import { readSeldonFeedback, readSeldonRequest, seldonError, seldonResponse } from './seldon-v1.ts';
import type { Servable, Tensor } from './types.ts';

/** A running model server. */
export interface ModelServer {
  readonly port: number;
  /** Finishes what is being answered, refuses the rest with 503, then stops listening. */
  close(): Promise<void>;
}

/** Which model answers, and to whom that is told. */
export interface ServerOptions {
  servable: Servable;
  /** Candidate this package belongs to, for metrics; empty when it has none. */
  candidate: string;
  host: string;
  /** 0 for any free one. */
  port: number;
  /** Where answers and feedback are recorded; null for nowhere. */
  scores: ScoringLog | null;
  /** Bytes. */
  bodyLimit?: number;
  /** Whether only a gateway reaches it, which lets no `x-cdl-…` header of a client pass: then smoke requests go unrecorded. */
  behindGateway?: boolean;
  /** Told of errors that are bugs (answered with 500). */
  onError?: (error: unknown) => void;
}

type Reply = { route: string; send(response: ServerResponse): void };

/**
 * Serves one model over the Open Inference Protocol v2 REST API (kserve/open-inference-protocol, inference_rest.md) and
 * the Seldon v1 one (`/api/v1.0/predictions`, `/api/v1.0/feedback`), with `/metrics` and `/healthz`.
 *
 * Every answer to an inference carries `x-request-id`, the id its scoring record has.
 */
export async function startServer(options: ServerOptions): Promise<ModelServer> {
  const { servable, scores, bodyLimit = defaultBodyLimit } = options;
  const { info } = servable;
  const { signature } = info;
  const metrics = await openServerMetrics(info, options.candidate, () =>
    scores ? scores.counts() : { written: 0, dropped: 0 },
  );
  let inFlight = 0;
  let isDraining = false;
  let onIdle: (() => void) | null = null;

  const record = (
    request: IncomingMessage,
    id: string,
    protocol: 'v2' | 'seldon',
    inputs: Tensor[],
    outputs: Tensor[],
    since: number,
  ): void => {
    if (!scores || (options.behindGateway && request.headers['x-cdl-smoke'] !== undefined)) return;
    scores.write({
      kind: 'scored',
      id,
      time: new Date().toISOString(),
      model: info.model,
      version: info.version,
      package: info.package,
      protocol,
      inputs: inputs.map(scoredTensor),
      outputs: outputs.map(scoredTensor),
      latency: performance.now() - since,
    });
  };

  const infer = async (request: IncomingMessage): Promise<object & { id: string }> => {
    if (request.headers['inference-header-content-length'] !== undefined) {
      throw new RequestError(400, 'the binary tensor extension is not spoken here; send JSON');
    }
    const body = parseJson(await readBody(request, bodyLimit));
    const since = performance.now();
    const asked = readInferRequest(body, signature);
    const id = asked.id ?? requestIdOf(request) ?? randomUUID();
    const outputs = await servable.infer(asked.inputs);
    record(request, id, 'v2', asked.inputs, outputs, since);
    return { ...inferResponse(info, { id, outputs: asked.outputs }, outputs), id };
  };

  const predictSeldon = async (request: IncomingMessage): Promise<{ id: string; body: object }> => {
    const body = parseJson(await readBody(request, bodyLimit));
    const since = performance.now();
    const asked = readSeldonRequest(body, signature);
    const puid = asked.puid ?? requestIdOf(request) ?? randomUUID();
    const outputs = await servable.infer(asked.inputs);
    record(request, puid, 'seldon', asked.inputs, outputs, since);
    return { id: puid, body: seldonResponse(info, { puid, form: asked.form }, outputs) };
  };

  const feedback = async (request: IncomingMessage): Promise<void> => {
    const told = readSeldonFeedback(parseJson(await readBody(request, bodyLimit)));
    scores?.write({
      kind: 'feedback',
      id: requestIdOf(request) ?? randomUUID(),
      time: new Date().toISOString(),
      model: info.model,
      version: info.version,
      package: info.package,
      ...told,
    });
  };

  const json = (route: string, value: unknown, headers?: Record<string, string>): Reply => ({
    route,
    send: (response) => sendJson(response, 200, value, headers),
  });

  const answer = async (request: IncomingMessage): Promise<Reply> => {
    const path = pathOf(request.url ?? '/');
    const { method } = request;
    if (path === '/api/v1.0/predictions') {
      needs(method, 'POST');
      const { id, body } = await predictSeldon(request);
      return json('seldon_predictions', body, idHeader(id));
    }
    if (path === '/api/v1.0/feedback') {
      needs(method, 'POST');
      await feedback(request);
      return json('seldon_feedback', { data: { names: [], ndarray: [] }, meta: {} });
    }
    const model = /^\/v2\/models\/([^/]+)(?:\/versions\/([^/]+))?(?:\/(infer|ready))?$/.exec(path);
    if (model) {
      known(model[1]!, model[2], info);
      if (model[3] === 'infer') {
        needs(method, 'POST');
        const body = await infer(request);
        return json('infer', body, idHeader(body.id));
      }
      needs(method, 'GET');
      if (model[3] === 'ready') {
        return isDraining ? unready('model_ready') : json('model_ready', { name: info.model, ready: true });
      }
      return json('model_metadata', modelMetadata(servable));
    }
    const fixed = fixedRoutes.get(path);
    if (!fixed) throw new RequestError(404, `there is nothing at ${path}`);
    needs(method, 'GET');
    switch (fixed) {
      case 'server_live':
        return json(fixed, { live: true });
      case 'server_ready':
        return isDraining ? unready(fixed) : json(fixed, { ready: true });
      case 'server_metadata':
        return json(fixed, serverMetadata(info.version));
      case 'metrics': {
        const text = await metrics.text();
        return { route: fixed, send: (response) => send(response, 200, metrics.contentType, text) };
      }
    }
  };

  const server = createServer({ keepAliveTimeout: 75_000 }, (request, response) => {
    const since = performance.now();
    if (isDraining && request.method === 'POST') {
      const refusal = new RequestError(503, 'this server is stopping; ask again');
      sendJson(response, 503, errorBody(request, refusal), { connection: 'close', 'retry-after': '1' });
      return;
    }
    inFlight++;
    metrics.requestStarted();
    if (isDraining) response.setHeader('connection', 'close');
    // Counted when the answer has left, or the client has: until then the request is in flight.
    let route = 'other';
    response.once('close', () => {
      inFlight--;
      metrics.requestEnded(route, response.statusCode, (performance.now() - since) / 1000);
      if (inFlight === 0) onIdle?.();
    });
    answer(request).then(
      (reply) => {
        route = reply.route;
        reply.send(response);
      },
      (error: unknown) => {
        if (error instanceof RequestError) {
          sendJson(response, error.status, errorBody(request, error), error.headers);
          return;
        }
        options.onError?.(error);
        const hidden = new RequestError(500, 'the model failed on this request; see the log of the server');
        sendJson(response, 500, errorBody(request, hidden));
      },
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    port,
    async close() {
      isDraining = true;
      if (inFlight > 0) {
        await new Promise<void>((resolve) => {
          onIdle = resolve;
        });
      }
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
      await scores?.flush();
    },
  };
}

type FixedRoute = 'server_metadata' | 'server_live' | 'server_ready' | 'metrics';

const fixedRoutes: ReadonlyMap<string, FixedRoute> = new Map([
  ['/v2', 'server_metadata'],
  ['/v2/health/live', 'server_live'],
  ['/v2/health/ready', 'server_ready'],
  ['/healthz', 'server_live'],
  ['/metrics', 'metrics'],
]);

/** The path without query and trailing slash (the specification writes `/v2/`). */
function pathOf(url: string): string {
  const path = url.split('?', 1)[0]!;
  return path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;
}

function needs(method: string | undefined, wanted: 'GET' | 'POST'): void {
  if (method === wanted || (wanted === 'GET' && method === 'HEAD')) return;
  throw new RequestError(405, `${method} is not possible here; use ${wanted}`, { allow: wanted });
}

function known(model: string, version: string | undefined, info: Servable['info']): void {
  if (decoded(model) !== info.model) {
    throw new RequestError(404, `there is no model "${decoded(model)}" here; it serves "${info.model}"`);
  }
  if (version !== undefined && decoded(version) !== info.version) {
    throw new RequestError(
      404,
      `model "${info.model}" has no version "${decoded(version)}" here; it serves "${info.version}"`,
    );
  }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function unready(route: string): Reply {
  return {
    route,
    send: (response) => sendJson(response, 503, { error: 'not ready' }, { connection: 'close' }),
  };
}

function idHeader(id: string): Record<string, string> {
  // A client's own id may hold what a header cannot.
  return /^[\w.:-]{1,128}$/.test(id) ? { 'x-request-id': id } : {};
}

function errorBody(request: IncomingMessage, error: RequestError): object {
  return request.url?.startsWith('/api/') ? seldonError(error) : { error: error.message };
}
