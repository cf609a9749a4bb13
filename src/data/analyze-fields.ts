import type { Block } from '../core/report.ts';
import { masked } from './mask.ts';

/** Different values that are counted of one field; a field with more has "many". */
const mostValues = 1000;

/** What is known of one field of many records. */
export interface FieldStats {
  present: number;
  missing: number;
  numbers: number;
  low: number;
  high: number;
  sum: number;
  squares: number;
  /** How often each value came; null when there are more than are counted, or they must not be shown. */
  values: Map<string, number> | null;
  sensitive: boolean;
}

const fresh = (sensitive: boolean, missing: number): FieldStats => ({
  present: 0,
  missing,
  numbers: 0,
  low: Number.POSITIVE_INFINITY,
  high: Number.NEGATIVE_INFINITY,
  sum: 0,
  squares: 0,
  values: sensitive ? null : new Map(),
  sensitive,
});

const isMissing = (value: unknown) => value === null || value === undefined || value === '';

/** Counts the fields of one more record. */
export function describeFields(
  fields: Map<string, FieldStats>,
  record: Readonly<Record<string, unknown>>,
  isSensitive: (field: string) => boolean,
): void {
  const before = Math.max(0, ...[...fields.values()].map(({ present, missing }) => present + missing));
  for (const name of Object.keys(record)) {
    if (!fields.has(name)) fields.set(name, fresh(isSensitive(name), before));
  }
  for (const [name, stats] of fields) {
    const value = Object.hasOwn(record, name) ? record[name] : undefined;
    if (isMissing(value)) {
      stats.missing++;
      continue;
    }
    stats.present++;
    if (stats.sensitive) continue;
    const number = typeof value === 'number' ? value : typeof value === 'string' ? Number(value) : Number.NaN;
    if (Number.isFinite(number)) {
      stats.numbers++;
      stats.low = Math.min(stats.low, number);
      stats.high = Math.max(stats.high, number);
      stats.sum += number;
      stats.squares += number * number;
    }
    if (!stats.values) continue;
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    stats.values.set(text, (stats.values.get(text) ?? 0) + 1);
    if (stats.values.size > mostValues) stats.values = null;
  }
}

const round = (value: number) => String(Number(value.toPrecision(6)));

function rangeOf({ numbers, present, low, high, sum, squares }: FieldStats): string {
  if (numbers === 0 || numbers < present) return '';
  const mean = sum / numbers;
  const deviation = Math.sqrt(Math.max(0, squares / numbers - mean * mean));
  return `${round(low)} … ${round(high)}, ${round(mean)} ± ${round(deviation)}`;
}

function commonOf({ values, present, sensitive }: FieldStats): string {
  if (sensitive) return masked;
  if (!values) return 'many';
  const top = [...values].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  // Where every value is another one, none is common.
  if (top.length === present && present > 1) return 'all different';
  return top
    .slice(0, 3)
    .map(([value, count]) => `${[...value].slice(0, 30).join('')} (${count})`)
    .join(', ');
}

/** The fields as a table: how complete, which range, which values are common. */
export function fieldBlocks(fields: ReadonlyMap<string, FieldStats>): Block[] {
  if (fields.size === 0) return [];
  const rows = [...fields].map(([name, stats]) => [
    name,
    String(stats.missing),
    stats.sensitive ? masked : stats.values ? String(stats.values.size) : `> ${mostValues}`,
    stats.sensitive ? masked : rangeOf(stats),
    commonOf(stats),
  ]);
  return [
    {
      kind: 'table',
      head: ['field', 'missing', 'different', 'range, mean ± deviation', 'most common'],
      align: ['left', 'right', 'right', 'left', 'left'],
      rows,
    },
  ];
}
