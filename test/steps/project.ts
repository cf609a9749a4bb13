import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { idxHeader } from '../../src/data/idx.ts';
import { run } from '../../src/exec/run.ts';
import { createContext, type Environment } from '../../src/steps/context.ts';
import type { Ctx } from '../../src/steps/types.ts';

/** Model code that learns whether the left or the right half of a 4×4 picture is the bright one. */
export const modelCode = `import { scale } from './lib/scale.ts';
export function preprocess(tf, raw) {
  return tf.div(tf.cast(raw, 'float32'), scale);
}
export function build(tf, hyperparameters) {
  return tf.sequential({
    layers: [
      tf.layers.flatten({ inputShape: [4, 4] }),
      tf.layers.dense({ units: Number(hyperparameters.hidden ?? 4), activation: 'relu' }),
      tf.layers.dense({ units: 2, activation: 'softmax' }),
    ],
  });
}
`;

/** 160 tiny pictures in two classes, from arithmetic alone: the same bytes everywhere. */
export function tinyData(): { images: Buffer; labels: Buffer } {
  const count = 160;
  const images = Buffer.alloc(count * 16);
  const labels = Buffer.alloc(count);
  let state = 1;
  for (let item = 0; item < count; item++) {
    const label = item % 2;
    labels[item] = label;
    for (let pixel = 0; pixel < 16; pixel++) {
      // Lehmer's generator (Park, Miller 1988).
      state = (state * 48271) % 2147483647;
      const noise = state % 60;
      images[item * 16 + pixel] = noise + (pixel % 4 < 2 === (label === 0) ? 180 : 0);
    }
  }
  return {
    images: Buffer.concat([idxHeader([count, 4, 4]), images]),
    labels: Buffer.concat([idxHeader([count]), labels]),
  };
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** A `cdl.yaml` for {@link tinyData} lying in `data/` of the repository. */
export function tinyConfig(): string {
  const { images, labels } = tinyData();
  return `version: 1
project: tiny
requirements: { problem: which half is bright, owner: tests }
datasets:
  halves:
    shape: [4, 4]
    classes: [left, right]
    sources:
      - file: [data/images.idx, data/labels.idx]
        sha256: [${sha256(images)}, ${sha256(labels)}]
        read: { format: idx, images: [images.idx], labels: [labels.idx] }
    split: { key: halves-1, test: 0.2, validation: 0.1 }
    rules: { min_items: 50 }
models:
  sides:
    data: halves
    code: [model.ts, "lib/**"]
    hyperparameters: { epochs: 2, batch_size: 16, learning_rate: 0.01, hidden: 4 }
    gates: [{ metric: accuracy, min: 0.5 }]
`;
}

/** Every file of the tiny project by path. */
export function tinyFiles(): Record<string, string | Buffer> {
  const { images, labels } = tinyData();
  return {
    'cdl.yaml': tinyConfig(),
    'model.ts': modelCode,
    'lib/scale.ts': 'export const scale = 255;\n',
    '.gitignore': '.cdl/\n',
    'data/images.idx': images,
    'data/labels.idx': labels,
  };
}

/** A committed project in a temporary folder, and contexts of it as the command line makes them. */
export interface Scratch {
  root: string;
  /** Lines that steps logged. */
  lines: string[];
  /** What a process started in this project gets for an environment. */
  env: NodeJS.ProcessEnv;
  write(files: Record<string, string | Buffer>): Promise<void>;
  git(...args: string[]): Promise<string>;
  context(env?: Environment): Promise<Ctx>;
  remove(): Promise<void>;
}

/** Makes the tiny project, committed, in a folder of its own. */
export async function openScratch(files: Record<string, string | Buffer> = tinyFiles()): Promise<Scratch> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-steps-'));
  const root = join(folder, 'project');
  await mkdir(root);
  const env: NodeJS.ProcessEnv = {
    PATH: process.env.PATH,
    HOME: folder,
    CDL_CACHE: join(folder, 'cache'),
    GIT_CONFIG_GLOBAL: join(folder, 'gitconfig'),
    GIT_CONFIG_NOSYSTEM: '1',
    CDL_NPM_REGISTRY: 'http://127.0.0.1:9/',
  };
  await writeFile(
    join(folder, 'gitconfig'),
    '[user]\n\tname = Ada\n\temail = ada@example.com\n[init]\n\tdefaultBranch = main\n',
  );
  const lines: string[] = [];
  const scratch: Scratch = {
    root,
    lines,
    env,
    async write(more) {
      for (const [path, content] of Object.entries(more)) {
        await mkdir(dirname(join(root, path)), { recursive: true });
        await writeFile(join(root, path), content);
      }
    },
    async git(...args) {
      const result = await run('git', args, { cwd: root, env });
      if (result.code !== 0) throw new Error(`git ${args.join(' ')}: ${result.stderr.toString()}`);
      return result.stdout.toString().trim();
    },
    context: (more = {}) =>
      createContext(
        root,
        { ...env, ...more },
        {
          log: (line) => lines.push(line),
          progress: () => {},
          signal: new AbortController().signal,
        },
      ),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
  await scratch.git('init', '--quiet');
  await scratch.write(files);
  await scratch.git('add', '--all');
  await scratch.git('commit', '--quiet', '--message', 'start');
  return scratch;
}

/** A folder with a program `cdl` that is this build, for PATH. */
export async function writeLauncher(folder: string, packageRoot: string): Promise<string> {
  const programs = join(folder, 'programs');
  await mkdir(programs, { recursive: true });
  const path = join(programs, 'cdl');
  await writeFile(
    path,
    `#!/bin/sh\nexec '${process.execPath}' '${join(packageRoot, 'bin', 'cdl.js')}' "$@"\n`,
  );
  await chmod(path, 0o755);
  return programs;
}
