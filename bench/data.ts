import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../src/exec/root.ts';
import { run } from '../src/exec/run.ts';
import { benchMemory } from './data-memory.ts';
import { benchStreaming } from './data-streaming.ts';
import { benchTransfer } from './data-transfer.ts';
import { noise } from './noise.ts';
import type { Row } from './row.ts';

const folders = 200;
const perFolder = 100;

/** Wall time of a command in milliseconds. Throws when it fails. */
export async function timed(
  command: string,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<number> {
  const start = performance.now();
  const result = await run(command, args, { cwd, env });
  const wall = performance.now() - start;
  if (result.code === 0) return wall;
  throw new Error(`${command} ${args.join(' ')}: ${result.stderr}${result.stdout}`);
}

/** A row in milliseconds; the ratio is how many times faster the first is. */
const faster = (name: string, value: number, baseline: number): Row => ({
  name,
  value,
  unit: 'ms',
  baseline,
  ratio: baseline / value,
});

const middle = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

/** The median of three. */
async function thrice(measure: () => Promise<number>): Promise<number> {
  return middle([await measure(), await measure(), await measure()]);
}

async function plant(folder: string): Promise<void> {
  for (let outer = 0; outer < folders; outer++) {
    const inner = join(folder, `d${outer}`);
    await mkdir(inner, { recursive: true });
    for (let index = 0; index < perFolder; index++) {
      await writeFile(join(inner, `f${index}.bin`), noise(2048, outer * perFolder + index));
    }
  }
}

/** DVC from PyPI in an environment of its own, installed the first time; null when it cannot be had. */
async function findDvc(): Promise<string | null> {
  const cache = process.env.CDL_CACHE ?? join(homedir(), '.cache', 'cdl');
  const dvc = join(cache, 'py-dvc', 'bin', 'dvc');
  const works = async () => (await run(dvc, ['--version']).catch(() => null))?.code === 0;
  if (await works()) return dvc;
  await run('python3', ['-m', 'venv', join(cache, 'py-dvc')]).catch(() => null);
  await run(join(cache, 'py-dvc', 'bin', 'pip'), ['install', '-q', 'dvc']).catch(() => null);
  return (await works()) ? dvc : null;
}

interface Tool {
  add(): Promise<number>;
  push(): Promise<number>;
  /** Gives up what is here and gets it again from the shared store. */
  restore(): Promise<number>;
}

async function prepare(folder: string, dvc: string): Promise<{ cdl: Tool; peer: Tool }> {
  const env = {
    ...process.env,
    CDL_CACHE: join(folder, 'cache'),
    CDL_WORK_STORE: `file:${join(folder, 'cdl-remote')}`,
  };
  const bin = join(packageRoot(), 'bin', 'cdl.js');
  const places = { cdl: join(folder, 'cdl'), peer: join(folder, 'peer') };
  for (const place of Object.values(places)) {
    await plant(join(place, 'data'));
    await run('git', ['init', '-q'], { cwd: place });
  }
  const cdl = (...args: string[]) => timed(process.execPath, [bin, 'data', ...args], places.cdl, env);
  const peer = (...args: string[]) =>
    timed(dvc, args, places.peer, { ...process.env, DVC_NO_ANALYTICS: '1' });
  await peer('init', '-q');
  await peer('config', 'core.analytics', 'false');
  await peer('remote', 'add', '-d', 'shared', join(folder, 'dvc-remote'));
  const drop = (place: string, ...names: string[]) =>
    Promise.all(names.map((name) => rm(join(place, name), { recursive: true, force: true })));
  return {
    cdl: {
      add: () => cdl('add', 'data'),
      push: () => cdl('push'),
      async restore() {
        await drop(places.cdl, 'data', '.cdl');
        return cdl('checkout');
      },
    },
    peer: {
      add: () => peer('add', '-q', 'data'),
      push: () => peer('push', '-q'),
      async restore() {
        await drop(places.peer, 'data', '.dvc/cache', '.dvc/tmp');
        return peer('pull', '-q');
      },
    },
  };
}

async function besideDvc(folder: string, dvc: string): Promise<Row[]> {
  const { cdl, peer } = await prepare(folder, dvc);
  const rows: Row[] = [];
  const both = async (name: string, measure: (tool: Tool) => Promise<number>) => {
    const baseline = await measure(peer);
    rows.push(faster(`20 000 × 2 KB, ${name}, beside DVC`, await measure(cdl), baseline));
  };
  await both('first add', (tool) => tool.add());
  await both('first push', (tool) => tool.push());
  await both('add, nothing changed', (tool) => thrice(() => tool.add()));
  await both('push, nothing changed', (tool) => thrice(() => tool.push()));
  await both('add and push, nothing changed', (tool) =>
    thrice(async () => (await tool.add()) + (await tool.push())),
  );
  let turn = 0;
  await both('add and push, one file changed', (tool) =>
    thrice(async () => {
      const place = tool === cdl ? 'cdl' : 'peer';
      await writeFile(join(folder, place, 'data', 'd7', 'f7.bin'), noise(2048, 1_000_000 + turn++));
      return (await tool.add()) + (await tool.push());
    }),
  );
  await both('everything lost, had again from the shared store', (tool) => thrice(() => tool.restore()));
  await both('checkout, folder lost', (tool) =>
    thrice(async () => {
      const place = tool === cdl ? 'cdl' : 'peer';
      await rm(join(folder, place, 'data'), { recursive: true });
      return tool === cdl
        ? timed(
            process.execPath,
            [join(packageRoot(), 'bin', 'cdl.js'), 'data', 'checkout'],
            join(folder, place),
          )
        : timed(dvc, ['checkout', '-q'], join(folder, place));
    }),
  );
  // Making 20 000 files costs the file system the same whoever does it: what cp needs is a floor for both.
  const place = join(folder, 'cdl');
  const bin = join(packageRoot(), 'bin', 'cdl.js');
  let copied = 0;
  const copies = await thrice(() => timed('cp', ['-r', 'data', `copy-${copied++}`], place));
  const checkouts = await thrice(async () => {
    await rm(join(place, 'data'), { recursive: true });
    return timed(process.execPath, [bin, 'data', 'checkout'], place);
  });
  rows.push(faster('20 000 × 2 KB, checkout, folder lost, beside cp -r', checkouts, copies));
  return rows;
}

async function besideSha256sum(folder: string): Promise<Row[]> {
  const place = join(folder, 'large');
  await mkdir(join(place, 'data'), { recursive: true });
  await run('git', ['init', '-q'], { cwd: place });
  const file = join(place, 'data', 'one.bin');
  const piece = noise(1 << 20, 7);
  await writeFile(file, '');
  for (let index = 0; index < 1024; index++) {
    piece.writeInt32LE(index, 0);
    await writeFile(file, piece, { flag: 'a' });
  }
  const bin = join(packageRoot(), 'bin', 'cdl.js');
  const baseline = await thrice(() => timed('sha256sum', [file], place));
  const value = await thrice(async () => {
    await rm(join(place, '.cdl'), { recursive: true, force: true });
    await rm(join(place, 'cdl.data.lock'), { force: true });
    return timed(process.execPath, [bin, 'data', 'add', 'data'], place);
  });
  return [
    {
      name: '1 GB file: add (read, hash, store), beside sha256sum',
      value,
      unit: 'ms',
      baseline,
      ratio: value / baseline,
    },
  ];
}

/** Versions of data beside DVC from PyPI, sha256sum, plain requests to MinIO, and reading local files. */
export async function benchData(): Promise<Row[]> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-bench-data-'));
  const only = (process.env.CDL_BENCH_DATA ?? '').split(',').filter(Boolean);
  const parts: [string, () => Promise<Row[]>][] = [
    [
      'dvc',
      async () => {
        const dvc = await findDvc();
        if (dvc) return besideDvc(join(folder, 'dvc'), dvc);
        process.stderr.write('left out: beside DVC (it could not be installed from PyPI)\n');
        return [];
      },
    ],
    ['sha256sum', () => besideSha256sum(folder)],
    ['memory', () => benchMemory()],
    ['transfer', () => benchTransfer(join(folder, 'transfer'))],
    ['streaming', () => benchStreaming(join(folder, 'streaming'))],
  ];
  try {
    const rows: Row[] = [];
    for (const [name, part] of parts)
      if (only.length === 0 || only.includes(name)) rows.push(...(await part()));
    return rows;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
