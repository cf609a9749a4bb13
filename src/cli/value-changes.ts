import { formatNumber } from '../report/text.ts';

/** One value that differs; undefined where one side has none. */
export interface ValueChange {
  name: string;
  from: unknown;
  to: unknown;
}

/** The values that differ between two flat objects, in the order of the first, then of what only the second has. */
export function changedValues(
  from: Readonly<Record<string, unknown>>,
  to: Readonly<Record<string, unknown>>,
): ValueChange[] {
  return [...new Set([...Object.keys(from), ...Object.keys(to)])]
    .filter((name) => from[name] !== to[name])
    .map((name) => ({ name, from: from[name], to: to[name] }));
}

/** A value for people; absent is a dash. */
export function valueText(value: unknown): string {
  if (value === undefined || value === null) return '–';
  return typeof value === 'number' ? formatNumber(value) : String(value);
}
