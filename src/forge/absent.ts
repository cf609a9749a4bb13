import { UpstreamError } from '../core/error.ts';

/** Whether an answer says that there is no such thing. */
export function isAbsent(error: unknown): boolean {
  return error instanceof UpstreamError && error.status === 404;
}

/**
 * What a question is answered with, null for an answer 404. Somebody's approval may hang on it, and forges also say 404 for
 * what a lagging replica does not have yet (GitLab, doc: administration/postgresql/database_load_balancing): it is asked
 * again before it is believed.
 */
export async function orNull<T>(ask: () => Promise<T>): Promise<T | null> {
  try {
    return await ask();
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
  try {
    return await ask();
  } catch (error) {
    if (isAbsent(error)) return null;
    throw error;
  }
}
