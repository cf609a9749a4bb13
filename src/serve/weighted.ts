/**
 * Picks in turn so that each choice gets its share of any window of picks, evenly spread (the smooth weighted round-robin
 * of nginx, `ngx_http_upstream_get_peer`). The credits live in the map that is passed.
 *
 * Returns null when no choice has a weight above 0.
 */
export function pickWeighted<T>(
  choices: readonly T[],
  weightOf: (choice: T) => number,
  credits: Map<T, number>,
): T | null {
  let total = 0;
  let best: T | null = null;
  for (const choice of choices) {
    const weight = weightOf(choice);
    if (weight <= 0) continue;
    total += weight;
    const credit = (credits.get(choice) ?? 0) + weight;
    credits.set(choice, credit);
    if (best === null || credit > credits.get(best)!) best = choice;
  }
  if (best !== null) credits.set(best, credits.get(best)! - total);
  return best;
}
