import { setTimeout as wait } from 'node:timers/promises';
import type { Client, PoolClient } from 'pg';
import { UpstreamError, UserError } from '../core/error.ts';
import type { Database, Queryable } from './types.ts';

/**
 * A server to connect to. `revive` brings a lost one back (null: it is not ours to bring back), `release` is for when
 * the database is closed. */
export interface Server {
  readonly url: string;
  readonly revive: (() => Promise<void>) | null;
  release(): Promise<void>;
}

/** SQLSTATEs of class 57 that say "not now": shutting down, crashed, starting up (PostgreSQL manual, appendix A). */
const away = new Set(['57P01', '57P02', '57P03', '53300']);
const refused = new Set(['28000', '28P01', '3D000']);
const startOver = new Set(['40001', '40P01']);
const unreachable = /^(E[A-Z]+|CONNECT_TIMEOUT)$/;

/** Connects to a server, without looking at what is in it. Throws as {@link Database} does. */
export async function connect(server: Server): Promise<Database> {
  const pg = (await import('pg')).default;
  const config = {
    connectionString: server.url,
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
    types: { getTypeParser: parserOf(pg.types) },
  };
  const pool = new pg.Pool({ ...config, max: 10 });
  // An idle connection that breaks is replaced by the next query; unheard, the event would end the process.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));
  const listeners = new Set<() => Promise<void>>();
  let closed: Promise<void> | null = null;

  const taken = <C>(take: () => Promise<C>): Promise<C> =>
    takeConnection(server, take, () => closed !== null);

  async function withClient<T>(action: (client: PoolClient) => Promise<T>): Promise<T> {
    const client = await taken(() => pool.connect());
    let broken = false;
    const onError = () => {
      broken = true;
    };
    client.on('error', onError);
    try {
      return await action(client);
    } catch (error) {
      const told = explain(error, server.url);
      broken ||= told instanceof UpstreamError;
      throw told;
    } finally {
      client.off('error', onError);
      client.release(broken);
    }
  }

  const database: Database = {
    url: server.url,
    pool,
    query: (sql, params) => withClient((client) => rowsOf(client, sql, params)),

    async transaction(action) {
      for (let attempt = 1; ; attempt++) {
        try {
          return await withClient((client) => inTransaction(client, action));
        } catch (error) {
          if (!startOver.has(codeOf(error) ?? '') || attempt === 10) throw error;
          await wait(Math.random() * 10 * attempt);
        }
      }
    },

    async listen(channel, hear) {
      const stop = await keepListening(
        () =>
          taken(async () => {
            const client = new pg.Client(config);
            await client.connect();
            return client;
          }),
        channel,
        hear,
      );
      listeners.add(stop);
      return async () => {
        listeners.delete(stop);
        await stop();
      };
    },

    close() {
      closed ??= (async () => {
        await Promise.all([...listeners].map((stop) => stop()));
        await pool.end();
        await server.release();
      })();
      return closed;
    },
  };
  try {
    await database.query('select 1');
  } catch (error) {
    await database.close();
    throw error;
  }
  return database;
}

async function rowsOf<T>(
  client: Client | PoolClient,
  sql: string,
  params: readonly unknown[] = [],
): Promise<T[]> {
  // Without parameters the simple protocol is used, which takes several statements at once, as migrations need.
  const result = params.length > 0 ? await client.query(sql, [...params]) : await client.query(sql);
  return result.rows as T[];
}

async function inTransaction<T>(client: PoolClient, action: (inside: Queryable) => Promise<T>): Promise<T> {
  await client.query('begin');
  try {
    const result = await action({ query: (sql, params) => rowsOf(client, sql, params) });
    await client.query('commit');
    return result;
  } catch (error) {
    // A connection that is gone has rolled back by itself.
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
}

/** Takes a connection; a server of our own that is away is revived and tried again for a while. */
async function takeConnection<C>(
  server: Server,
  take: () => Promise<C>,
  isClosed: () => boolean,
): Promise<C> {
  const until = Date.now() + 10_000;
  for (;;) {
    try {
      return await take();
    } catch (error) {
      const told = explain(error, server.url);
      if (!server.revive || !(told instanceof UpstreamError) || isClosed() || Date.now() > until) throw told;
      await server.revive();
      await wait(50);
    }
  }
}

/** Listens on a connection of its own, and on another one when that breaks. */
async function keepListening(
  open: () => Promise<Client>,
  channel: string,
  hear: (payload: string | null) => void,
): Promise<() => Promise<void>> {
  let stopped = false;
  let current: Client;

  const begin = async (): Promise<void> => {
    const client = await open();
    client.on('error', () => undefined);
    client.on('notification', (message) => {
      if (message.channel === channel) hear(message.payload ?? '');
    });
    await client.query(`listen ${client.escapeIdentifier(channel)}`);
    client.once('end', () => {
      if (!stopped) restarting = restart();
    });
    current = client;
    if (stopped) await client.end();
  };
  const restart = async (): Promise<void> => {
    while (!stopped) {
      try {
        await begin();
        if (!stopped) hear(null);
        return;
      } catch {
        await wait(500, undefined, { ref: false });
      }
    }
  };
  let restarting: Promise<void> = Promise.resolve();

  await begin();
  return async () => {
    stopped = true;
    await current!.end();
    await restarting;
  };
}

/** Tells the server's own failures from what it says about the SQL, which passes as it is. */
export function explain(error: unknown, url: string): unknown {
  if (!(error instanceof Error) || error instanceof UserError || error instanceof UpstreamError) return error;
  const code = codeOf(error) ?? '';
  const where = withoutPassword(url);
  if (refused.has(code)) {
    return new UserError('database-unavailable', `${where}: ${error.message}`, undefined, { cause: error });
  }
  const lost = /^Connection terminated|^Client has encountered a connection error|timeout exceeded/i;
  if (!away.has(code) && !unreachable.test(code) && !code.startsWith('08') && !lost.test(error.message)) {
    return error;
  }
  const message = `${where}: ${error.message || code}`;
  return new UpstreamError('database', message, { retryable: true, cause: error });
}

function codeOf(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null;
}

function withoutPassword(url: string): string {
  return url.replace(/^(\w+:\/\/[^:@/]*):[^@/]*@/, '$1@');
}

/** int8 as a number: counts and sizes of ours stay far below 2^53, and beyond it an error is better than a wrong value. */
function parserOf(types: typeof import('pg').types): typeof import('pg').types.getTypeParser {
  const int8 = (text: string): number => {
    const value = Number(text);
    if (!Number.isSafeInteger(value)) throw new RangeError(`${text} does not fit a number`);
    return value;
  };
  return ((oid: number, format?: 'text' | 'binary') =>
    oid === 20 && format !== 'binary'
      ? int8
      : types.getTypeParser(oid, format as 'text')) as typeof types.getTypeParser;
}
