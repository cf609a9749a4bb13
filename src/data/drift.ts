import type { Block } from '../core/report.ts';
import type { Profile } from './profile.ts';

/** What counts as a shift that people should look at: the customary limit of the population stability index. */
export const notableShift = 0.25;

/**
 * Population stability index of two histograms over the same bins (Siddiqi, Credit Risk Scorecards, 2006, ch. 6):
 * Σ (q − p) ln(q / p) over shares, with half an item added to every bin so that empty ones stay finite.
 */
export function stabilityIndex(before: readonly number[], now: readonly number[]): number {
  const shares = (counts: readonly number[]) => {
    const total = counts.reduce((sum, count) => sum + count + 0.5, 0);
    return counts.map((count) => (count + 0.5) / total);
  };
  const [p, q] = [shares(before), shares(now)];
  return p.reduce((sum, was, bin) => sum + (q[bin]! - was) * Math.log(q[bin]! / was), 0);
}

/** How a version differs from the one before it: size, classes, sizes of items. Pure. */
export function compareProfiles(
  before: Profile,
  now: Profile,
  classes: readonly string[],
): { shift: number; notes: string[]; blocks: Block[] } {
  const byClass = stabilityIndex(before.perClass, now.perClass);
  const bins = [...new Set([...Object.keys(before.bytes), ...Object.keys(now.bytes)])];
  const count = (profile: Profile) => bins.map((bin) => profile.bytes[bin] ?? 0);
  const bySize = bins.length > 1 ? stabilityIndex(count(before), count(now)) : 0;
  const notes = [
    ...(byClass > notableShift
      ? [`the mix of classes has shifted (stability index ${byClass.toFixed(2)})`]
      : []),
    ...(bySize > notableShift ? [`the sizes have shifted (stability index ${bySize.toFixed(2)})`] : []),
  ];
  const row = (name: string, was: number, is: number) => [
    name,
    String(was),
    String(is),
    is === was ? '0' : `${is > was ? '+' : '−'}${Math.abs(is - was)}`,
  ];
  return {
    shift: Math.max(byClass, bySize),
    notes,
    blocks: [
      {
        kind: 'table',
        head: ['against the version before', 'before', 'now', 'change'],
        align: ['left', 'right', 'right', 'right'],
        rows: [
          row('all items', before.count, now.count),
          ...classes.map((name, index) => row(name, before.perClass[index] ?? 0, now.perClass[index] ?? 0)),
          ...(before.unlabelled + now.unlabelled > 0
            ? [row('without label', before.unlabelled, now.unlabelled)]
            : []),
        ],
      },
      {
        kind: 'facts',
        facts: [
          ['shift of classes', `${byClass.toFixed(3)} (stability index; above ${notableShift} is notable)`],
          ...(bins.length > 1 ? [['shift of sizes', bySize.toFixed(3)] as [string, string]] : []),
        ],
      },
    ],
  };
}
