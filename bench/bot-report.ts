import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../src/exec/root.ts';
import { run } from '../src/exec/run.ts';
import type { Row } from './row.ts';

/** Processor seconds of a program and its children (POSIX `times`: the second line is about children). */
async function processorSeconds(
  command: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv,
): Promise<number> {
  const script = '"$@" >out.log 2>&1; code=$?; times; exit $code';
  const result = await run('sh', ['-c', script, 'sh', ...command], { cwd, env });
  const last = result.stdout.toString().trim().split('\n').at(-1) ?? '';
  const seconds = [...last.matchAll(/(\d+)m([\d.]+)s/g)].reduce(
    (sum, match) => sum + Number(match[1]) * 60 + Number(match[2]),
    0,
  );
  if (result.code !== 0) throw new Error(`${command.join(' ')}: ${result.stdout.toString()}`);
  return seconds;
}

async function prepare(folder: string): Promise<void> {
  await writeFile(
    join(folder, 'cdl.yaml'),
    `version: 1
project: bench
requirements: { problem: bench, owner: bench }
datasets:
  grid:
    shape: [8, 8]
    classes: [a, b]
    sources:
      - file: [images.idx, labels.idx]
        sha256: [${'a'.repeat(64)}, ${'b'.repeat(64)}]
        read: { format: idx, images: [images.idx], labels: [labels.idx] }
    split: { key: bench, test: 0.2 }
models:
  grid: { data: grid, code: [model.ts] }
`,
  );
  await writeFile(join(folder, 'model.ts'), 'export const build = () => null;\n');
  await mkdir(join(folder, '.cdl'));
  const block = {
    kind: 'table',
    head: ['metric', 'value'],
    align: ['left', 'right'],
    rows: [['accuracy', '0.9']],
  };
  const report = {
    key: 'train:grid',
    title: 'Training',
    verdict: 'pass',
    summary: 'Trained.',
    blocks: [block],
  };
  await writeFile(join(folder, '.cdl', 'grid.train.report.json'), JSON.stringify(report));
  const done = await run('git', ['init', '-q'], {
    cwd: folder,
    env: { PATH: process.env.PATH ?? '', HOME: folder },
  });
  if (done.code !== 0) throw new Error(done.stderr.toString());
}

/**
 * Processor seconds of `cdl report` for a text, beside a bare Node. CML's `comment create` needed 0.68 s; its package is no
 * longer in npm's registry, so it cannot be measured in the same run, and the goal stands in its place.
 */
export async function benchReport(): Promise<Row[]> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-bench-report-'));
  try {
    await prepare(folder);
    const env = { PATH: process.env.PATH ?? '', HOME: folder };
    const measure = async (command: readonly string[]) => {
      const values: number[] = [];
      for (let round = 0; round < 9; round++) values.push(await processorSeconds(command, folder, env));
      return values.sort((a, b) => a - b)[4]!;
    };
    const bare = await measure([process.execPath, '-e', '']);
    const ours = await measure([process.execPath, join(packageRoot(), 'bin', 'cdl.js'), 'report']);
    const row = (name: string, value: number, baseline: number): Row => ({
      name,
      value,
      unit: 's CPU',
      baseline,
      ratio: value / baseline,
    });
    return [
      row('cdl report (text), beside the goal', ours, 0.15),
      row('cdl report (text), beside node -e ""', ours, bare),
    ];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
