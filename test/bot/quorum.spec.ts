import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fillQuorum, missingText } from '../../bot/quorum.ts';

const roles = ['validator', 'data', 'devops'] as const;
type Required = { role: (typeof roles)[number]; count: number }[];
type One = { id: number; roles: readonly string[] };

/** The most places that can be filled, by trying every way. */
function most(people: readonly One[], left: ReadonlyMap<string, number>): number {
  const [first, ...others] = people;
  if (!first) return 0;
  const tries = first.roles.flatMap((role) => {
    const free = left.get(role) ?? 0;
    return free > 0 ? [1 + most(others, new Map(left).set(role, free - 1))] : [];
  });
  return Math.max(most(others, left), ...tries);
}

const required: fc.Arbitrary<Required> = fc
  .uniqueArray(fc.record({ role: fc.constantFrom(...roles), count: fc.integer({ min: 1, max: 3 }) }), {
    minLength: 1,
    selector: (one) => one.role,
  })
  .map((all) => all as Required);
const people: fc.Arbitrary<One[]> = fc
  .array(fc.subarray([...roles], { minLength: 1 }), { maxLength: 6 })
  .map((all) => all.map((have, id) => ({ id, roles: have })));

describe('the approvals of several roles', () => {
  it('are as many as any way of counting each person once could fill, and say what is missing', () => {
    fc.assert(
      fc.property(people, required, (all, wanted) => {
        const { seated, needed, missing } = fillQuorum(all, wanted);
        for (const { role, count } of wanted) {
          const holders = [...seated].filter(([, as]) => as === role);
          for (const [person] of holders) expect(person.roles).toContain(role);
          expect(holders.length + (missing.find((one) => one.role === role)?.count ?? 0)).toBe(count);
        }
        expect(needed).toBe(wanted.reduce((sum, { count }) => sum + count, 0));
        expect(seated.size).toBe(most(all, new Map(wanted.map(({ role, count }) => [role, count]))));
      }),
    );
  });

  it('name every role of which one more person helps, and no other', () => {
    fc.assert(
      fc.property(people, required, (all, wanted) => {
        const before = fillQuorum(all, wanted);
        const named = [...before.missing.map(({ role }) => role as string), ...before.alternatives];
        for (const role of roles) {
          const after = fillQuorum([...all, { id: -1, roles: [role] }], wanted);
          expect(after.seated.size - before.seated.size, role).toBe(named.includes(role) ? 1 : 0);
        }
      }),
    );
  });

  it('keep who counted when others approve too', () => {
    fc.assert(
      fc.property(people, required, (all, wanted) => {
        const later = fillQuorum(all, wanted).seated;
        for (const person of fillQuorum(all.slice(0, -1), wanted).seated.keys())
          expect(later.has(person)).toBe(true);
      }),
    );
  });

  it('say that somebody who has two roles leaves the other one to whoever comes', () => {
    const wanted: Required = [
      { role: 'validator', count: 1 },
      { role: 'devops', count: 1 },
    ];
    const both = { id: 1, roles: ['validator', 'devops'] };
    expect(missingText(fillQuorum([both], wanted))).toBe('1 devops (or validator in place of one)');
    const full = fillQuorum([both, { id: 2, roles: ['validator'] }], wanted);
    expect([...full.seated].map(([one, as]) => [one.id, as])).toEqual([
      [2, 'validator'],
      [1, 'devops'],
    ]);
    expect(missingText(fillQuorum([], wanted))).toBe('1 validator, 1 devops');
  });
});
