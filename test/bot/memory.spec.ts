import { describe, expect, it } from 'vitest';
import { rememberChange } from '../../bot/memory.ts';
import { createBotState } from '../../bot/state.ts';
import type { BotState } from '../../bot/types.ts';
import { digestJson } from '../../src/index.ts';
import { useDatabase } from './database.ts';

const database = useDatabase();
const review = digestJson('review');
const at = '2026-01-01T10:00:00.123Z';

const approval = (change: number, userId: string) => ({
  ...{ change, model: 'fashion', environment: 'production', review, userId, username: userId },
  ...{ role: 'validator', override: null, comment: '1', at },
});
const job = (change: number, id: string, endedAt: string | null) => ({
  ...{ job: id, pipeline: '7', change, name: 'train', seconds: 1.5, gpu: true, endedAt },
});
const rejection = (change: number) => ({
  ...{ change, head: 'a'.repeat(40), about: [review], step: 'train', reason: '"why"' },
  ...{ userId: 'vera', username: 'vera', at },
});

/** A state of its own, filled with what is remembered of two changes; counts what is asked. */
async function filled(project: string) {
  const asked: string[] = [];
  const state = createBotState(database(), project);
  for (const change of [12, 120]) {
    await state.addApproval(approval(change, `u${change}`));
    await state.setRejection(rejection(change));
    await state.addPipeline(`p${change}`, change);
    await state.setJobs([job(change, `a${change}`, at), job(change, `b${change}`, null)]);
    await state.setCursor(`paused/${change}`, 'eve');
    await state.setCursor(`history/${change}/fashion/production`, '[]');
  }
  await state.setCursor('failed/12/x change:12', 'another’s');
  await state.setCursor('failed/acme/fashion change:12', 'broken');
  await state.setCursor('heads', '{}');
  const counting = Object.fromEntries(
    Object.entries(state).map(([name, ask]) => [
      name,
      (...args: never[]) => {
        asked.push(name);
        return (ask as (...all: never[]) => unknown)(...args);
      },
    ]),
  ) as unknown as BotState;
  return { state, asked, memory: rememberChange(counting, 12, 'failed/acme/fashion change:12') };
}

describe('the memory of a task about a change', () => {
  it('says what the state says, with one question for all of it', async () => {
    const { state, asked, memory } = await filled('acme/one');
    expect(await memory.approvals(12)).toEqual(await state.approvals(12));
    expect(await memory.rejections(12)).toEqual(await state.rejections(12));
    expect(await memory.pipelinesFor(12)).toEqual(['p12']);
    expect(await memory.jobsOf(12)).toEqual(await state.jobsOf(12));
    expect(await memory.cursor('paused/12')).toBe('eve');
    expect(await memory.cursor('history/12/fashion/production')).toBe('[]');
    expect(await memory.cursor('absent/12')).toBeNull();
    expect(await memory.cursor('failed/acme/fashion change:12')).toBe('broken');
    expect(asked).toEqual(['remembered']);
    expect(await memory.cursor('paused/120')).toBe('eve');
    expect(await memory.cursor('heads')).toBe('{}');
    expect(await memory.cursor('failed/12/x change:12')).toBe('another’s');
    expect(await memory.approvals(120)).toHaveLength(1);
  });

  it('sees what the task itself changes, and writes no note that is there already', async () => {
    const { state, asked, memory } = await filled('acme/two');
    await memory.setCursor('paused/12', '');
    expect(await memory.cursor('paused/12')).toBe('');
    expect(await state.cursor('paused/12')).toBe('');
    await memory.addApproval(approval(12, 'walt'));
    expect(await memory.approvals(12)).toHaveLength(2);
    await memory.liftRejection(12, 'vera', at);
    expect(await memory.rejections(12)).toEqual([]);
    await memory.setJobs([job(12, 'b12', at)]);
    expect((await memory.jobsOf(12)).every((one) => one.endedAt !== null)).toBe(true);
    asked.length = 0;
    await memory.setCursor('paused/12', '');
    await memory.setCursor('never/12', '');
    expect(asked).toEqual([]);
  });

  it('asks again when the database did not answer', async () => {
    const { state } = await filled('acme/three');
    let fails = true;
    const memory = rememberChange(
      {
        ...state,
        remembered: async (...args) => {
          if (fails) throw new Error('away');
          return state.remembered(...args);
        },
      },
      12,
      '',
    );
    await expect(memory.cursor('paused/12')).rejects.toThrow('away');
    await expect(memory.approvals(12)).rejects.toThrow('away');
    fails = false;
    expect(await memory.cursor('paused/12')).toBe('eve');
    expect(await memory.approvals(12)).toHaveLength(1);
  });
});

describe('comments that nobody answered', () => {
  it('are told at once, in their order', async () => {
    const state = createBotState(database(), 'acme/comments');
    await state.setHandled('3');
    await createBotState(database(), 'acme/others').setHandled('5');
    expect(await state.unhandled(['5', '3', '4'])).toEqual(['5', '4']);
    expect(await state.unhandled([])).toEqual([]);
  });

  it('counts the newest word of a person, also when an older one is read late, or again', async () => {
    const state = createBotState(database(), 'acme/words');
    const said = (second: number) => ({ ...rejection(12), at: `2026-01-01T10:00:0${second}.000Z` });
    await state.setRejection(said(1));
    await state.liftRejection(12, 'vera', said(2).at);
    await state.setRejection(said(1));
    expect(await state.rejections(12)).toEqual([]);
    await state.setRejection(said(3));
    await state.liftRejection(12, 'vera', said(2).at);
    expect(await state.rejections(12)).toEqual([said(3)]);
    await state.liftRejection(12, 'walt', said(4).at);
    await state.setRejection({ ...said(3), userId: 'walt' });
    expect((await state.rejections(12)).map((one) => one.userId)).toEqual(['vera']);
  });
});
