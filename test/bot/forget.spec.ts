import { beforeEach, describe, expect, it } from 'vitest';
import { createForgetting, forgetDeliveries, forgetNotes } from '../../bot/forget.ts';
import { createBotState } from '../../bot/state.ts';
import { useDatabase } from './database.ts';

const day = 86_400_000;
const now = new Date('2026-03-20T12:00:00Z');
const before = (days: number) => new Date(now.getTime() - days * day);

describe('deliveries that were taken in', () => {
  const database = useDatabase();
  beforeEach(async () => {
    await database().query('truncate deliveries');
  });

  const add = (id: string, days: number) =>
    database().query('insert into deliveries (id, received_at) values ($1, $2)', [id, before(days)]);
  const ids = async () =>
    (await database().query<{ id: string }>('select id from deliveries order by id')).map(({ id }) => id);

  it('are remembered for seven days', async () => {
    await add('fresh', 0);
    await add('a week, nearly', 6.99);
    await add('older', 7.01);
    await add('old', 400);
    expect(await forgetDeliveries(database(), now)).toBe(2);
    expect(await ids()).toEqual(['a week, nearly', 'fresh']);
    expect(await forgetDeliveries(database(), now)).toBe(0);
  });

  it('are looked through at the start and once a day', async () => {
    const forget = createForgetting(database());
    await add('old', 30);
    expect(await forget(now)).toBe(1);
    await add('old', 30);
    expect(await forget(new Date(now.getTime() + day - 1))).toBeNull();
    expect(await ids()).toEqual(['old']);
    expect(await forget(new Date(now.getTime() + day))).toBe(1);
    expect(await ids()).toEqual([]);
  });
});

describe('notes of commands', () => {
  const database = useDatabase();
  const names = async () =>
    (await database().query<{ name: string }>('select name from bot_cursors order by name')).map(
      ({ name }) => name,
    );

  it('go when their comment was answered seven days ago, and no others do', async () => {
    const state = createBotState(database(), 'acme/fashion');
    const other = createBotState(database(), 'acme/other');
    const kept = ['kept/5/base', 'kept/7/base', 'other/6/base', 'paused/5', 'shown/5/fashion/production'];
    for (const name of [...kept, 'deploy/5/fashion/production', 'kept/6/base', 'kept/6/tune/a', 'said/6']) {
      await state.setCursor(name, 'something');
    }
    await other.setCursor('kept/6/base', 'something');
    await state.setHandled('5');
    await state.setHandled('6');
    const answered = (comment: string, days: number) =>
      database().query('update bot_comments set handled_at = $1 where comment = $2', [before(days), comment]);
    await answered('5', 6.9);
    await answered('6', 7.1);
    expect(await forgetNotes(database(), now)).toBe(3);
    expect(await names()).toEqual([...kept, 'deploy/5/fashion/production', 'kept/6/base'].sort());
    await answered('5', 30);
    expect(await createForgetting(database())(now)).toBe(2);
    expect(await names()).toEqual(kept.slice(1).concat('kept/6/base').sort());
  });
});
