import { type RequiredRole, requiredApprovals } from '../src/index.ts';
import type { Facts, StandingApproval } from './types.ts';

/** Who fills which of the places that approving a change takes. */
export interface Quorum<T> {
  /** People who count, and the role each of them counts for. */
  seated: Map<T, string>;
  /** Places there are. */
  needed: number;
  /** Places nobody fills, by role in the order of the rules. */
  missing: RequiredRole[];
  /** Other roles of which one more person would do too, because somebody who counts there can count elsewhere. */
  alternatives: string[];
}

/** Places by role that as many people as can be fill, each at most one. */
function seat<T extends { roles: readonly string[] }>(
  people: readonly T[],
  places: readonly string[],
): (T | undefined)[] {
  const holders: (T | undefined)[] = places.map(() => undefined);
  /** Finds a place for a person, moving others where that makes one free. */
  function place(person: T, tried: Set<number>): boolean {
    for (const [index, role] of places.entries()) {
      if (tried.has(index) || !person.roles.includes(role)) continue;
      tried.add(index);
      const holder = holders[index];
      if (holder && !place(holder, tried)) continue;
      holders[index] = person;
      return true;
    }
    return false;
  }
  for (const person of people) place(person, new Set());
  return holders;
}

/**
 * Seats people (each once, with the roles they have) so that as many places as possible are filled: a maximum matching by
 * augmenting paths (Berge 1957; Kuhn 1955). Who came first keeps a place. Pure.
 */
export function fillQuorum<T extends { roles: readonly string[] }>(
  people: readonly T[],
  required: readonly RequiredRole[],
): Quorum<T> {
  const places = required.flatMap(({ role, count }) => Array.from({ length: count }, () => role));
  const holders = seat(people, places);
  const free = places.filter((_role, index) => !holders[index]);
  const missing = required.flatMap(({ role }) => {
    const count = free.filter((one) => one === role).length;
    return count > 0 ? [{ role, count }] : [];
  });
  const wouldHelp = (role: string) =>
    seat([...people, { roles: [role] }] as { roles: readonly string[] }[], places).filter(Boolean).length >
    places.length - free.length;
  return {
    seated: new Map(holders.flatMap((one, index) => (one ? [[one, places[index]!]] : []))),
    needed: places.length,
    missing,
    alternatives:
      free.length === 0
        ? []
        : required.map(({ role }) => role).filter((role) => !free.includes(role) && wouldHelp(role)),
  };
}

/** Approvals that count: with a failed gate only those that say why it is overruled. */
export function countingApprovals(facts: Pick<Facts, 'approvals' | 'answer'>): StandingApproval[] {
  const failed = facts.answer?.evaluation.verdict === 'fail';
  return facts.approvals.filter((approval) => !failed || approval.override !== null);
}

/** How the approvals of a model that has rules fill what those ask for. */
export function quorumOf(facts: Pick<Facts, 'approvals' | 'answer' | 'rules'>): Quorum<StandingApproval> {
  return fillQuorum(countingApprovals(facts), requiredApprovals(facts.rules!.project.approvals));
}

/** Who is still missing, as `1 validator, 2 devops`. */
export function missingText({ missing, alternatives }: Quorum<unknown>): string {
  const all = missing.map(({ role, count }) => `${count} ${role}`).join(', ');
  return alternatives.length > 0 ? `${all} (or ${alternatives.join(' or ')} in place of one)` : all;
}
