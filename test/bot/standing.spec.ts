import { expect, it } from 'vitest';
import type { Converged } from '../../bot/converge.ts';
import { changesThatWait, noteStanding, readStandings } from '../../bot/standing.ts';

const judged = (description: string, standing: Converged['standing'] = 'judged'): Converged => ({
  model: 'fashion',
  environment: 'production',
  standing,
  status: { name: 'cdl/fashion', state: 'pending', description, url: null, pipeline: null },
  isOpen: true,
});

it('how a change stands is written when it stands otherwise, and once a minute', async () => {
  const notes = new Map<string, string>();
  const written: string[] = [];
  const state = {
    cursor: async (name: string) => notes.get(name) ?? null,
    cursors: async (prefix: string) =>
      [...notes].flatMap(([name, value]) => (name.startsWith(prefix) && value !== '' ? [name] : [])),
    setCursor: async (name: string, value: string) => {
      if ((notes.get(name) ?? '') !== value) written.push(name);
      notes.set(name, value);
    },
  };
  const look = async (second: number, one: Converged) => {
    written.length = 0;
    await noteStanding(state, 12, [one], new Date(Date.UTC(2026, 0, 1, 0, 0, second)));
    return written;
  };
  expect(await look(0, judged('evaluated'))).toEqual(['standing/12']);
  expect(await look(59, judged('evaluated'))).toEqual([]);
  expect(await look(60, judged('evaluated'))).toEqual(['standing/12']);
  expect(await look(61, judged('approved'))).toEqual(['standing/12']);
  expect(await look(62, judged('training', 'waiting'))).toEqual(['standing/12', 'waits/12']);
  expect(await changesThatWait(state)).toEqual([12]);
  expect(await look(63, judged('training', 'waiting'))).toEqual([]);
  // Nothing tells that who approved has lost the right to; what is merged stays decided.
  const { status, ...one } = judged('approved');
  const approved = { ...one, status: { ...status, state: 'success' as const } };
  await look(64, approved);
  expect(await changesThatWait(state)).toEqual([12]);
  await look(65, { ...approved, isOpen: false });
  expect(await changesThatWait(state)).toEqual([]);
  await look(66, judged('training', 'waiting'));
  const all = readStandings([...notes].map(([name, value]) => ({ name, value })));
  expect(all.get(12)).toMatchObject({ at: '2026-01-01T00:01:06.000Z', models: [{ says: 'training' }] });
});
