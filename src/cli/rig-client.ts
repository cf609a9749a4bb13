import { UserError } from '../core/error.ts';
import type { Actor, Rig } from './rig.ts';

/** A merge request as the forge's API answers; only what the demo looks at. */
export interface ApiMergeRequest {
  iid: number;
  sha: string;
  state: string;
  web_url: string;
  merge_commit_sha: string | null;
  detailed_merge_status: string;
}

/** The forge's API as a person uses it from a script: their own token, GitLab's own routes. */
export function openApi(rig: Rig, actor: Actor) {
  const base = `${rig.sandbox.url}/api/v4/projects/${rig.project.id}`;
  const call = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const response = await fetch(`${base}${path}`, {
      method,
      headers: {
        'private-token': actor.token,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) {
      throw new UserError('forge-denied', `${method} ${path}: ${response.status} ${text.slice(0, 300)}`);
    }
    return (text ? JSON.parse(text) : null) as T;
  };
  return {
    call,
    openMergeRequest: (source: string, title: string) =>
      call<ApiMergeRequest>('POST', '/merge_requests', {
        source_branch: source,
        target_branch: 'main',
        title,
      }),
    mergeRequest: (iid: number) => call<ApiMergeRequest>('GET', `/merge_requests/${iid}`),
    comment: (iid: number, body: string) =>
      call<{ id: number }>('POST', `/merge_requests/${iid}/notes`, { body }),
    merge: (iid: number, sha: string) =>
      call<ApiMergeRequest>('PUT', `/merge_requests/${iid}/merge`, { sha }),
    notes: (iid: number) =>
      call<{ id: number; body: string; author: { username: string }; system: boolean }[]>(
        'GET',
        `/merge_requests/${iid}/notes?per_page=100&sort=asc&order_by=created_at`,
      ),
    pipelines: (iid: number) =>
      call<{ id: number; sha: string; status: string; web_url: string }[]>(
        'GET',
        `/merge_requests/${iid}/pipelines`,
      ),
    jobs: (pipeline: number) =>
      call<{ id: number; name: string; status: string; web_url: string }[]>(
        'GET',
        `/pipelines/${pipeline}/jobs?per_page=100`,
      ),
    statuses: (sha: string) =>
      call<{ name: string; status: string; description: string | null }[]>(
        'GET',
        `/repository/commits/${sha}/statuses`,
      ),
  };
}

/**
 * Resolves with the first value that is not null, looking again whenever anything happens on the forge. Throws UserError when
 * so many seconds went by, or, where `look` says by `moved` that it comes nearer, so many since it did.
 */
export async function until<T>(
  rig: Rig,
  what: string,
  look: (moved: () => void) => Promise<T | null> | T | null,
  seconds = 240,
): Promise<T> {
  const { events } = rig.sandbox.world;
  let since = Date.now();
  const moved = () => {
    since = Date.now();
  };
  for (;;) {
    let wake = () => {};
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const onEvent = () => wake();
    events.on('event', onEvent);
    // Store and decisions change without an event of the forge: look at least this often.
    const timer = setTimeout(wake, 500);
    rig.signal.addEventListener('abort', onEvent, { once: true });
    try {
      if (rig.signal.aborted) throw new UserError('interrupted', `stopped while waiting for ${what}`);
      const value = await look(moved);
      if (value !== null) return value;
      if (Date.now() - since > seconds * 1000)
        throw new UserError('not-available', `nothing was heard of ${what} for ${seconds} s`);
      if (rig.bot.process.exitCode !== null)
        throw new UserError('not-available', 'the bot ended unexpectedly');
      await woken;
    } finally {
      clearTimeout(timer);
      events.off('event', onEvent);
      rig.signal.removeEventListener('abort', onEvent);
    }
  }
}
