import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import {
  agreementOfVotes,
  encodeLabelSet,
  ratingsOf,
  resolveVotes,
  type Vote,
} from '../../src/data/label-set.ts';

const item = digestBytes('one');
const classes = ['sport', 'business'];

function vote(
  annotation: string,
  labeler: string | null,
  choices: string[],
  at = '2026-01-01T00:00:00.000Z',
): Vote {
  return { item, annotation, labeler, choices, at };
}

const majority = { annotations: 2, resolve: 'majority' as const };

describe('votes', () => {
  it('decide by more than half of them', () => {
    const two = [vote('1', 'a', ['sport']), vote('2', 'b', ['sport'])];
    expect(resolveVotes(two, majority, classes)).toEqual({ kind: 'labelled', label: 'sport' });
    const three = [...two, vote('3', 'c', ['business'])];
    expect(resolveVotes(three, majority, classes)).toEqual({ kind: 'labelled', label: 'sport' });
    expect(resolveVotes(three, { ...majority, resolve: 'unanimous' }, classes)).toEqual({
      kind: 'conflict',
      choices: [
        ['sport', 2],
        ['business', 1],
      ],
    });
  });

  it('decide nothing when they tie, are too few, or say what is no class', () => {
    expect(
      resolveVotes([vote('1', 'a', ['sport']), vote('2', 'b', ['business'])], majority, classes).kind,
    ).toBe('conflict');
    expect(resolveVotes([vote('1', 'a', ['sport'])], majority, classes)).toEqual({
      kind: 'scarce',
      votes: 1,
    });
    expect(resolveVotes([vote('1', 'a', []), vote('2', 'b', [])], majority, classes).kind).toBe('scarce');
    expect(resolveVotes([vote('1', 'a', ['tech']), vote('2', 'b', ['tech'])], majority, classes)).toEqual({
      kind: 'unknown-choice',
      choice: 'tech',
    });
  });

  it('of one labeler count once, the newest of them, and without a labeler each', () => {
    const twice = [vote('1', 'a', ['sport']), vote('2', 'a', ['business'], '2026-01-02T00:00:00.000Z')];
    expect(resolveVotes(twice, majority, classes)).toEqual({ kind: 'scarce', votes: 1 });
    expect(resolveVotes([...twice, vote('3', 'b', ['business'])], majority, classes)).toEqual({
      kind: 'labelled',
      label: 'business',
    });
    const nameless = [vote('1', null, ['sport']), vote('2', null, ['sport'])];
    expect(resolveVotes(nameless, majority, classes).kind).toBe('labelled');
  });

  it('with a list of choices agree whatever its order, and give no single class', () => {
    const both = [vote('1', 'a', ['sport', 'business']), vote('2', 'b', ['business', 'sport'])];
    expect(resolveVotes(both, majority, classes)).toEqual({
      kind: 'conflict',
      choices: [['business + sport', 2]],
    });
    const other = digestBytes('two');
    const more = [
      ...both,
      { ...vote('3', 'a', ['tech']), item: other },
      { ...vote('4', 'b', ['tech']), item: other },
    ];
    expect(agreementOfVotes(more).alpha).toBe(1);
    const partly = more.map((one) => (one.annotation === '2' ? { ...one, choices: ['sport'] } : one));
    const apart = more.map((one) => (one.annotation === '2' ? { ...one, choices: ['science'] } : one));
    expect(agreementOfVotes(partly).alpha).toBeCloseTo(4 / 7, 12);
    expect(agreementOfVotes(apart).alpha).toBeLessThan(4 / 7);
  });

  it('with lists of choices decide for each choice by itself, unless all have to say the same', () => {
    const lists = (...all: string[][]) => all.map((choices, at) => vote(String(at), `l${at}`, choices));
    const resolve = (all: string[][], how: 'majority' | 'unanimous') =>
      resolveVotes(lists(...all), { annotations: 2, resolve: how }, ['sport', 'business', 'tech']);
    const apart = [['sport'], ['sport', 'business'], ['sport', 'tech']];
    expect(resolve(apart, 'majority')).toEqual({ kind: 'labelled', label: 'sport' });
    expect(resolve(apart, 'unanimous')).toEqual({
      kind: 'conflict',
      choices: [
        ['business + sport', 1],
        ['sport', 1],
        ['sport + tech', 1],
      ],
    });
    expect(resolve([['sport'], ['sport', 'sport']], 'unanimous')).toEqual({
      kind: 'labelled',
      label: 'sport',
    });
    const two = [['sport', 'business'], ['business', 'sport'], ['tech']];
    expect(resolve(two, 'majority').kind).toBe('conflict');
    expect(resolve([['sport'], ['business'], ['tech']], 'majority').kind).toBe('conflict');
  });

  it('of one choice each are what more than half, or all, say', () => {
    const names = ['a', 'b', 'c'];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 7 }), (said) => {
        const votes = said.map((choice, at) => vote(String(at), `l${at}`, [choice]));
        const most = names.find((name) => said.filter((one) => one === name).length * 2 > said.length);
        const made = resolveVotes(votes, { annotations: 1, resolve: 'majority' }, names);
        expect(made.kind === 'labelled' ? made.label : undefined).toBe(most);
        const all = resolveVotes(votes, { annotations: 1, resolve: 'unanimous' }, names);
        expect(all.kind).toBe(new Set(said).size === 1 ? 'labelled' : 'conflict');
      }),
    );
  });

  it('without a labeler are each a labeler of their own, and of one labeler the newest counts', () => {
    expect(
      ratingsOf([
        vote('1', 'a', ['sport']),
        vote('2', 'a', ['business'], '2026-01-02T00:00:00.000Z'),
        vote('3', null, ['sport']),
        vote('4', null, ['business']),
      ]),
    ).toEqual([['business', 'sport', 'business']]);
  });

  it('make one text whatever order they come in', () => {
    const votes = Array.from({ length: 6 }, (_, index) => ({
      ...vote(String(index), `l${index % 2}`, ['sport', 'business']),
      item: digestBytes(String(index % 3)),
    }));
    const set = { v: 1 as const, project: 'p', dataset: 'd', side: 'train' as const };
    const text = encodeLabelSet({ ...set, votes });
    fc.assert(
      fc.property(fc.shuffledSubarray(votes, { minLength: 6 }), (shuffled) => {
        expect(encodeLabelSet({ ...set, votes: shuffled })).toBe(text);
      }),
      { numRuns: 20 },
    );
  });
});
