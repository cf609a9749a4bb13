import type { Chart } from '../core/report.ts';

type Bars = Extract<Chart, { kind: 'bars' }>['bars'];

/** More bars than these are not looked at one by one. */
const mostBars = 40;

/**
 * Of many bars the highest and the lowest twenty, in the order they came, and what was left out in words (null: nothing).
 * Of equal ones the first stay.
 */
export function foldBars(bars: Bars): { bars: Bars; note: string | null } {
  if (bars.length <= mostBars) return { bars, note: null };
  const half = mostBars / 2;
  const ranked = bars.map(({ value }, index) => ({ value, index }));
  ranked.sort((a, b) => b.value - a.value || a.index - b.index);
  const kept = new Set([...ranked.slice(0, half), ...ranked.slice(-half)].map(({ index }) => index));
  return {
    bars: bars.filter((_, index) => kept.has(index)),
    note: `the ${half} highest and the ${half} lowest of ${bars.length}`,
  };
}
