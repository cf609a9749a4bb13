import { beforeEach, describe, expect, it } from 'vitest';
import { createForgetting, forgetDeliveries } from '../../bot/forget.ts';
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
