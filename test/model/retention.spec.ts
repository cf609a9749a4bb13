import { expect, it } from 'vitest';
import type { Digest } from '../../src/core/digest.ts';
import { planRetention, type Retained } from '../../src/model/retention.ts';

const day = 24 * 60 * 60 * 1000;
const now = 1000 * day;
const hex = (version: number) => String(version).padStart(64, '0');
const version = (number: number, age: number, names: string[] = []): Retained => {
  const candidate: Digest = `sha256:${hex(number)}`;
  return { version: number, candidate, digests: [candidate], names, modified: now - age * day };
};
const nothing = { git: new Set<string>(), trusted: new Set<string>(), starts: new Set<number>() };

it('a version stays for every reason there is, and goes when there is none', () => {
  const versions = [
    version(1, 400, ['previous']),
    version(2, 300, ['production']),
    version(3, 200),
    version(4, 190),
    version(5, 180),
    version(6, 170),
    version(7, 29),
    version(8, 30),
    version(9, 31, ['candidate']),
  ];
  const holders = { git: new Set([hex(3), hex(2)]), trusted: new Set([hex(4)]), starts: new Set([5]) };
  const plan = planRetention(versions, holders, { keep: 1, days: 30 }, now);
  expect(plan.map(({ version, reasons }) => [version, reasons.join(', ')])).toEqual([
    [1, 'previous'],
    [2, 'production, in a lock'],
    [3, 'in a lock'],
    [4, 'decided about'],
    [5, 'a model starts from it'],
    [6, ''],
    [7, 'young'],
    [8, ''],
    [9, 'candidate, among the newest'],
  ]);
});

it('the newest number stays whatever the policy says, so that none is given twice', () => {
  const plan = planRetention([version(2, 9), version(1, 9)], nothing, { keep: 0, days: 0 }, now);
  expect(plan.map(({ reasons }) => reasons)).toEqual([['among the newest'], []]);
});
