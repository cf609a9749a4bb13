import type { Database } from '../src/index.ts';

const day = 86_400_000;

/**
 * Days for which a delivery is remembered. Forges send one again within minutes to hours, and GitHub lets a person do it for
 * three days (docs.github.com, redelivering webhooks); signatures are refused after five minutes anyway.
 */
const remembered = 7;

/** Forgets deliveries that nobody sends again, of all projects of the database; how many. Throws UpstreamError. */
export async function forgetDeliveries(database: Database, now: Date): Promise<number> {
  const [row] = await database.query<{ count: number }>(
    `with gone as (delete from deliveries where received_at < $1 returning 1) select count(*)::int as count from gone`,
    [new Date(now.getTime() - remembered * day).toISOString()],
  );
  return row?.count ?? 0;
}

/**
 * Forgets what was noted to go on with a command after a kill, of comments that were answered as long ago, of all projects of
 * the database; how many notes. Throws UpstreamError.
 */
export async function forgetNotes(database: Database, now: Date): Promise<number> {
  const [row] = await database.query<{ count: number }>(
    `with gone as (
       delete from bot_cursors as note using bot_comments as comment
       where note.project = comment.project and split_part(note.name, '/', 2) = comment.comment
         and split_part(note.name, '/', 1) in ('kept', 'said', 'deploy') and comment.handled_at < $1
       returning 1)
     select count(*)::int as count from gone`,
    [new Date(now.getTime() - remembered * day).toISOString()],
  );
  return row?.count ?? 0;
}

/**
 * {@link forgetDeliveries} and {@link forgetNotes}, at the first call and then once a day at most; null when it was not time. A failure is tried again
 * at the next call. Two bots on one database may both do it.
 */
export function createForgetting(database: Database): (now: Date) => Promise<number | null> {
  let last: number | null = null;
  return async (now) => {
    if (last !== null && now.getTime() - last < day) return null;
    const count = (await forgetDeliveries(database, now)) + (await forgetNotes(database, now));
    last = now.getTime();
    return count;
  };
}
