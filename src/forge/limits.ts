import { routeOf } from './requests.ts';

/** Nobody is believed who says to stay away for longer, in milliseconds: both forges count by the hour at most. */
const longestRest = 3_600_000;

/** What a forge said of when to come back, by who asks (a token there), or by who asks for what. */
export interface Limits {
  /** Milliseconds until such a request is taken again; 0: now. */
  rest(request: LimitedRequest, now: number): number;
  /**
   * It was refused, and is taken again after `wait` milliseconds. `isOfToken`: so is everything else that this token asks for
   * (GitLab's user limits, GitHub's); otherwise it is a limit of this route alone (GitLab: notes, pipelines, webhook tests).
   */
  refused(request: LimitedRequest, wait: number, isOfToken: boolean, now: number): void;
}

/** As much of a request as limits are about. */
export interface LimitedRequest {
  method: string;
  url: URL;
  headers: Readonly<Record<string, string>>;
}

const tokenOf = ({ url, headers }: LimitedRequest): string =>
  `${url.host} ${headers.authorization ?? headers['private-token'] ?? ''}`;

const routeFor = (request: LimitedRequest): string =>
  `${tokenOf(request)} ${request.method} ${routeOf(request.url.pathname)}`;

/** Remembers what a forge refuses, so that it is not asked again before the time it named (RFC 6585, 4; RFC 9110, 10.2.3). */
export function createLimits(): Limits {
  const until = new Map<string, number>();
  return {
    rest(request, now) {
      const ends = [tokenOf(request), routeFor(request)].map((key) => until.get(key) ?? 0);
      return Math.max(0, ...ends.map((end) => end - now));
    },
    refused(request, wait, isOfToken, now) {
      for (const [key, end] of until) if (end <= now) until.delete(key);
      const key = isOfToken ? tokenOf(request) : routeFor(request);
      until.set(key, Math.max(until.get(key) ?? 0, now + Math.min(wait, longestRest)));
    },
  };
}
