import { isDigest, shortDigest } from '../core/digest.ts';
import { plural } from '../core/plural.ts';
import { formatNumber } from '../report/text.ts';
import type { Inside } from './changes.ts';
import { columnsText } from './columns.ts';

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

/** A value for people: digests short, absent a dash. */
export function valueText(value: unknown): string {
  if (value === undefined || value === null) return '–';
  if (isDigest(value)) return shortDigest(value);
  return typeof value === 'number' ? formatNumber(value) : String(value);
}

const tableOf = (changes: readonly ValueChange[]): string[] =>
  changes.length === 0
    ? []
    : columnsText(
        ['', 'from', 'to'],
        changes.map(({ name, from, to }) => [name, valueText(from), valueText(to)]),
        '',
      ).split('\n');

/** Everything that differs between two trained models, as lines for people. */
export function changesText(found: {
  parts: readonly ValueChange[];
  inside: Inside;
  config: readonly ValueChange[];
  metrics: readonly ValueChange[];
}): string[] {
  const { parts, inside, config, metrics } = found;
  const { code, data, weights } = inside;
  const measured = (weights ?? []).filter(({ why }) => why === null).map(({ largest }) => largest);
  return [
    ...(parts.length === 0 ? ['every part is the same'] : tableOf(parts)),
    ...(code?.length ? ['files between the two commits', ...code.map((line) => `  ${line}`)] : []),
    ...(code === null ? ['files: this clone does not have both commits'] : []),
    ...(data ? [`data: ${data.added} added, ${data.removed} removed, ${data.changed} changed`] : []),
    ...(measured.length > 0
      ? [
          `weights: ${plural(measured.length, 'tensor')} differing by up to ${Math.max(...measured).toPrecision(3)}`,
        ]
      : []),
    ...(weights ?? []).flatMap(({ name, why }) => (why === null ? [] : [`weights: ${name} ${why}`])),
    ...(config.length > 0 ? ['configuration', ...tableOf(config)] : []),
    ...(metrics.length > 0 ? ['metrics', ...tableOf(metrics)] : []),
  ];
}
