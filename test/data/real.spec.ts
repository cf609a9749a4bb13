import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { type DatasetConfig, parseProject } from '../../src/core/project.ts';
import { buildDataset } from '../../src/data/dataset.ts';
import { hashOfFile } from '../../src/data/hash.ts';
import { readItems } from '../../src/data/read.ts';
import { fetchFirst } from '../../src/data/sources.ts';
import { validateDataset } from '../../src/data/validate.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { createZone, openStore } from '../../src/store/index.ts';

const files = ['train-images-idx3', 'train-labels-idx1', 't10k-images-idx3', 't10k-labels-idx1'].map((name) =>
  join(
    resolve(packageRoot(), process.env.CDL_SHARED ?? '../shared'),
    'data/fashion-mnist',
    `${name}-ubyte.gz`,
  ),
);

test('Fashion-MNIST, as published, splits into two sides without a common item', async (context) => {
  const missing = files.find((file) => !existsSync(file));
  if (missing) return context.skip(`${missing} is not there`);
  const folder = await mkdtemp(join(tmpdir(), 'cdl-fashion-'));
  try {
    const base = (file: string) => file.replace(/.*\//, '');
    const source: DatasetConfig['sources'][number] = {
      file: files,
      sha256: (await Promise.all(files.map(hashOfFile))).map(String),
      read: {
        format: 'idx',
        images: [files[0]!, files[2]!].map(base),
        labels: [files[1]!, files[3]!].map(base),
      },
    };
    const text = JSON.stringify({
      version: 1,
      project: 'p',
      requirements: { problem: 'x', owner: 'y' },
      datasets: {
        fashion: {
          shape: [28, 28],
          classes: [
            'T-shirt/top',
            'Trouser',
            'Pullover',
            'Dress',
            'Coat',
            'Sandal',
            'Shirt',
            'Sneaker',
            'Bag',
            'Ankle boot',
          ],
          sources: [source],
          split: { key: 'v1', test: 0.15 },
          rules: { min_items: 50_000, min_per_class: 5000, max_imbalance: 1.1, max_invalid: 0.001 },
        },
      },
      models: { m: { data: 'fashion', code: ['model.ts'] } },
    });
    const config = parseProject(text).datasets.fashion!;
    const fetched = await fetchFirst(config.sources, { cacheFolder: join(folder, 'cache') });
    const items = await readItems(config, fetched);
    expect(items.count).toBe(70_000);
    const zone = createZone('work', await openStore(`file:${folder}/store`, null));
    const sides = [
      await buildDataset('fashion', config, source, items, 'train', zone),
      await buildDataset('fashion', config, source, items, 'test', zone),
    ];
    for (const { meta } of sides) {
      expect(validateDataset(meta, config.rules).verdict).toBe('pass');
      expect(meta.duplicates).toBe(0);
      expect(meta.quarantined).toEqual({});
    }
    expect(sides[0]!.meta.count + sides[1]!.meta.count).toBe(70_000);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
