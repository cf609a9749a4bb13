/** One API request as it was answered. Values are not kept: only names, so that nothing secret is. */
export interface RecordedRequest {
  method: string;
  /** The route's template, or null for a path the table does not have. */
  route: string | null;
  path: string;
  query: string[];
  body: string[];
  status: number;
  /** Username of the caller. */
  user: string | null;
}

/** A request outside the documented API: an unknown path (501) or unknown parameters (400). */
export interface Violation extends RecordedRequest {
  reason: string;
}

/** What a sandbox has been asked. */
export interface Recorder {
  requests: readonly RecordedRequest[];
  violations: readonly Violation[];
  /** How often each route of the table was called, by `METHOD template`. */
  counts: ReadonlyMap<string, number>;
  request(entry: RecordedRequest): void;
  violation(entry: RecordedRequest, reason: string): void;
}

/** The newest requests are kept, up to this many: a runner asks for jobs as long as it lives. */
const most = 20_000;

/** An empty record. */
export function createRecorder(): Recorder {
  const requests: RecordedRequest[] = [];
  const violations: Violation[] = [];
  const counts = new Map<string, number>();
  return {
    requests,
    violations,
    counts,
    request(entry) {
      requests.push(entry);
      if (requests.length > most) requests.shift();
      const key = `${entry.method} ${entry.route ?? entry.path}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    },
    violation(entry, reason) {
      violations.push({ ...entry, reason });
    },
  };
}
