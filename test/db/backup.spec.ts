import { createHash, randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeBackup } from '../../src/db/backup.ts';
import { queueSection } from '../../src/db/backup-format.ts';
import { type Database, openDatabase, openQueue } from '../../src/db/index.ts';
import { restoreBackup, writeRows } from '../../src/db/restore.ts';
import { functions, sequences, tables } from '../../src/db/tables.ts';
import { liveWorkers } from '../../src/db/worker-lease.ts';
import { runCdl, startCdl } from '../cli/run-cdl.ts';

let folder: string;
let server: Database;
const opened: Database[] = [];
let serial = 0;

/** An empty database of the shared server, and its URL. */
async function freshUrl(): Promise<string> {
  const name = `backup_${++serial}`;
  await server.query(`create database ${name} template template0`);
  return server.url.replace(/\/[^/]*$/, `/${name}`);
}

async function fresh(): Promise<Database> {
  const database = await openDatabase({ url: await freshUrl(), folder: '' });
  opened.push(database);
  return database;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-backup-'));
  await chmod(folder, 0o711);
  server = await openDatabase({ url: null, folder: join(folder, 'database') });
});
afterAll(async () => {
  for (const one of opened) await one.close();
  await server?.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
});

/** A backup of a database, as bytes. */
async function bytesOf(database: Database): Promise<Buffer> {
  const { PassThrough } = await import('node:stream');
  const { buffer } = await import('node:stream/consumers');
  const out = new PassThrough();
  const all = buffer(out);
  await writeBackup(database, out);
  return all;
}

/** What a backup says, apart from when it was made. */
function contentOf(bytes: Buffer): unknown[] {
  const [header, ...lines] = gunzipSync(bytes).toString('utf8').trimEnd().split('\n');
  const { tables: sections, sequences: counted } = JSON.parse(header!) as Record<string, unknown>;
  return [sections, counted, ...lines.slice(0, -1)];
}

async function fileOf(bytes: Buffer): Promise<string> {
  const path = join(folder, `${randomBytes(6).toString('hex')}.gz`);
  await writeFile(path, bytes);
  return path;
}

/** Labels with a history, cursors, a delivery, and tasks that wait, failed and are dead. */
async function fill(database: Database): Promise<void> {
  const sides = ['train', 'test'];
  for (const [index, side] of sides.entries()) {
    await database.query(
      `insert into label_events (seq, ${await labelColumns(database)})
         select nextval('label_events_seq'), ${await labelValues(database, side, index)}`,
    );
  }
  await database.query(
    `insert into bot_cursors (project, name, value) values ('acme/ü', 'failed/x', E'why\\n"quoted" \\\\ ☃')`,
  );
  await database.query(`insert into deliveries (id) values ('delivery-1')`);
  const seen = new EventEmitter();
  const queue = await openQueue(
    database,
    {
      later: async () => {},
      bad: async () => {
        seen.emit('done');
        throw new Error('broken for good');
      },
    },
    { concurrency: 1 },
  );
  await queue.add(
    'later',
    { task: { kind: 'change', change: 1 } },
    { key: 'waits', queue: 'acme change:1', runAt: new Date('2030-01-01T00:00:00Z') },
  );
  await queue.add('bad', { text: 'ü "x"' }, { key: 'dead', attempts: 1 });
  const failed = once(seen, 'done');
  const running = queue.run();
  await failed;
  await queue.stop();
  await running;
}

/** Columns of label_events without the sequence, with values of their types. */
async function columnsOf(database: Database) {
  return database.query<{ name: string; type: string; needed: boolean }>(
    `select attname as name, format_type(atttypid, atttypmod) as type, attnotnull and not atthasdef as needed from pg_attribute
      where attrelid = 'label_events'::regclass and attnum > 0 and not attisdropped and attname <> 'seq' order by attnum`,
  );
}
const labelColumns = async (database: Database) =>
  (await columnsOf(database)).map(({ name }) => name).join(', ');
