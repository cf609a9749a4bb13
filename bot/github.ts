import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { GithubAuth } from '../src/index.ts';
import { type BotEvent, type Receiver, receiveEvent } from './event.ts';
import type { BotMetrics } from './metrics.ts';
import { fromDelivery, type Origin, originOf } from './origin.ts';
import { type Tracing, untraced } from './trace.ts';

const repository = z.object({ full_name: z.string() });
const user = z.object({ id: z.int() });
const pulls = z.array(z.object({ number: z.int().positive() }));
const numbered = z.object({ number: z.int().positive() });

// By event name (docs.github.com, webhook events and payloads); each declares only what is used.
const payloads = {
  pull_request: z.object({ repository, action: z.string().default(''), number: z.int().positive() }),
  pull_request_review: z.object({ repository, pull_request: numbered }),
  issue_comment: z.object({
    repository,
    // An edited comment is delivered again, a deleted one too.
    action: z.string(),
    issue: numbered.extend({ pull_request: z.object({}).optional() }),
    comment: z.object({ id: z.int(), user: user.nullable() }),
  }),
  check_run: z.object({
    repository,
    action: z.string(),
    check_run: z.object({ head_sha: z.string(), pull_requests: pulls }),
  }),
  workflow_run: z.object({
    repository,
    workflow_run: z.object({
      event: z.string(),
      head_branch: z.string().nullable(),
      head_sha: z.string(),
      conclusion: z.string().nullable(),
      pull_requests: pulls,
    }),
  }),
  // A merge queue made a commit that it wants to be told about.
  merge_group: z.object({ repository, action: z.string(), merge_group: z.object({ head_ref: z.string() }) }),
  push: z.object({ repository, ref: z.string(), deleted: z.boolean().default(false) }),
  deployment_status: z.object({ repository, deployment: z.object({ environment: z.string() }) }),
} as const;

/** Names of the events the bot acts on: what an app has to subscribe to. */
export const githubEvents = Object.keys(payloads) as (keyof typeof payloads)[];

const finished = {
  success: 'success',
  failure: 'failed',
  cancelled: 'canceled',
  skipped: 'skipped',
} as const;

function read<K extends keyof typeof payloads>(
  name: K,
  value: unknown,
): z.infer<(typeof payloads)[K]> | null {
  const parsed = payloads[name].safeParse(value);
  return parsed.success ? (parsed.data as z.infer<(typeof payloads)[K]>) : null;
}

/** The comment is the bot's own: what it wrote calls for nothing. */
function isOwn(author: { id: number } | null, self: string | null): boolean {
  return self !== null && String(author?.id) === self;
}

/**
 * Reads a payload of a GitHub webhook; null for what the bot does not act on, whatever it is. `self` is the bot's own id,
 * null when it is not known.
 */
export function readGithubEvent(name: string, value: unknown, self: string | null = null): BotEvent | null {
  switch (name) {
    case 'pull_request': {
      const event = read(name, value);
      if (!event) return null;
      // Merging closes it too.
      const over = event.action === 'closed';
      return { kind: 'change', project: event.repository.full_name, change: event.number, over };
    }
    case 'pull_request_review': {
      const event = read(name, value);
      if (!event) return null;
      const { number: change } = event.pull_request;
      return { kind: 'change', project: event.repository.full_name, change, over: false };
    }
    case 'issue_comment': {
      const event = read(name, value);
      if (event?.action !== 'created' || !event.issue.pull_request || isOwn(event.comment.user, self))
        return null;
      const { repository: at, issue, comment } = event;
      return { kind: 'comment', project: at.full_name, change: issue.number, comment: String(comment.id) };
    }
    case 'check_run': {
      const event = read(name, value);
      // Only when a person asks for it again: our own check runs tell nothing, and jobs are told by their run.
      if (event?.action !== 'rerequested') return null;
      const [first] = event.check_run.pull_requests;
      const project = event.repository.full_name;
      return first ? { kind: 'change', project, change: first.number, over: false } : null;
    }
    case 'workflow_run': {
      const event = read(name, value);
      if (!event) return null;
      const { event: source, head_branch, head_sha, conclusion, pull_requests } = event.workflow_run;
      const change = source.startsWith('pull_request') ? (pull_requests[0]?.number ?? null) : null;
      const state = finished[conclusion as keyof typeof finished] ?? 'other';
      const project = event.repository.full_name;
      return { kind: 'pipeline', project, change, ref: head_branch ?? '', sha: head_sha, state };
    }
    case 'merge_group': {
      const event = read(name, value);
      const branch = /^refs\/heads\/(.+)$/.exec(event?.merge_group.head_ref ?? '')?.[1];
      return event?.action === 'checks_requested' && branch
        ? { kind: 'queue', project: event.repository.full_name, branch }
        : null;
    }
    case 'push': {
      const event = read(name, value);
      const branch = /^refs\/heads\/(.+)$/.exec(event?.ref ?? '')?.[1];
      return event && branch && !event.deleted
        ? { kind: 'push', project: event.repository.full_name, branch }
        : null;
    }
    case 'deployment_status': {
      const event = read(name, value);
      if (!event) return null;
      const { environment } = event.deployment;
      return { kind: 'deployment', project: event.repository.full_name, environment };
    }
    default:
      return null;
  }
}

