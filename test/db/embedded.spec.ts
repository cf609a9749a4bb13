import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openDatabase } from '../../src/db/index.ts';
import { preparePlace } from '../../src/db/place.ts';
import { isProcessAlive } from '../../src/exec/owner.ts';
import { databaseContract, type OtherProcesses, openOtherProcesses } from '../contract/db.ts';

/** A folder that the user whom root runs the server as can get to. */
async function reachableFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-db-'));
  await chmod(folder, 0o711);
  return folder;
}

/** Where the server of a folder has its files, which as root may be elsewhere. */
async function homeOf(folder: string): Promise<string> {
  const moved = join(folder, 'moved-to');
  return existsSync(moved) ? (await readFile(moved, 'utf8')).trim() : join(folder, 'postgres');
}

async function serverOf(folder: string): Promise<{ pid: number; watcher: number }> {
  return JSON.parse(await readFile(join(await homeOf(folder), 'state.json'), 'utf8'));
}

/** Resolves when the server has stopped; hangs, and so fails the test, when it does not. */
async function stopped(folder: string): Promise<void> {
  const { pid, watcher } = await serverOf(folder);
  while (isProcessAlive(pid) || isProcessAlive(watcher)) await wait(5);
}

async function removeWhenStopped(folder: string): Promise<void> {
  await stopped(folder);
  await rm(await homeOf(folder), { recursive: true, force: true });
  await rm(folder, { recursive: true, force: true });
}

databaseContract(
  'the embedded database',
  async () => ({ url: null, folder: await reachableFolder() }),
  ({ folder }) => removeWhenStopped(folder),
);

describe('the embedded database', () => {
  let folder: string;
  let others: OtherProcesses;

  beforeAll(async () => {
    others = await openOtherProcesses();
  });
  afterAll(() => others.dispose());
  beforeEach(async () => {
    folder = await reachableFolder();
  });
  afterEach(() => (folder === '' ? undefined : removeWhenStopped(folder)));

  const open = () => openDatabase({ url: null, folder });
  const insert = `insert into deliveries (id) values ('a')`;

  it('is one server for all who open the folder, and stops with the last of them', async () => {
    const first = await open();
    const { pid } = await serverOf(folder);
    const second = await open();
    await others.finish({ url: null, folder }, 'open');
    expect((await serverOf(folder)).pid).toBe(pid);
    await first.close();
    await second.query(insert);
    expect(isProcessAlive(pid)).toBe(true);
    await second.close();
    await stopped(folder);
    const third = await open();
    expect(await third.query('select id from deliveries')).toEqual([{ id: 'a' }]);
    await third.close();
  });

  it('stops when the last client is killed, and stays when another one is', async () => {
    const [first, second] = [1, 2].map(() => others.start({ url: null, folder }, 'hold'));
    await Promise.all([once(first!.stdout, 'data'), once(second!.stdout, 'data')]);
    const { pid } = await serverOf(folder);
    first!.kill('SIGKILL');
    await once(first!, 'exit');
    await others.finish({ url: null, folder }, 'open');
    expect((await serverOf(folder)).pid).toBe(pid);
    second!.kill('SIGKILL');
    await once(second!, 'exit');
    await stopped(folder);
  });

  it('comes back after kill -9 of the server, for those who have it open and for newcomers', async () => {
    const database = await open();
    await database.query(insert);
    let missed: () => void = () => undefined;
    const told = new Promise<void>((resolve) => {
      missed = resolve;
    });
    await database.listen('news', (payload) => payload === null && missed());
    process.kill((await serverOf(folder)).pid, 'SIGKILL');
    await told;
    expect(await database.query('select id from deliveries')).toEqual([{ id: 'a' }]);
    await others.finish({ url: null, folder }, 'open');
    await database.close();
    await stopped(folder);

    const again = await open();
    process.kill((await serverOf(folder)).pid, 'SIGKILL');
    await others.finish({ url: null, folder }, 'open');
    expect(await again.query('select id from deliveries')).toEqual([{ id: 'a' }]);
    await again.close();
  });

  it('comes back when only its watcher was killed', async () => {
    const database = await open();
    await database.query(insert);
    process.kill((await serverOf(folder)).watcher, 'SIGKILL');
    await others.finish({ url: null, folder }, 'open');
    expect(await database.query('select id from deliveries')).toEqual([{ id: 'a' }]);
    await database.close();
  });

  it('is started once when five processes come at the same time', async () => {
    const holders = Array.from({ length: 5 }, () => others.start({ url: null, folder }, 'hold'));
    await Promise.all(holders.map((holder) => once(holder.stdout, 'data')));
    for (const holder of holders) holder.kill('SIGKILL');
    await stopped(folder);
  });

  it('listens on no network address, and lets nobody else into its folder', async () => {
    const database = await open();
    const [setting] = await database.query<{ listen_addresses: string }>('show listen_addresses');
    expect(setting?.listen_addresses).toBe('');
    await database.close();
  });

  it.runIf(process.getuid?.() === 0)(
    'runs for root as another user, also below a closed folder',
    async () => {
      await chmod(folder, 0o700);
      const database = await open();
      const home = await homeOf(folder);
      expect(home.startsWith(folder)).toBe(false);
      const status = await readFile(`/proc/${(await serverOf(folder)).pid}/status`, 'utf8');
      expect(/^Uid:\s+(\d+)/m.exec(status)?.[1]).not.toBe('0');
      await database.close();
    },
  );

  it.skipIf(process.getuid?.() !== 0)('sweeps what a killed program left, also several at once', async () => {
    await chmod(folder, 0o700);
    const left = join('/var/lib/cdl', 'left'.repeat(4));
    const files = Array.from({ length: 300 }, (_, index) => join(left, `data-${index % 30}`, `${index}`));
    await Promise.all(files.map((file) => mkdir(dirname(file), { recursive: true })));
    await Promise.all(files.map((file) => writeFile(file, 'x')));
    await writeFile(join(left, 'moved-from'), `${join(folder, 'gone')}\n`);
    const places = Array.from({ length: 6 }, (_, index) => preparePlace(join(folder, `${index}`)));
    const homes = (await Promise.all(places)).map(({ home }) => home);
    expect(new Set(homes).size).toBe(6);
    for (const home of homes) await rm(home, { recursive: true, force: true });
    expect(existsSync(left)).toBe(false);
    await (await open()).close();
  });

  it('takes a folder whose path is too long for a socket', async () => {
    const long = join(folder, 'x'.repeat(120));
    const database = await openDatabase({ url: null, folder: long });
    await database.query(insert);
    await database.close();
    await stopped(long);
    await rm(decodeURIComponent(new URL(database.url).hostname), { recursive: true });
    await rm(folder, { recursive: true, force: true });
    folder = '';
  });
});
