import { mkdir } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import multipart from '@fastify/multipart';
import fastify, { type FastifyReply, type FastifyRequest } from 'fastify';
import { findJobToken, findToken } from './access.ts';
import { type Part, parseBody, parseQuery } from './body.ts';
import type { CiEngine } from './ci-port.ts';
import { GitError, withTemporaryFolder } from './git.ts';
import { matchGit, serveGit } from './git-routes.ts';
import generated from './gitlab-api.generated.json' with { type: 'json' };
import type { HookDelivery } from './hook-types.ts';
import { openHooks } from './hooks.ts';
import { type GitlabApi, unknownParameters } from './openapi.ts';
import { createRecorder, type RecordedRequest, type Recorder } from './record.ts';
import { ApiError, type Call, type Forge, type Reply, type Route } from './route.ts';
import { forgeRoutes } from './routes.ts';
import { createWorld, type Job, type Project, type Token, type User, type World } from './state.ts';

/** Pages for people, tried for every GET that is neither API nor git. False = not one of its pages. */
export type Pages = (request: IncomingMessage, response: ServerResponse, path: string) => Promise<boolean>;

/** How to start a sandbox. `path` is a relative URL ("/gitlab"), `port` 0 any free one. */
export interface SandboxOptions {
  folder: string;
  port?: number;
  path?: string;
  /** The CI half; without one every pipeline is refused. */
  engine?: (world: World) => CiEngine;
  pages?: (sandbox: Forge) => Pages;
  /** Fills the world; called once the server listens, so that `world.url` is known. */
  seed?: (sandbox: Sandbox) => Promise<void>;
}

/** A running sandbox. */
export interface Sandbox extends Recorder {
  /** `http://127.0.0.1:PORT` and the relative URL. */
  url: string;
  world: World;
  forge: Forge;
  hooks: HookDelivery;
  /** What went wrong in work that nobody waited for (a pipeline after a push). */
  problems: readonly unknown[];
  /** Resolves when pushes are followed up and webhooks delivered. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

/** An engine for a forge without CI: it refuses every pipeline. */
function noEngine(): CiEngine {
  const refuse = (): never => {
    throw new ApiError(403, '403 Forbidden');
  };
  return {
    createPipeline: async () => ({ kind: 'refused', messages: ['Pipelines are disabled!'] }),
    statusSet: () => {},
    cancelPipeline: async () => refuse(),
    retryPipeline: async () => refuse(),
    cancelJob: async () => refuse(),
    retryJob: async () => refuse(),
    playJob: async () => refuse(),
    routes: [],
    close: async () => {},
  };
}

const api: GitlabApi = generated;

/** Starts the forge on 127.0.0.1. */
export async function startSandbox(options: SandboxOptions): Promise<Sandbox> {
  await mkdir(options.folder, { recursive: true });
  const world = createWorld(options.folder);
  const recorder = createRecorder();
  const engine = (options.engine ?? noEngine)(world);
  const hooks = openHooks(world);
  const problems: unknown[] = [];
  const queues = new Map<number, Promise<unknown>>();
  const forge: Forge = {
    world,
    engine,
    hooks,
    later(project: Project, work) {
      const before = queues.get(project.id) ?? Promise.resolve();
      queues.set(
        project.id,
        before.then(work).catch((error: unknown) => problems.push(error)),
      );
    },
  };
  const prefix = (options.path ?? '').replace(/\/+$/, '');
  const server = fastify({
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 2000 },
    bodyLimit: Number.MAX_SAFE_INTEGER,
  });
  await server.register(multipart, {
    limits: { fileSize: Number.POSITIVE_INFINITY, fieldSize: 16 * 1024 * 1024 },
  });
  server.removeContentTypeParser(['application/json', 'text/plain']);
  // Bodies are read by the call itself, so that nothing is refused or lost before it is recorded.
  server.addContentTypeParser('*', (_request, _payload, done) => done(null));
  for (const route of [...forgeRoutes, ...engine.routes]) {
    server.route({
      method: route.method,
      url: `${prefix}/api/v4${route.path}`,
      handler: (request, reply) => answer(forge, recorder, route, request, reply),
    });
  }
  const pages = options.pages?.(forge);
  server.setNotFoundHandler(async (request, reply) => {
    const url = new URL(request.raw.url ?? '/', 'http://127.0.0.1');
    const path = url.pathname.startsWith(prefix) ? url.pathname.slice(prefix.length) : '';
    if (path.startsWith('/api/')) return notInTable(recorder, request, reply, path);
    const asked = matchGit(decodeURI(path));
    if (asked) {
      reply.hijack();
      try {
        await serveGit(forge, asked, url.searchParams, request.raw, reply.raw);
      } catch (error) {
        problems.push(error);
        reply.raw.destroy();
      }
      return;
    }
    if (pages && (request.method === 'GET' || request.method === 'HEAD')) {
      reply.hijack();
      try {
        if (await pages(request.raw, reply.raw, path)) return;
        reply.raw.writeHead(404, { 'content-type': 'text/plain' });
        reply.raw.end('404 Not found\n');
      } catch (error) {
        problems.push(error);
        reply.raw.destroy();
      }
      return;
    }
    return reply.code(404).type('text/plain').send('404 Not found\n');
  });
  const address = await server.listen({ host: '127.0.0.1', port: options.port ?? 0 });
  world.url = `${address}${prefix}`;
  const settled = async () => {
    await Promise.all(queues.values());
    await hooks.idle();
  };
  const sandbox: Sandbox = {
    ...recorder,
    url: world.url,
    world,
    forge,
    hooks,
    problems,
    settled,
    async close() {
      await engine.close();
      await Promise.all(queues.values());
      await hooks.close();
      await server.close();
    },
  };
  await options.seed?.(sandbox);
  return sandbox;
}

