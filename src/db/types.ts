import type { Pool } from 'pg';

/** Where SQL can be sent. `params` fill `$1`, `$2` …; the rows come back as they are (bigint as number, jsonb parsed). */
export interface Queryable {
  query<T>(sql: string, params?: readonly unknown[]): Promise<T[]>;
}

/**
 * A PostgreSQL database with this program's tables in it. A server that cannot be reached is an UpstreamError, retryable;
 * wrong credentials UserError database-unavailable; what PostgreSQL says about the SQL itself is a pg DatabaseError with
 * its SQLSTATE as `code`.
 */
export interface Database extends Queryable {
  /** How any PostgreSQL client connects to it. May hold a password: not for logs. */
  readonly url: string;
  /** For libraries that want connections of their own. */
  readonly pool: Pool;
  /**
   * Runs `action` in one transaction: committed when it returns, rolled back when it throws. Run again from its start when
   * PostgreSQL ends it for another's sake (serialization failure, deadlock), so it must have no other effects.
   */
  transaction<T>(action: (transaction: Queryable) => Promise<T>): Promise<T>;
  /**
   * Calls `hear` for each NOTIFY on the channel until the returned function is called. Survives a lost connection, and then
   * calls `hear(null)`: something may have been missed.
   */
  listen(channel: string, hear: (payload: string | null) => void): Promise<() => Promise<void>>;
  close(): Promise<void>;
}
