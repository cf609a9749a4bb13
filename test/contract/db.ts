import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { UserError } from '../../src/core/error.ts';
import { type Database, openDatabase, openQueue } from '../../src/db/index.ts';
import { migrate } from '../../src/db/migrate.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { bundleForNode } from './bundle.ts';

/** A database: a server's url, or a folder for an embedded one. */
export interface DatabaseUnderTest {
  url: string | null;
  folder: string;
}

/** Starts other processes on a database (see db-process.ts) and ends what is left of them. */
export interface OtherProcesses {
  start(under: DatabaseUnderTest, action: string, count?: number): ReturnType<typeof startNode>;
  /** Runs it to its end and expects that it succeeds. */
  finish(under: DatabaseUnderTest, action: string, count?: number): Promise<void>;
  dispose(): Promise<void>;
}

function startNode(...args: string[]) {
  return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
}

/** Bundles db-process.ts. */
export async function openOtherProcesses(): Promise<OtherProcesses> {
  const program = await bundleForNode(new URL('./db-process.ts', import.meta.url));
  const running = new Set<ReturnType<typeof startNode>>();
  const start: OtherProcesses['start'] = ({ url, folder }, action, count = 1) => {
    const child = startNode(program.path, action, url ?? '', folder, String(count));
    running.add(child);
    child.once('exit', () => running.delete(child));
    return child;
  };
  return {
    start,
    async finish(...args) {
      const child = start(...args);
      child.stdout.resume();
      await once(child, 'exit');
      expect(child.exitCode).toBe(0);
    },
    async dispose() {
      await Promise.all(
        [...running].map(async (child) => {
          child.kill('SIGKILL');
          await once(child, 'exit');
        }),
      );
      await program.remove();
    },
  };
}

