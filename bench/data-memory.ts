import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../src/exec/root.ts';
import { run } from '../src/exec/run.ts';
import type { Row } from './row.ts';

const files = 1_000_000;
const perFolder = 1000;

/** Peak memory of a process in MB, as GNU time reports it (maximum resident set size). */
async function peak(args: readonly string[], cwd: string): Promise<{ mb: number; ms: number }> {
  const start = performance.now();
  const report = join(cwd, '.cdl-peak');
  const result = await run('/usr/bin/env', ['time', '-f', '%M', '-o', report, process.execPath, ...args], {
    cwd,
  });
  if (result.code !== 0) throw new Error(`${args.join(' ')}: ${result.stderr}${result.stdout}`);
  const { readFile } = await import('node:fs/promises');
  return { mb: Number(await readFile(report, 'utf8')) / 1024, ms: performance.now() - start };
}

/**
 * Peak memory of adding a million tiny files, and of adding them again unchanged. On a tmpfs where there is one with enough
 * room: a million files on a disk measure the disk.
 */
export async function benchMemory(): Promise<Row[]> {
  const shm = '/dev/shm';
  const room = (path: string) => {
    try {
      const { bavail, bsize } = statfsSync(path);
      return bavail * bsize;
    } catch {
      return 0;
    }
  };
  const folder = mkdtempSync(join(room(shm) > 12 * 2 ** 30 ? shm : tmpdir(), 'cdl-bench-memory-'));
  try {
    await run('git', ['init', '-q'], { cwd: folder });
    for (let outer = 0; outer < files / perFolder; outer++) {
      const inner = join(folder, 'data', `d${outer}`);
      mkdirSync(inner, { recursive: true });
      for (let index = 0; index < perFolder; index++)
        writeFileSync(join(inner, `f${index}`), `${outer} ${index}`);
    }
    const bin = join(packageRoot(), 'bin', 'cdl.js');
    const few = mkdtempSync(join(tmpdir(), 'cdl-bench-memory-'));
    mkdirSync(join(few, 'data'));
    await run('git', ['init', '-q'], { cwd: few });
    writeFileSync(join(few, 'data', 'one'), 'one');
    const row = (name: string, value: number, unit: string, baseline: number): Row => ({
      name,
      value,
      unit,
      baseline,
      ratio: value / baseline,
    });
    const one = await peak([bin, 'data', 'add', 'data'], few);
    rmSync(few, { recursive: true, force: true });
    const first = await peak([bin, 'data', 'add', 'data'], folder);
    const again = await peak([bin, 'data', 'add', 'data'], folder);
    return [
      row('1 000 000 files: peak memory of the first add, beside that of one file', first.mb, 'MB', one.mb),
      row(
        '1 000 000 files: peak memory of an add, nothing changed, beside that of one file',
        again.mb,
        'MB',
        one.mb,
      ),
      row('1 000 000 files: add, nothing changed, beside the first add', again.ms, 'ms', first.ms),
    ];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