/** A repository as the webhook side sees it. */
export interface GithubReceiver extends Receiver {
  /** The bot's own id as far as it is known by now; null when it is not: then its comments are sorted out later. */
  self(): string | null;
}

/**
 * Adds `POST /webhooks/github`, served by probot: it verifies X-Hub-Signature-256 over the bytes as they came, in constant
 * time, and tells us the event; we queue it and answer. GitHub waits 10 seconds and does not deliver again by itself.
 * `receivers` by full name of the repository. Call it before the server listens.
 */
export async function mountGithub(
  app: FastifyInstance,
  options: {
    receivers: ReadonlyMap<string, GithubReceiver>;
    secret: string;
    auth: GithubAuth;
    /** Base of the REST API. */
    url: string;
    metrics: BotMetrics;
    tracing?: Tracing;
    onError(error: unknown, about?: Origin): void;
  },
): Promise<void> {
  const { receivers, metrics, auth, tracing = untraced } = options;
  const { createNodeMiddleware, Probot, ProbotOctokit } = await import('probot');
  const { pino } = await import('pino');
  const probot = new Probot({
    secret: options.secret,
    baseUrl: options.url,
    // It would log the whole payload of a delivery with a wrong signature.
    log: pino({ level: 'silent' }),
    // Our own driver speaks to GitHub, with its own repeats.
    Octokit: ProbotOctokit.defaults({ throttle: { enabled: false }, retry: { enabled: false } }),
    ...(auth.kind === 'app'
      ? { appId: auth.appId, privateKey: auth.privateKey }
      : { githubToken: auth.token }),
  });
  const path = '/webhooks/github';
  const middleware = await createNodeMiddleware(
    (bot) => {
      bot.onAny(async ({ id, name, payload }) => {
        let origin: Origin = { delivery: id };
        try {
          const first = readGithubEvent(name, payload);
          const receiver = first ? receivers.get(first.project) : undefined;
          const self = first?.kind === 'comment' && receiver ? receiver.self() : null;
          const event = self === null ? first : readGithubEvent(name, payload, self);
          const outcome = await fromDelivery(id, () =>
            tracing.run('webhook github', { kind: 'server' }, () => {
              origin = originOf(tracing);
              return receiveEvent(receivers, id, event);
            }),
          );
          metrics.deliveries.inc({ outcome });
        } catch (error) {
          options.onError(error, origin);
          // Probot answers with the message, which is for nobody outside.
          throw new Error('try again');
        }
      });
    },
    { probot, webhooksPath: path },
  );
  app.post(path, async (request, reply) => {
    const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
    reply.hijack();
    // The body was read already; this is where the middleware looks for it.
    await middleware(Object.assign(request.raw, { body: body.toString('utf8') }), reply.raw);
    const { statusCode } = reply.raw;
    if (statusCode >= 400 && statusCode < 500) metrics.deliveries.inc({ outcome: 'refused' });
  });
}
