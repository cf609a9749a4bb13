import { keepNewest } from '../core/keep.ts';

/** How many answers are kept, over all repositories. */
const mostAnswers = 2000;

/** A forge asks git the same about the same commits all the time; a process costs a thousand times more than a look here. */
const answers = new Map<string, unknown>();

const isName = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

/**
 * What git says about commits of a repository, asked once: objects never change, so neither do answers that depend on them
 * alone. Null, which may be "not there yet", is asked again; so is everything that is about a name that can move.
 */
export async function remembered<T>(
  repository: string,
  question: string,
  commits: readonly string[],
  ask: () => Promise<T | null>,
): Promise<T | null> {
  if (!commits.every(isName)) return ask();
  const key = [repository, question, ...commits].join('\0');
  const kept = answers.get(key);
  if (kept !== undefined) return kept as T;
  const answer = await ask();
  return answer === null ? null : keepNewest(answers as Map<string, T>, mostAnswers, key, answer);
}