async function labelValues(database: Database, side: string, index: number): Promise<string> {
  const known: Record<string, string> = {
    side: `'${side}'`,
    kind: `'created'`,
    item: `'sha256:${String(index).repeat(64)}'`,
    version: `'sha256:${'a'.repeat(64)}'`,
  };
  return (await columnsOf(database))
    .map(({ name, type }) => {
      if (known[name]) return known[name];
      if (type.endsWith('[]')) return `array['sp"ort,', 'ü']::${type}`;
      if (type.startsWith('timestamp')) return `'2026-03-01T12:00:00.123456Z'::${type}`;
      if (/int|numeric/.test(type))
        return `${9007199254740993n + BigInt(index)}::${type}`.replace(
          /^9007199254740993::integer/,
          '7::integer',
        );
      if (type === 'boolean') return 'true';
      return `'text ${index}'`;
    })
    .join(', ');
}

describe('the list of tables', () => {
  it('names every table, sequence and function that migrations and the queue make, and no other', async () => {
    const database = await fresh();
    await (await openQueue(database, {}, { concurrency: 1 })).stop();
    const found = await database.query<{ schema: string; name: string }>(
      `select nspname as schema, relname as name from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where relkind in ('r', 'p') and not relispartition and nspname in ('public', 'graphile_worker')`,
    );
    const name = (one: { schema: string; name: string }) =>
      `${one.schema.replace('own', 'public')}.${one.name}`;
    expect(tables.map(name).sort()).toEqual(found.map(name).sort());
    const free = await database.query<{ name: string }>(
      `select relname as name from pg_class where relkind = 'S' and relnamespace = 'public'::regnamespace`,
    );
    expect(free.map((one) => one.name)).toEqual([...sequences]);
    const made = await database.query<{ name: string }>(
      `select proname as name from pg_proc where pronamespace = 'public'::regnamespace`,
    );
    expect(made.map((one) => one.name)).toEqual([...functions]);
  });
});

