import { channel } from 'node:diagnostics_channel';

/** One try of a request to a forge, told when it ended. */
export interface ForgeRequest {
  method: string;
  /** The path with everything that names something replaced: `/api/v4/projects/:x/merge_requests/:x`. */
  route: string;
  /** The HTTP status, or what went wrong with the connection. */
  outcome: string;
  seconds: number;
  /** Seconds until it is tried again; null when it is not. */
  retryIn: number | null;
  /** The forge said that its rate limit is used up. */
  isLimited: boolean;
  /** Seconds for which it was not sent, because another request had been told to come back later. */
  held: number;
}

/** Where every try is told (node:diagnostics_channel): nothing is made while nobody listens. */
const requests = channel('cdl:forge-request');

// What the routes of both forges' APIs are made of (GitLab: docs.gitlab.com/api, GitHub: docs.github.com/rest). Anything else
// names something, so there are never more routes than the code asks for.
const words = new Set(
  (
    'api v3 v4 projects groups users user members all merge_requests issues notes discussions award_emoji approvals ' +
    'approval_state commits changes diffs pipelines pipeline jobs artifacts statuses status repository files raw branches ' +
    'protected_branches tags releases uploads hooks test hook events variables cancel version metadata personal_access_tokens self ' +
    'repos pulls comments reviews reactions check-runs check-suites actions runs workflows dispatches contents git refs ref blobs ' +
    'trees app installation installations access_tokens orgs teams memberships collaborators permission deployments config ' +
    'deliveries attempts logs compare rate_limit zip attempts graphql closed resolve merge'
  ).split(' '),
);

/** The route of a request's path. */
export function routeOf(path: string): string {
  const parts = path.split('/').map((part) => (part === '' || words.has(part) ? part : ':x'));
  return parts.filter((part, at) => part !== ':x' || parts[at - 1] !== ':x').join('/');
}

/** Tells of one try, when somebody listens. */
export function tellRequest(
  method: string,
  path: string,
  tried: Omit<ForgeRequest, 'method' | 'route'>,
): void {
  if (requests.hasSubscribers) requests.publish({ method, route: routeOf(path), ...tried });
}

/** Calls `hear` for each try of this thread until the returned function is called. */
export function watchForge(hear: (request: ForgeRequest) => void): () => void {
  const listener = (message: unknown) => hear(message as ForgeRequest);
  requests.subscribe(listener);
  return () => requests.unsubscribe(listener);
}