/** What every driver of the database must do. `prepare` gives a database to do with as one likes. */
export function databaseContract(
  name: string,
  prepare: () => Promise<DatabaseUnderTest>,
  dispose: (under: DatabaseUnderTest) => Promise<void>,
): void {
  describe(`${name} keeps the database contract`, () => {
    let under: DatabaseUnderTest;
    let database: Database;
    let others: OtherProcesses;

    beforeAll(async () => {
      others = await openOtherProcesses();
      under = await prepare();
      database = await openDatabase(under);
    });
    afterAll(async () => {
      await others.dispose();
      await database.close();
      await dispose(under);
    });
    beforeEach(async () => {
      await database.query(
        'drop schema if exists graphile_worker cascade; drop schema public cascade; create schema public',
      );
      await (await openDatabase(under)).close();
    });

    const countRows = async () =>
      (await database.query<{ n: number }>('select count(*) as n from deliveries'))[0]?.n;

    it('takes parameters, and gives back numbers, JSON and null as they are', async () => {
      const sql = `select 7::bigint as big, $1::jsonb as json, null as nothing, $2::text as text`;
      const expected = { big: 7, json: { a: [1] }, nothing: null, text: `it's "quoted"` };
      expect(await database.query(sql, [{ a: [1] }, `it's "quoted"`])).toEqual([expected]);
    });

    it('commits a transaction whole or not at all', async () => {
      await database.transaction(async (transaction) => {
        await transaction.query(`insert into deliveries (id) values ('a')`);
      });
      const failing = database.transaction(async (transaction) => {
        await transaction.query(`insert into deliveries (id) values ('b')`);
        throw new Error('changed my mind');
      });
      await expect(failing).rejects.toThrow('changed my mind');
      expect(await countRows()).toBe(1);
    });

    it('lets what SQL refuses through as it is', async () => {
      await database.query(`insert into deliveries (id) values ('a')`);
      await expect(database.query(`insert into deliveries (id) values ('a')`)).rejects.toMatchObject({
        code: '23505',
      });
    });

    it('repeats transactions that deadlock', async () => {
      await database.query(`insert into deliveries (id) values ('a'), ('b')`);
      const touch = (first: string, second: string) =>
        database.transaction(async (transaction) => {
          const sql = 'update deliveries set received_at = now() where id = $1';
          await transaction.query(sql, [first]);
          await transaction.query('select pg_sleep(0.05)');
          await transaction.query(sql, [second]);
        });
      await Promise.all([touch('a', 'b'), touch('b', 'a')]);
    });

    it('hears notifications', async () => {
      let heard: (payload: string | null) => void = () => undefined;
      const first = new Promise((resolve) => {
        heard = resolve;
      });
      const stop = await database.listen('a "channel"', heard);
      await database.query(`select pg_notify('a "channel"', 'hello')`);
      expect(await first).toBe('hello');
      await stop();
    });

    it('listens again after its connection was cut, and says that something may have been missed', async () => {
      const heard: (string | null)[] = [];
      let woken: () => void = () => undefined;
      await database.listen('news', (payload) => {
        heard.push(payload);
        woken();
      });
      const again = new Promise<void>((resolve) => {
        woken = resolve;
      });
      await database.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%' and pid <> pg_backend_pid()`,
      );
      await again;
      expect(heard).toEqual([null]);
    });

    it('loses nothing of what two processes write at the same time', async () => {
      await database.query(`create table counter as select '{"n": 0}'::jsonb as state`);
      const writers = [others.finish(under, 'insert', 200), others.finish(under, 'insert', 200)];
      const adders = [others.finish(under, 'add', 50), others.finish(under, 'add', 50)];
      await Promise.all([...writers, ...adders]);
      expect(await countRows()).toBe(400);
      expect(await database.query('select state from counter')).toEqual([{ state: { n: 100 } }]);
    });

    it('goes on when a client is killed', async () => {
      const writer = others.start(under, 'insert', 1_000_000);
      await once(writer.stdout, 'data');
      writer.kill('SIGKILL');
      await once(writer, 'exit');
      expect(await countRows()).toBeGreaterThan(0);
      await database.query(`insert into deliveries (id) values ('after')`);
    });

    it('applies the migrations once when five processes race', async () => {
      await database.query(
        'drop schema if exists graphile_worker cascade; drop schema public cascade; create schema public',
      );
      await Promise.all(Array.from({ length: 5 }, () => others.finish(under, 'open')));
      const names = await database.query<{ name: string }>('select name from cdl_migrations order by name');
      const files = await readdir(join(packageRoot(), 'src/db/migrations'));
      expect(names.map(({ name }) => name)).toEqual(files.sort());
    });

    it('notices an edited migration, and one of a later version, and changes nothing then', async () => {
      const folder = await mkdtemp(join(tmpdir(), 'cdl-migrations-'));
      try {
        await cp(join(packageRoot(), 'src/db/migrations'), folder, { recursive: true });
        await writeFile(
          join(folder, '900-more.sql'),
          'create table more (a int); create table other (b int)',
        );
        await migrate(database, folder);
        await writeFile(join(folder, '900-more.sql'), 'create table more (b int)');
        await writeFile(join(folder, '901-last.sql'), 'create table last (a int)');
        await expect(migrate(database, folder)).rejects.toMatchObject({
          code: 'database-mismatch',
          message: expect.stringContaining('900-more.sql'),
        });
        await expect(openDatabase(under)).rejects.toBeInstanceOf(UserError);
        expect(await database.query(`select to_regclass('last') as found`)).toEqual([{ found: null }]);
      } finally {
        await rm(folder, { recursive: true, force: true, maxRetries: 10 });
      }
    });

    it('rolls a failing migration back', async () => {
      const folder = await mkdtemp(join(tmpdir(), 'cdl-migrations-'));
      try {
        await cp(join(packageRoot(), 'src/db/migrations'), folder, { recursive: true });
        await writeFile(join(folder, '900-bad.sql'), 'create table half (a int); select nonsense');
        await expect(migrate(database, folder)).rejects.toMatchObject({ code: '42703' });
        expect(await database.query(`select to_regclass('half') as found`)).toEqual([{ found: null }]);
      } finally {
        await rm(folder, { recursive: true, force: true, maxRetries: 10 });
      }
    });

    it('does each queued job once, one after the other where asked', async () => {
      const done: number[] = [];
      let active = 0;
      let finished: () => void = () => undefined;
      const all = new Promise<void>((resolve) => {
        finished = resolve;
      });
      const handler = async (payload: unknown) => {
        expect(++active).toBe(1);
        await database.query('select pg_sleep(0.01)');
        active--;
        if (done.push((payload as { n: number }).n) === 10) finished();
      };
      const queue = await openQueue(database, { step: handler }, { concurrency: 4 });
      for (let n = 0; n < 10; n++) await queue.add('step', { n }, { queue: 'one' });
      const running = queue.run();
      await all;
      await queue.stop();
      await running;
      expect(done).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    });

    it('replaces a waiting job of the same key, keeps failed jobs, and does them again when asked', async () => {
      let works = false;
      const payloads: unknown[] = [];
      let wake: () => void = () => undefined;
      const happened = () =>
        new Promise<void>((resolve) => {
          wake = resolve;
        });
      const queue = await openQueue(
        database,
        {
          step: async (payload) => {
            if (!works) throw new Error('the forge is down');
            payloads.push(payload);
            wake();
          },
        },
        { concurrency: 1, onFailure: () => wake() },
      );
      await queue.add('step', { n: 1 }, { key: 'same', attempts: 1 });
      await queue.add('step', { n: 2 }, { key: 'same', attempts: 1 });
      const failed = happened();
      const running = queue.run();
      await failed;
      let dead = await queue.deadJobs();
      while (dead.length === 0) dead = await queue.deadJobs();
      expect(dead).toMatchObject([{ task: 'step', attempts: 1, error: 'the forge is down' }]);
      works = true;
      const done = happened();
      await queue.retry(dead[0]!.id);
      await done;
      await queue.stop();
      await running;
      expect(payloads).toEqual([{ n: 2 }]);
      expect(await queue.deadJobs()).toEqual([]);
    });

    it('leaves the job of a living worker alone, however long it takes', async () => {
      const worker = others.start(under, 'work');
      let taken = false;
      const handler = async () => {
        taken = true;
      };
      const queue = await openQueue(
        database,
        { stuck: handler, other: async () => wake() },
        { concurrency: 1 },
      );
      let wake: () => void = () => undefined;
      const looked = new Promise<void>((resolve) => {
        wake = resolve;
      });
      await queue.add('stuck', {});
      await once(worker.stdout, 'data');
      const old = `select 1 from graphile_worker.jobs where locked_at < now() - interval '2.1 seconds'`;
      while ((await database.query(old)).length === 0) await database.query('select pg_sleep(0.1)');
      const running = queue.run();
      await queue.add('other', {});
      await looked;
      await queue.stop();
      await running;
      expect(taken).toBe(false);
      expect(await database.query(old)).toHaveLength(1);
      worker.kill('SIGKILL');
      await once(worker, 'exit');
    });

    it('has written down the end of every job when it stopped', async () => {
      for (let round = 0; round < 5; round++) {
        let done: () => void = () => undefined;
        const one = new Promise<void>((resolve) => {
          done = resolve;
        });
        const queue = await openQueue(database, { step: async () => done() }, { concurrency: 2 });
        await queue.add('step', {});
        const running = queue.run();
        await one;
        await queue.stop();
        await running;
        expect(await database.query('select id from graphile_worker.jobs')).toEqual([]);
      }
    });

    it('hands the job of a killed worker to the next one', async () => {
      let taken: () => void = () => undefined;
      const again = new Promise<void>((resolve) => {
        taken = resolve;
      });
      const queue = await openQueue(database, { stuck: async () => taken() }, { concurrency: 1 });
      await queue.add('stuck', {}, { queue: 'one' });
      const worker = others.start(under, 'work');
      await once(worker.stdout, 'data');
      worker.kill('SIGKILL');
      await once(worker, 'exit');
      const running = queue.run();
      await again;
      await queue.stop();
      await running;
    });
  });
}