function notInTable(recorder: Recorder, request: FastifyRequest, reply: FastifyReply, path: string) {
  const entry: RecordedRequest = {
    method: request.method,
    route: null,
    path,
    query: Object.keys(parseQuery(request.raw.url ?? '/')),
    body: [],
    status: 501,
    user: null,
  };
  recorder.request(entry);
  recorder.violation(entry, 'not in the route table');
  return reply.code(501).send({ error: `the sandbox does not answer ${request.method} ${path}` });
}

interface Caller {
  user: User | null;
  token: Token | null;
  job: Job | null;
}

/** Who calls: PRIVATE-TOKEN, Bearer, or JOB-TOKEN where the route takes it (doc: api/rest/authentication). */
function authenticate(world: World, route: Route, request: IncomingMessage): Caller {
  const nobody: Caller = { user: null, token: null, job: null };
  const { 'private-token': secret, 'job-token': jobSecret, authorization } = request.headers;
  const bearer = /^Bearer (.+)$/i.exec(authorization ?? '')?.[1];
  const given = typeof secret === 'string' ? secret : bearer;
  if (given !== undefined) {
    const found = findToken(world, given);
    if (found) return { ...found, job: null };
    if (route.auth === 'none') return nobody;
    throw new ApiError(401, '401 Unauthorized');
  }
  if (typeof jobSecret === 'string' && route.jobToken) {
    const found = findJobToken(world, jobSecret);
    if (found) return { user: found.user, token: null, job: found.job };
  }
  if (route.auth === 'none') return nobody;
  throw new ApiError(401, '401 Unauthorized');
}

function checkScope(route: Route, token: Token | null): void {
  if (!token || route.auth === 'none') return;
  const reads = route.method === 'GET' || route.method === 'HEAD';
  if (token.scopes.includes('api') || (reads && token.scopes.includes('read_api'))) return;
  throw new ApiError(403, {
    error: 'insufficient_scope',
    error_description: 'The request requires higher privileges than provided by the access token.',
    scope: reads ? 'api read_api' : 'api',
  });
}

function isParams(value: unknown): value is Record<string, string> {
  return typeof value === 'object' && value !== null;
}

async function answer(
  forge: Forge,
  recorder: Recorder,
  route: Route,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const url = request.raw.url ?? '/';
  const entry: RecordedRequest = {
    method: route.method,
    route: route.path,
    path: url.split('?')[0] ?? url,
    query: [],
    body: [],
    status: 0,
    user: null,
  };
  const work = async (folder: string): Promise<Reply> => {
    try {
      return await handle(forge, recorder, route, request, reply.raw, entry, folder);
    } catch (error) {
      if (error instanceof ApiError) {
        if (error.status === 501) recorder.violation({ ...entry, status: 501 }, error.message);
        return { status: error.status, body: error.body };
      }
      const text =
        error instanceof GitError ? error.message : error instanceof Error ? error.stack : String(error);
      return { status: 500, body: { message: '500 Internal Server Error', sandbox: text ?? '' } };
    }
  };
  // Only multipart bodies leave files behind, and only they need a place for them.
  const result =
    request.isMultipart() && !route.raw ? await withTemporaryFolder('upload', work) : await work('');
  entry.status = result.status;
  recorder.request(entry);
  await send(reply, result);
}

async function handle(
  forge: Forge,
  recorder: Recorder,
  route: Route,
  request: FastifyRequest,
  reply: ServerResponse,
  entry: RecordedRequest,
  folder: string,
): Promise<Reply> {
  const query = parseQuery(request.raw.url ?? '/');
  entry.query = Object.keys(query);
  const parts = request.isMultipart() ? (): AsyncIterable<Part> => request.parts() : null;
  const { body, files } = route.raw ? { body: {}, files: {} } : await parseBody(request.raw, parts, folder);
  entry.body = [...Object.keys(body), ...Object.keys(files)];
  const unknown = unknownParameters(api, route, entry);
  if (unknown.length > 0) {
    const reason = `${route.method} ${route.path} has no parameter ${unknown.join(', ')}`;
    recorder.violation({ ...entry, status: 400 }, reason);
    throw new ApiError(400, { error: `sandbox: ${reason}` });
  }
  const caller = authenticate(forge.world, route, request.raw);
  entry.user = caller.user?.username ?? null;
  checkScope(route, caller.token);
  const gone = new AbortController();
  reply.once('close', () => gone.abort());
  const call: Call = {
    ...forge,
    ...caller,
    method: request.method,
    headers: request.headers,
    params: isParams(request.params) ? request.params : {},
    query,
    body,
    files,
    request: request.raw,
    signal: gone.signal,
  };
  return route.handler(call);
}

async function send(reply: FastifyReply, result: Reply): Promise<void> {
  reply.code(result.status);
  for (const [name, value] of Object.entries(result.headers ?? {})) reply.header(name, value);
  const { body } = result;
  if (body === undefined || body === null) {
    await reply.send();
    return;
  }
  if (typeof body === 'string' || Buffer.isBuffer(body) || body instanceof Readable) {
    if (!reply.hasHeader('content-type')) reply.header('content-type', 'text/plain; charset=utf-8');
    await reply.send(body);
    return;
  }
  reply.header('content-type', 'application/json');
  await reply.send(JSON.stringify(body));
}
