import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { packageRoot } from '../src/exec/root.ts';
import { run } from '../src/exec/run.ts';
import type { Row } from './row.ts';

const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

/** Median wall time of a command in milliseconds. */
async function timed(
  times: number,
  command: string,
  args: string[],
  cwd: string,
  env: NodeJS.ProcessEnv,
): Promise<number> {
  const values: number[] = [];
  for (let i = 0; i < times; i++) {
    const start = performance.now();
    const result = await run(command, args, { cwd, env });
    values.push(performance.now() - start);
    if (result.code !== 0) throw new Error(`${args.join(' ')}: ${result.stderr.toString()}`);
  }
  return median(values);
}

function idx(dims: number[], data: Uint8Array): Buffer {
  const header = Buffer.alloc(4 + dims.length * 4);
  header.writeUInt32BE(0x0800 | dims.length, 0);
  for (const [i, dim] of dims.entries()) header.writeUInt32BE(dim, 4 + 4 * i);
  return gzipSync(Buffer.concat([header, data]));
}

/** A small project whose whole pipeline runs in seconds, so that cached jobs can be measured. */
async function smallProject(folder: string): Promise<void> {
  const count = 2000;
  const y = Uint8Array.from({ length: count }, (_, i) => i % 4);
  const x = new Uint8Array(count * 64).map((_, i) => (y[Math.floor(i / 64)]! * 60 + ((i * 7919) % 41)) & 255);
  const [images, labels] = [idx([count, 8, 8], x), idx([count], y)];
  await writeFile(join(folder, 'images.idx.gz'), images);
  await writeFile(join(folder, 'labels.idx.gz'), labels);
  const sha = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
  await writeFile(
    join(folder, 'cdl.yaml'),
    `version: 1
project: bench
requirements: { problem: bench, owner: bench }
datasets:
  grid:
    shape: [8, 8]
    classes: [a, b, c, d]
    sources:
      - file: [images.idx.gz, labels.idx.gz]
        sha256: [${sha(images)}, ${sha(labels)}]
        read: { format: idx, images: [images.idx.gz], labels: [labels.idx.gz] }
    split: { key: bench, test: 0.2 }
models:
  grid:
    data: grid
    code: [model.ts]
    hyperparameters: { epochs: 2, batch_size: 32 }
`,
  );
  await writeFile(
    join(folder, 'model.ts'),
    `export const preprocess = (tf, raw) => tf.div(tf.cast(raw, 'float32'), 255);
export const build = (tf) => tf.sequential({ layers: [
  tf.layers.flatten({ inputShape: [8, 8] }), tf.layers.dense({ units: 4, activation: 'softmax' })] });
`,
  );
  await writeFile(join(folder, '.gitignore'), '.cdl/\n');
  await run('git', ['init', '-q'], { cwd: folder });
}

/** Start-up of the command line beside a bare Node, a cached job, and a report. */
export async function benchCli(): Promise<Row[]> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-bench-'));
  const cdl = join(packageRoot(), 'bin', 'cdl.js');
  const env = { PATH: process.env.PATH ?? '', HOME: folder };
  const node = process.execPath;
  try {
    await smallProject(folder);
    const bare = await timed(15, node, ['-e', ''], folder, env);
    const versions = await timed(15, node, [cdl, '--version'], folder, env);
    const help = await timed(9, node, [cdl, '--help'], folder, env);
    const first: Record<string, number> = {};
    const again: Record<string, number> = {};
    for (const step of ['ingest', 'validate', 'train', 'package', 'register', 'report']) {
      first[step] = await timed(1, node, [cdl, step], folder, env);
    }
    for (const step of ['ingest', 'validate', 'train', 'package', 'register', 'report']) {
      again[step] = await timed(5, node, [cdl, step], folder, env);
    }
    const row = (name: string, value: number, baseline: number | null): Row => ({
      name,
      value,
      unit: 'ms',
      baseline,
      ratio: baseline === null ? null : value / baseline,
    });
    return [
      row('cdl --version, beside node -e ""', versions, bare),
      row('cdl --help, beside node -e ""', help, bare),
      ...Object.keys(first).map((step) =>
        row(`cdl ${step} again (cached), beside the first run`, again[step]!, first[step]!),
      ),
    ];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
