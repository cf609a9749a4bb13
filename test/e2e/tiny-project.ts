import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { idxHeader } from '../../src/data/idx.ts';
import { packageRoot } from '../../src/exec/root.ts';

/** The only model of the tiny project, also its project name. */
export const model = 'corners';
/** Classes of its items: which corner of the picture is bright. */
export const classes = ['north-west', 'north-east', 'south-west', 'south-east'];
/** Shape of one item. */
export const shape = [8, 8];

/** A small generator with a seed (mulberry32): the same items everywhere. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Noisy 8×8 pictures with one brighter corner, flat, and their classes. */
export function cornerItems(count: number, seed: number): { x: Uint8Array; y: Uint8Array } {
  const random = randomOf(seed);
  const x = new Uint8Array(count * 64);
  const y = new Uint8Array(count);
  for (let item = 0; item < count; item++) {
    const wanted = item % classes.length;
    y[item] = wanted;
    for (let pixel = 0; pixel < 64; pixel++) {
      const corner = (pixel >= 32 ? 2 : 0) + (pixel % 8 >= 4 ? 1 : 0);
      const noise = (random() + random()) * 90;
      x[item * 64 + pixel] = Math.floor(noise + (corner === wanted ? 40 : 0));
    }
  }
  return { x, y };
}

/** What the tiny project's `cdl.yaml` says beside what never changes. */
export interface TinyOptions {
  /** Folder the IDX files are written to; jobs read them from there. */
  data: string;
  validators: string[];
  /** Version of the CI components. */
  version: string;
  items?: number;
  /** Folder of a source of the test side; without it the one source is split. */
  withheld?: string;
}

const modelCode = `import type { Hyperparameters, LayersModel, Tensor, Tf } from 'cdl';

export function preprocess(tf: Tf, raw: Tensor): Tensor {
  return tf.div(tf.reshape(tf.cast(raw, 'float32'), [-1, 64]), 255);
}

export function build(tf: Tf, hyperparameters: Hyperparameters): LayersModel {
  return tf.sequential({
    layers: [
      tf.layers.dense({ inputShape: [64], units: Number(hyperparameters.hidden), activation: 'relu' }),
      tf.layers.dense({ units: 4, activation: 'softmax' }),
    ],
  });
}
`;

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Writes a project that trains in a second: data, `cdl.yaml`, model code and the starter pipeline. */
export async function writeTinyProject(folder: string, options: TinyOptions): Promise<void> {
  const { data, validators, version } = options;
  const count = options.items ?? 3000;
  const { x, y } = cornerItems(count, 11);
  const images = Buffer.concat([idxHeader([count, ...shape]), x]);
  const labels = Buffer.concat([idxHeader([count]), y]);
  await mkdir(data, { recursive: true });
  await mkdir(folder, { recursive: true });
  await writeFile(join(data, 'images.idx'), images);
  await writeFile(join(data, 'labels.idx'), labels);
  const test = options.withheld;
  const sourceOf = (folder: string, [x, y]: readonly [Uint8Array, Uint8Array], side: string) => `
      - file: [${join(folder, 'images.idx')}, ${join(folder, 'labels.idx')}]
        sha256: [${sha256(x)}, ${sha256(y)}]${side}
        read: { format: idx, images: [images.idx], labels: [labels.idx] }`;
  let sources = sourceOf(data, [images, labels], test ? '\n        side: train' : '');
  if (test) {
    const own = cornerItems(count / 5, 12);
    const files = [
      Buffer.concat([idxHeader([count / 5, ...shape]), own.x]),
      Buffer.concat([idxHeader([count / 5]), own.y]),
    ] as const;
    await mkdir(test, { recursive: true });
    await writeFile(join(test, 'images.idx'), files[0]);
    await writeFile(join(test, 'labels.idx'), files[1]);
    sources += sourceOf(test, files, '\n        side: test');
  }
  const config = `version: 1
project: ${model}

requirements:
  problem: Tell which corner of a picture is bright.
  owner: test team
  metrics: [accuracy]

datasets:
  pictures:
    shape: [${shape.join(', ')}]
    classes: [${classes.join(', ')}]
    sources:${sources}
    split: { key: corners-1, test: 0.2, validation: 0.1 }
    rules: { min_items: ${Math.floor(count / 2)}, min_per_class: ${Math.floor(count / 8)} }

models:
  ${model}:
    data: pictures
    entry: model.ts
    code: [model.ts]
    hyperparameters: { hidden: 8, epochs: 2, batch_size: 32, learning_rate: 0.01 }
    seed: 3
    gates:
      - { metric: accuracy, min: 0.85 }
      - { metric: accuracy, max_drop: 0.05 }
    environments:
      production: { target: local, replicas: 1, traffic: [50, 100] }

roles:
  validator: [${validators.join(', ')}]
`;
  await writeFile(join(folder, 'cdl.yaml'), config);
  await writeFile(join(folder, 'model.ts'), modelCode);
  await writeFile(join(folder, '.gitignore'), '.cdl/\nnode_modules/\n');
  const starter = await readFile(join(packageRoot(), 'templates', '.gitlab-ci.yml'), 'utf8');
  await writeFile(
    join(folder, '.gitlab-ci.yml'),
    starter
      .replaceAll('__VERSION__', version)
      .replaceAll('__MODEL__', model)
      .replaceAll('__DATASET__', 'pictures'),
  );
}
