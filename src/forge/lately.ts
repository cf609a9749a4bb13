/** Milliseconds for which the name of a default branch is good: it is not renamed twice a minute. */
export const branchFor = 10_000;

/**
 * What `ask` answers, asked again after so many milliseconds only: for what hardly ever changes and is needed for everything.
 * Those who ask at once share an answer; a failure is kept for nobody.
 */
export function lately<T>(ms: number, ask: () => Promise<T>): () => Promise<T> {
  let last: { at: number; answer: Promise<T> } | null = null;
  return () => {
    if (last && performance.now() - last.at < ms) return last.answer;
    const asked = { at: performance.now(), answer: ask() };
    last = asked;
    asked.answer.catch(() => {
      if (last === asked) last = null;
    });
    return asked.answer;
  };
}