describe('a backup', () => {
  let full: Database;
  let bytes: Buffer;
  beforeAll(async () => {
    full = await fresh();
    await fill(full);
    bytes = await bytesOf(full);
  });

  it('has labels, what the bot knows and the tasks of the queue, and gives all of it back', async () => {
    const other = await fresh();
    const header = await restoreBackup(other, await fileOf(bytes), { force: false });
    const rows = Object.fromEntries(header.tables.map((one) => [one.table, one.rows]));
    expect(rows).toMatchObject({ label_events: 2, bot_cursors: 1, deliveries: 1, [queueSection]: 2 });
    expect(contentOf(await bytesOf(other))).toEqual(contentOf(bytes));
    const done: unknown[] = [];
    const ended = new EventEmitter();
    const queue = await openQueue(
      other,
      {
        later: async () => {},
        bad: async (payload) => {
          done.push(payload);
          ended.emit('done');
        },
      },
      { concurrency: 1 },
    );
    expect(await queue.deadJobs()).toMatchObject([
      { task: 'bad', error: expect.stringContaining('broken for good') },
    ]);
    const heard = once(ended, 'done');
    const running = queue.run();
    await queue.retry((await queue.deadJobs())[0]!.id);
    await heard;
    await queue.stop();
    await running;
    expect(done).toEqual([{ text: 'ü "x"' }]);
    const [next] = await other.query<{ next: number }>(`select nextval('label_events_seq') as next`);
    expect(next!.next).toBe(3);
  });

  it('is put only where nothing is lost, unless that is wanted', async () => {
    const other = await fresh();
    await other.query(`insert into bot_cursors (project, name, value) values ('p', 'n', 'mine')`);
    const path = await fileOf(bytes);
    await expect(restoreBackup(other, path, { force: false })).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringContaining('bot_cursors (1)'),
    });
    expect(await other.query('select value from bot_cursors')).toEqual([{ value: 'mine' }]);
    await restoreBackup(other, path, { force: true });
    expect(contentOf(await bytesOf(other))).toEqual(contentOf(bytes));
  });

  it('is not put under a bot that works', async () => {
    const other = await fresh();
    const queue = await openQueue(other, {}, { concurrency: 1 });
    const running = queue.run();
    // Its lease is there when a first look at the jobs of dead workers is over; the database tells nobody.
    while ((await liveWorkers(other)).length === 0) await wait(5);
    await expect(restoreBackup(other, await fileOf(bytes), { force: false })).rejects.toMatchObject({
      code: 'database-in-use',
    });
    await queue.stop();
    await running;
  });

  it('that was cut off, damaged, or is something else, changes nothing', async () => {
    const other = await fresh();
    await (await openQueue(other, {}, { concurrency: 1 })).stop();
    const before = contentOf(await bytesOf(other));
    const text = gunzipSync(bytes).toString('utf8');
    const tampered = text.replace('delivery-1', 'delivery-2');
    const newer = text.replace('"version":1', '"version":9');
    const strange = text.replace('"table":"bot_cursors"', '"table":"pg_authid"');
    const cases: [Buffer, RegExp][] = [
      [Buffer.from('hello'), /no backup/],
      [gzipSync('hello\n'), /no backup/],
      [gzipSync(tampered), /digest/],
      [gzipSync(newer), /format 9/],
      [gzipSync(strange), /digest|nothing that is kept/],
      [gzipSync(text.split('\n').slice(0, -2).join('\n')), /cut off|missing/],
      [gzipSync(resigned(strange)), /pg_authid/],
    ];
    for (const [one, message] of cases) {
      await expect(restoreBackup(other, await fileOf(one), { force: true })).rejects.toThrow(message);
    }
    // The first ten bytes are gzip's, with nobody's content (RFC 1952 §2.3).
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 10, max: bytes.length - 1 }), fc.boolean(), async (at, cut) => {
        const bad = cut ? bytes.subarray(0, at) : Buffer.from(bytes);
        if (!cut) bad[at] = bad[at]! ^ 0x40;
        // Some bits of deflate mean nothing, or the same as before (a repetition found elsewhere): that is no damage.
        fc.pre(cut || !unpacksTo(bad, text));
        await expect(restoreBackup(other, await fileOf(bad), { force: true })).rejects.toMatchObject({
          code: 'backup-invalid',
        });
      }),
      { numRuns: 60 },
    );
    expect(contentOf(await bytesOf(other))).toEqual(before);
  });

  function unpacksTo(packed: Buffer, text: string): boolean {
    try {
      return gunzipSync(packed).toString('utf8') === text;
    } catch {
      return false;
    }
  }

  function resigned(text: string): string {
    const lines = text.trimEnd().split('\n').slice(0, -1);
    const digest = createHash('sha256')
      .update(`${lines.join('\n')}\n`)
      .digest('hex');
    return `${[...lines, JSON.stringify({ end: `sha256:${digest}` })].join('\n')}\n`;
  }

  it('is made and put back by the program; killed half-way, the database is what it was', async () => {
    const source = await fresh();
    await source.query(
      `insert into deliveries (id) select 'delivery-' || n from generate_series(1, 60000) n`,
    );
    const path = join(folder, 'program.gz');
    const env = { PATH: process.env.PATH, HOME: folder };
    const made = await runCdl(['db', 'backup', path, '--json'], {
      cwd: folder,
      env: { ...env, CDL_DATABASE: source.url },
    });
    expect(made.code, made.stderr).toBe(0);
    expect(JSON.parse(made.stdout)).toMatchObject({
      tables: expect.arrayContaining([expect.objectContaining({ table: 'deliveries', rows: 60000 })]),
    });
    const streamed = await runCdl(['db', 'backup', '-'], {
      cwd: folder,
      env: { ...env, CDL_DATABASE: `${source.url}\n` },
    });
    expect(streamed.code, streamed.stderr).toBe(0);

    const other = await fresh();
    await other.query(`insert into bot_cursors (project, name, value) values ('p', 'n', 'mine')`);
    const { child, ended } = startCdl(['db', 'restore', path, '--force'], {
      cwd: folder,
      env: { ...env, CDL_DATABASE: other.url },
    });
    // Under way as soon as its transaction holds the tables.
    const [{ name }] = (await other.query<{ name: string }>('select current_database() as name')) as [
      { name: string },
    ];
    for (;;) {
      const [row] = await server.query<{ busy: boolean }>(
        `select exists (select from pg_stat_activity where datname = $1 and query like 'insert into "deliveries"%') as busy`,
        [name],
      );
      if (row!.busy) break;
    }
    child.kill('SIGKILL');
    await ended;
    expect(await other.query('select value from bot_cursors')).toEqual([{ value: 'mine' }]);
    expect(await other.query('select count(*) as n from deliveries')).toEqual([{ n: 0 }]);
    const again = await runCdl(['db', 'restore', path, '--force'], {
      cwd: folder,
      env: { ...env, CDL_DATABASE: other.url },
    });
    expect(again.code, again.stderr).toBe(0);
    expect(again.stdout).toContain('60000  deliveries');
    expect(await other.query('select count(*) as n from deliveries')).toEqual([{ n: 60000 }]);
    const piped = startCdl(['db', 'restore', '-', '--force'], {
      cwd: folder,
      env: { ...env, CDL_DATABASE: other.url },
      input: await readFile(path),
    });
    expect(await piped.ended).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('60000  deliveries'),
    });
    const wrong = await runCdl(['db', 'restor', path], {
      cwd: folder,
      env: { ...env, CDL_DATABASE: other.url },
    });
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('did you mean restore?')]);
    const absent = await runCdl(['db', 'restore', join(folder, 'absent.gz')], {
      cwd: folder,
      env: { PATH: process.env.PATH ?? '', CDL_DATABASE: 'postgres://nobody@127.0.0.1:9/none' },
    });
    expect([absent.code, absent.stderr]).toEqual([
      3,
      expect.stringContaining('absent.gz cannot be read: ENOENT'),
    ]);
    expect((await readFile(path)).length).toBeLessThan(1_000_000);
  }, 120_000);
});

