import { createWriteStream } from 'node:fs';
import { chmod, cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backupText, batchRows, writeBackup } from '../../src/db/backup.ts';
import { type Database, openDatabase, openQueue } from '../../src/db/index.ts';
import { migrate, migrationsFolder } from '../../src/db/migrate.ts';
import { restoreBackup } from '../../src/db/restore.ts';

let folder: string;
let database: Database;
/** Migrations of a version that keeps values of more types. */
let migrations: string;
let file: string;

const types = {
  j: 'jsonb',
  b: 'bytea',
  n: 'bigint',
  d: 'numeric',
  t: 'timestamptz',
  f: 'double precision',
  a: 'text[]',
  y: 'boolean',
};
const names = Object.keys(types);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-values-'));
  await chmod(folder, 0o711);
  database = await openDatabase({ url: null, folder: join(folder, 'database') });
  migrations = join(folder, 'migrations');
  file = join(folder, 'backup.gz');
  await cp(migrationsFolder(), migrations, { recursive: true });
  const added = Object.entries(types).map(([name, type]) => `add column ${name} ${type}`);
  await writeFile(
    join(migrations, '900-types.sql'),
    `alter table bot_cursors ${added.join(', ')}; update bot_cursors set f = length(value)`,
  );
});
afterAll(async () => {
  await database?.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
});

const back = () => writeBackup(database, createWriteStream(file));

describe('a backup', () => {
  it('of an earlier version is brought up to date with its rows, as the database would have been', async () => {
    await database.query(`insert into bot_cursors (project, name, value) values ('p', 'old', '12345')`);
    await back();
    await migrate(database, migrations);
    await database.query(`update bot_cursors set f = 0, value = 'later'`);
    await restoreBackup(database, file, { force: true, migrations });
    expect(await database.query('select name, value, f from bot_cursors')).toEqual([
      { name: 'old', value: '12345', f: 5 },
    ]);
  });

  it('of a later version is refused, and names what is not known', async () => {
    await back();
    await expect(restoreBackup(database, file, { force: true })).rejects.toMatchObject({
      code: 'database-mismatch',
      message: expect.stringContaining('900-types.sql'),
    });
    expect(await database.query('select name from bot_cursors')).toEqual([{ name: 'old' }]);
  });

  it('gives values of every type back as they were', async () => {
    const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });
    const text = fc.string({ unit: 'binary' }).filter((one) => !one.includes('\0'));
    const big = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String);
    const json = fc
      .jsonValue({ noUnicodeString: false })
      .map((value) => JSON.stringify(value))
      .filter((one) => !one.includes('\\u0000') && !/\\ud[89a-f]/i.test(one));
    const row = fc.tuple(
      text,
      maybe(json),
      maybe(fc.uint8Array().map((bytes) => `\\x${Buffer.from(bytes).toString('hex')}`)),
      maybe(big),
      maybe(fc.tuple(big, fc.nat()).map(([whole, part]) => `${whole}.${part}`)),
      maybe(
        fc.oneof(
          fc.constantFrom('infinity', '-infinity', '0044-03-15 12:00:00.000001+00 BC'),
          fc
            .tuple(fc.date({ min: new Date(0), noInvalidDate: true }), fc.nat(999))
            .filter(([at]) => at.getUTCFullYear() < 10_000)
            .map(([at, micros]) => at.toISOString().replace('Z', `${String(micros).padStart(3, '0')}Z`)),
        ),
      ),
      maybe(fc.double().map((value) => (Object.is(value, -0) ? '-0' : String(value)))),
      maybe(fc.array(maybe(text))),
      maybe(fc.boolean()),
    );
    // Read on a connection with other habits than those a backup is made with.
    const read = () =>
      database.transaction(async (transaction) => {
        await transaction.query(`set local datestyle = 'SQL, DMY'; set local timezone = 'Asia/Kolkata'`);
        return transaction.query(
          `select value, ${names.map((name) => `${name}::text`).join(', ')} from bot_cursors order by name`,
        );
      });
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 20 }), async (rows) => {
        await database.query('delete from bot_cursors');
        for (const [index, [value, ...others]] of rows.entries()) {
          const cast = Object.values(types).map((type, at) => `$${at + 3}::${type}`);
          await database.query(
            `insert into bot_cursors (project, name, value, ${names.join(', ')}) values ('p', $1, $2, ${cast.join(', ')})`,
            [String(index).padStart(3, '0'), value, ...others],
          );
        }
        const before = await read();
        await back();
        await database.query('delete from bot_cursors');
        await restoreBackup(database, file, { force: true, migrations });
        expect(await read()).toEqual(before);
      }),
      { numRuns: 8 },
    );
  });

  it('says what else depends on the tables, and leaves all as it was', async () => {
    await back();
    await database.query('create view dashboard as select count(*) from bot_cursors');
    const before = await database.query('select name, value, n::text from bot_cursors order by name');
    await expect(restoreBackup(database, file, { force: true, migrations })).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringContaining('dashboard'),
    });
    expect(await database.query('select name, value, n::text from bot_cursors order by name')).toEqual(
      before,
    );
    await database.query('drop view dashboard');
  });

  it('has a task that ran as one that waits, and its try was none', async () => {
    const queue = await openQueue(database, {}, { concurrency: 1 });
    await queue.add('t', { n: 1 }, { key: 'k', queue: 'q', attempts: 3 });
    await database.query(
      `update graphile_worker._private_jobs set attempts = 3, locked_at = now(), locked_by = 'w', last_error = 'earlier'`,
    );
    await back();
    await restoreBackup(database, file, { force: true, migrations });
    expect(
      await database.query(
        `select key, queue_name, attempts, max_attempts, locked_at, last_error from graphile_worker.jobs`,
      ),
    ).toEqual([
      { key: 'k', queue_name: 'q', attempts: 2, max_attempts: 3, locked_at: null, last_error: 'earlier' },
    ]);
    await queue.stop();
  });

  it('asks for rows no faster than they are taken', async () => {
    await database.query(
      `insert into deliveries (id) select n::text from generate_series(1, ${batchRows * 3}) n`,
    );
    let fetched = 0;
    let taken = 0;
    const nothing = () => {};
    await database.transaction(async (transaction) => {
      const counting: typeof transaction = {
        async query(sql, params) {
          const rows = await transaction.query<never>(sql, params);
          if (sql.startsWith('fetch')) fetched += rows.length;
          return rows;
        },
      };
      for await (const piece of backupText(counting, nothing, nothing)) {
        if (piece.startsWith('[')) taken += piece.split('\n').length - 1;
        expect(fetched).toBe(taken);
      }
    });
    expect(taken).toBeGreaterThanOrEqual(batchRows * 3);
  });
});
