import type { FastifyInstance, FastifyReply } from 'fastify';
import { type Database, type Queue, renderHtml } from '../src/index.ts';
import type { Health } from './health.ts';
import type { BotStatus } from './status.ts';
import { createStatusAccess } from './status-access.ts';
import { pagePolicy, renderSignIn, renderStatus } from './status-page.ts';

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

/** What a page for people says besides itself: it is for nobody's cache, frame or script. */
function page(reply: FastifyReply, status: number, text: string): FastifyReply {
  return reply
    .code(status)
    .headers({
      'content-security-policy': pagePolicy,
      'cache-control': 'no-store',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
    })
    .type('text/html; charset=utf-8')
    .send(text);
}

/** Milliseconds that the database may take to answer before the bot counts as not ready. */
const patience = 2_000;

/**
 * Adds `GET /readyz`: 200 while the database answers and tasks are taken from the queue, 503 otherwise and as soon as the bot
 * was told to stop. (`/healthz` only says that the process lives: a database that is away is no reason to start it anew.)
 */
export function mountReadiness(
  app: FastifyInstance,
  {
    health,
    database,
    queue,
  }: { health: Health; database: Pick<Database, 'query'>; queue: Pick<Queue, 'isRunning'> },
): void {
  const answers = async (): Promise<boolean> => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(resolve, patience, false);
    });
    const asked = database.query('select 1').then(
      () => true,
      () => false,
    );
    const answered = await Promise.race([asked, late]);
    clearTimeout(timer);
    return answered;
  };
  app.get('/readyz', async (_request, reply) => {
    const checks = { stopping: health.isStopping, queue: queue.isRunning(), database: await answers() };
    const isReady = !checks.stopping && checks.queue && checks.database;
    return reply.code(isReady ? 200 : 503).send({ status: isReady ? 'ready' : 'not ready', ...checks });
  });
}

/**
 * Adds `GET /status` for people and `GET /status.json` for programs, for whoever has the token: as a bearer, or in a browser
 * that signed in. Signing in moves the token from the form (or the query) into a cookie, and leads back to a URL without it.
 */
export function mountStatus(
  app: FastifyInstance,
  options: { token: string; secure: boolean; now(): number; read(): Promise<BotStatus> },
): void {
  const access = createStatusAccess(options.token, options);
  const signIn = (reply: FastifyReply, token: string) => {
    if (!access.knows(token)) return page(reply, 401, renderHtml(renderSignIn(token !== '')));
    return reply
      .code(303)
      .headers({
        'set-cookie': access.cookie(),
        // Relative: the bot may be served below a path.
        location: 'status',
        'cache-control': 'no-store',
        'referrer-policy': 'no-referrer',
      })
      .send();
  };
  app.get('/status', async (request, reply) => {
    const token = textOf((request.query as { token?: unknown }).token);
    if (token !== '') return signIn(reply, token);
    if (!access.admits(request.headers)) return page(reply, 401, renderHtml(renderSignIn(false)));
    return page(reply, 200, renderHtml(renderStatus(await options.read())));
  });
  app.post('/status', async (request, reply) => {
    const body = Buffer.isBuffer(request.body) ? request.body.toString('utf8') : '';
    return signIn(reply, new URLSearchParams(body).get('token') ?? '');
  });
  app.get('/status.json', async (request, reply) => {
    reply.headers({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });
    if (!access.admits(request.headers)) {
      return reply.code(401).header('www-authenticate', 'Bearer realm="cdl bot"').send({ error: 'refused' });
    }
    return options.read();
  });
}