describe('values', () => {
  it('come back as they were, whatever they are', async () => {
    const [from, to] = [await fresh(), await fresh()];
    const text = fc
      .string({
        unit: fc.constantFrom('a', '"', '\\', '\n', '\t', 'ü', '☃', '𝒳', ',', '{', '}', ' ', "'", '\u2028'),
      })
      .filter((one) => !one.includes('\0'));
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.tuple(text, text), { minLength: 1, maxLength: 20, selector: ([name]) => name }),
        async (rows) => {
          await from.query('truncate bot_cursors');
          for (const [name, value] of rows) {
            await from.query('insert into bot_cursors (project, name, value) values ($1, $2, $3)', [
              'p',
              name,
              value,
            ]);
          }
          const bytes = await bytesOf(from);
          await restoreBackup(to, await fileOf(bytes), { force: true });
          expect(contentOf(await bytesOf(to))).toEqual(contentOf(bytes));
          const back = await to.query<{ name: string; value: string }>('select name, value from bot_cursors');
          expect(new Map(back.map(({ name, value }) => [name, value]))).toEqual(new Map(rows));
        },
      ),
      { numRuns: 15 },
    );
  });

  it('are written in portions, however many there are', async () => {
    const section = { table: 't', columns: ['a'], rows: 5000 };
    const portions: number[] = [];
    const parts = async function* () {
      for (let row = 0; row < section.rows; row++) {
        yield { kind: 'row', section, line: `["${'x'.repeat(row % 3000)}"]` } as const;
      }
      yield { kind: 'end', digest: `sha256:${'0'.repeat(64)}` } as const;
    };
    await writeRows(parts(), async (_section, rows) => {
      portions.push(rows.length);
      expect(rows.join('').length).toBeLessThan((1 << 20) + 4000);
    });
    expect(Math.max(...portions)).toBeLessThanOrEqual(500);
    expect(portions.reduce((sum, one) => sum + one, 0)).toBe(5000);
  });
});
