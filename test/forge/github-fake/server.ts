import { createHmac, type KeyObject, verify } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { hookEvents } from '../../../src/forge/github-hooks.ts';
import { git, resolveRef } from '../../../src/sandbox/git.ts';
import { advertiseRefs, receivePack, uploadPack } from '../../../src/sandbox/git-http.ts';
import { actionRoutes, presentRun } from './actions.ts';
import { changeRoutes, presentPull } from './changes.ts';
import type { Description } from './description.ts';
import { peopleRoutes } from './people.ts';
import { repositoryRoutes } from './repository.ts';
import type { Answer, FakeRun, FakeState, FakeUser, Handler } from './state.ts';

/** What runs do in a test. They add jobs and artifacts to the state and say how they ended. */
export interface FakeEngine {
  /** A pull request has a new head. */
  pull(run: FakeRun): Promise<void>;
  dispatched(run: FakeRun): Promise<void>;
}

/** A small GitHub: one repository, its API checked against the published description, and git over HTTP. */
export interface GithubFake {
  /** Base of the API, `http://127.0.0.1:…/api/v3`. */
  url: string;
  state: FakeState;
  /** What was sent or answered that the description does not know. */
  violations: string[];
  user(login: string, role?: 'admin' | 'maintain' | 'write' | 'read'): FakeUser;
  /** Registers an app with a public key, installed on the repository. */
  registerApp(slug: string, key: KeyObject): void;
  /** Tells the hooks of something. */
  emit(event: string, payload: object): void;
  /** Ends a run and tells of it. */
  finish(run: FakeRun, conclusion: 'success' | 'failure'): void;
  startRun(run: Pick<FakeRun, 'branch' | 'sha' | 'event' | 'pulls' | 'inputs' | 'actor'>): FakeRun;
  /** Waits until hooks were told and pipelines ran. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

const routes: Readonly<Record<string, Handler>> = {
  ...peopleRoutes,
  ...repositoryRoutes,
  ...changeRoutes,
  ...actionRoutes,
};

async function readAll(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** Starts it on a free port of the loopback interface; `from` is a repository to begin with. */
export async function startGithubFake(options: {
  folder: string;
  from: string;
  description: Description;
  engine?: FakeEngine;
}): Promise<GithubFake> {
  const repository = join(options.folder, 'repository.git');
  await mkdir(options.folder, { recursive: true });
  await git(options.folder, ['clone', '-q', '--bare', options.from, repository]);
  let ids = 5000;
  let numbers = 0;
  const violations: string[] = [];
  const pending = new Set<Promise<unknown>>();
  const later = (work: Promise<unknown>): void => {
    const done = work
      .catch((error: unknown) => violations.push(String(error)))
      .finally(() => pending.delete(done));
    pending.add(done);
  };
  const state: FakeState = {
    owner: 'acme',
    name: 'fashion',
    repository,
    web: '',
    users: [],
    roles: new Map(),
    teams: new Map(),
    app: null,
    isProtected: true,
    installationTokens: new Set(),
    tokenSeconds: 3600,
    pulls: [],
    comments: [],
    statuses: [],
    checks: [],
    runs: [],
    jobs: [],
    artifacts: [],
    issues: [],
    hooks: [],
    releases: [],
    reviews: [],
    runDetails: 'named',
    mayCheck: true,
    nextId: () => ++ids,
    nextNumber: () => ++numbers,
    now: () => new Date().toISOString(),
  };

  async function deliver(hook: FakeState['hooks'][number], event: string, payload: object): Promise<void> {
    const body = JSON.stringify({
      ...payload,
      repository: { full_name: `${state.owner}/${state.name}`, default_branch: 'main' },
      ...(state.app ? { installation: { id: 77 } } : {}),
    });
    const answer = await fetch(hook.url, {
      method: 'POST',
      body,
      // Whoever waits for the end waits for this.
      signal: AbortSignal.timeout(60_000),
      headers: {
        'content-type': 'application/json',
        'x-github-event': event,
        'x-github-delivery': `delivery-${state.nextId()}`,
        'x-hub-signature-256': `sha256=${createHmac('sha256', hook.secret).update(body).digest('hex')}`,
      },
    });
    if (answer.status >= 300) violations.push(`the hook answered ${answer.status} to ${event}`);
  }

  const emit = (event: string, payload: object): void => {
    for (const hook of state.hooks) {
      if (!hook.active) continue;
      if (hook.events.includes(event) || hook.events.includes('*')) later(deliver(hook, event, payload));
    }
  };

  const fake: GithubFake = {
    url: '',
    state,
    violations,
    emit,
    user(login, role) {
      const user = { id: state.nextId(), login, token: `ghp_${login}`, bot: login.endsWith('[bot]') };
      state.users.push(user);
      if (role) state.roles.set(user.id, role);
      return user;
    },
    registerApp(slug, key) {
      const user = fake.user(`${slug}[bot]`, 'write');
      const granted = {
        contents: 'write',
        pull_requests: 'write',
        issues: 'write',
        checks: 'write',
        actions: 'write',
        deployments: 'read',
        merge_queues: 'read',
        metadata: 'read',
      };
      const wanted = { ...granted };
      state.app = {
        id: 42,
        slug,
        key,
        user,
        events: [...hookEvents],
        wanted,
        granted,
        selection: 'selected',
      };
    },
    startRun(start) {
      const id = state.nextId();
      const title = start.inputs.cdl_run ?? `run ${id}`;
      const createdAt = new Date().toISOString();
      const run: FakeRun = { ...start, id, status: 'in_progress', conclusion: null, title, createdAt };
      state.runs.push(run);
      return run;
    },
    finish(run, conclusion) {
      Object.assign(run, { status: 'completed', conclusion });
      emit('workflow_run', { action: 'completed', workflow_run: presentRun(state, run) });
    },
    async settled() {
      while (pending.size > 0) await Promise.all(pending);
    },
    close: async () => {},
  };

  async function runPull(number: number): Promise<void> {
    const pull = state.pulls.find((one) => one.number === number)!;
    if (!options.engine) return;
    const start = { branch: pull.source, sha: pull.head, event: 'pull_request', pulls: [number], inputs: {} };
    await options.engine.pull(fake.startRun({ ...start, actor: pull.author }));
  }

  async function dispatch(branch: string, inputs: Record<string, string>, actor: FakeUser): Promise<FakeRun> {
    const sha = await resolveRef(repository, `refs/heads/${branch}`);
    const start = { branch, sha: sha ?? '', event: 'workflow_dispatch', pulls: [], inputs, actor };
    const run = fake.startRun(start);
    if (options.engine) await options.engine.dispatched(run);
    return run;
  }

  function appSpeaks(token: string): boolean {
    const [head, claims, signature] = token.split('.');
    if (!state.app || !head || !claims || !signature) return false;
    const isGenuine = verify(
      'RSA-SHA256',
      Buffer.from(`${head}.${claims}`),
      state.app.key,
      Buffer.from(signature, 'base64url'),
    );
    const { iat, exp, iss } = JSON.parse(Buffer.from(claims, 'base64url').toString()) as Record<
      string,
      number
    >;
    const seconds = Date.now() / 1000;
    return isGenuine && iat! < seconds && exp! > seconds && exp! - iat! <= 600 && String(iss) === '42';
  }

  function actorOf(header: string | undefined): { user: FakeUser; isApp: boolean; isJwt: boolean } | null {
    const [scheme, value = ''] = (header ?? '').split(' ');
    const token = scheme === 'Basic' ? Buffer.from(value, 'base64').toString().split(':')[1]! : value;
    if (state.installationTokens.has(token)) return { user: state.app!.user, isApp: true, isJwt: false };
    if (token.split('.').length === 3) {
      return appSpeaks(token) ? { user: state.app!.user, isApp: true, isJwt: true } : null;
    }
    const user = state.users.find((one) => one.token === token);
    return user ? { user, isApp: false, isJwt: false } : null;
  }

  async function answerApi(request: IncomingMessage, address: URL): Promise<Answer> {
    const path = address.pathname.slice('/api/v3'.length);
    const bytes = await readAll(request);
    const actor = actorOf(request.headers.authorization);
    if (!actor) return { status: 401, body: { message: 'Bad credentials' } };
    const found = options.description.match(request.method!, path);
    if (!found) {
      violations.push(`${request.method} ${path} is not in the description`);
      return { status: 404, body: { message: 'Not Found' } };
    }
    const { operation, values } = found;
    const body: unknown = bytes.length > 0 ? JSON.parse(bytes.toString()) : undefined;
    violations.push(...options.description.checkRequest(operation, values, address.searchParams, body));
    const name = `${operation.method} ${operation.template}`;
    const handler = routes[name];
    const forApps = /^(GET|PATCH|POST) \/app(\/|$)|\/installation$/.test(name);
    if (forApps !== actor.isJwt)
      violations.push(`${name} with ${actor.isJwt ? 'an app’s' : 'no app’s'} own token`);
    if (!handler) {
      violations.push(`${name} is not in the fake`);
      return { status: 501, body: { message: 'not here' } };
    }
    const answer = await handler({
      state,
      actor: actor.user,
      isApp: actor.isApp,
      values,
      query: address.searchParams,
      body: (body ?? {}) as Record<string, unknown>,
      emit(event, payload) {
        emit(event, payload);
        const { action, number } = payload as { action?: string; number?: number };
        if (event === 'pull_request' && action === 'opened') later(runPull(number!));
      },
      dispatch,
    });
    if (answer.status === 302) return answer;
    const whole = options.description.complete(operation, answer.status, answer.body ?? null);
    violations.push(...checked(operation, answer.status, whole));
    return { ...answer, body: whole };
  }

  function checked(operation: Parameters<Description['checkResponse']>[0], status: number, body: unknown) {
    // What any operation may answer is not repeated at each.
    if ([401, 403, 404, 422].includes(status) && !operation.responses.has(status)) return [];
    return options.description.checkResponse(operation, status, body);
  }

  async function answerGit(request: IncomingMessage, response: ServerResponse, address: URL): Promise<void> {
    if (!actorOf(request.headers.authorization)) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="GitHub"' }).end();
      return;
    }
    if (address.pathname.endsWith('/info/refs')) {
      await advertiseRefs(repository, address.searchParams.get('service') ?? '', request, response);
    } else if (address.pathname.endsWith('/git-upload-pack')) {
      await uploadPack(repository, request, response);
    } else {
      await receivePack(
        repository,
        request,
        response,
        () => ({ kind: 'allow' }),
        async (moved) => {
          for (const { ref, new: sha } of moved) {
            const branch = ref.replace('refs/heads/', '');
            emit('push', { ref, after: sha, deleted: /^0+$/.test(sha) });
            for (const pull of state.pulls.filter((one) => one.state === 'open' && one.source === branch)) {
              Object.assign(pull, { head: sha, updatedAt: state.now() });
              emit('pull_request', {
                action: 'synchronize',
                number: pull.number,
                pull_request: presentPull(state, pull),
              });
              later(runPull(pull.number));
            }
          }
        },
      );
    }
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const address = new URL(request.url!, 'http://127.0.0.1');
    const stored = /^\/storage\/(\d+)$/.exec(address.pathname)?.[1];
    if (stored) {
      if (request.headers.authorization) violations.push('a token was sent to the storage');
      const artifact = state.artifacts.find((one) => one.id === Number(stored))!;
      response.writeHead(200, { 'content-type': 'application/zip' }).end(artifact.zip);
      return;
    }
    if (!address.pathname.startsWith('/api/v3/')) return answerGit(request, response, address);
    const { status, body, headers } = await answerApi(request, address);
    const text = body === undefined || body === null || status === 204 ? '' : JSON.stringify(body);
    response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...headers }).end(text);
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      violations.push(`${request.method} ${request.url}: ${String(error)}`);
      response.writeHead(500).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  state.web = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  fake.url = `${state.web}/api/v3`;
  fake.close = async () => {
    await fake.settled();
    // Also those that are only just accepted when it begins.
    const again = setInterval(() => server.closeAllConnections(), 50);
    await new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
    clearInterval(again);
  };
  return fake;
}
