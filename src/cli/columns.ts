import { cleanLine, displayWidth, pad } from '../report/text.ts';

/** Rows as aligned columns under a head; numbers stand right where `align` says so. Without rows, `empty`. */
export function columnsText(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  empty: string,
  align: readonly ('left' | 'right')[] = [],
): string {
  if (rows.length === 0) return empty;
  const all = [head, ...rows].map((row) => row.map(cleanLine));
  const widths = head.map((_, index) => Math.max(...all.map((row) => displayWidth(row[index] ?? ''))));
  return all
    .map((row) =>
      row
        .map((cell, index) => pad(cell, widths[index]!, align[index] ?? 'left'))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Facts as `name   value` lines; those whose value is null are left out. */
export function factsText(facts: readonly (readonly [string, string | null])[], indent = ''): string {
  const shown = facts.filter((one): one is [string, string] => one[1] !== null);
  const width = Math.max(0, ...shown.map(([name]) => displayWidth(name)));
  return shown.map(([name, value]) => `${indent}${pad(name, width, 'left')}  ${cleanLine(value)}`).join('\n');
}
