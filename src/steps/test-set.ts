import { join } from 'node:path';
import { z } from 'zod';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { DatasetConfig } from '../core/project.ts';
import { itemIds, openDataset } from '../data/dataset.ts';
import { writePacked } from '../data/packed.ts';
import { readRawItems } from '../data/shards.ts';
import type { Zone } from '../store/types.ts';

/** The withheld items as an evaluation uses them. */
export interface TestSet {
  /** One file of the items without labels, for the process that predicts: IDX, or raw items packed. */
  items: string;
  y: number[];
  classes: string[];
  count: number;
  /** sha256 of each item's bytes, in hexadecimal digits. */
  ids: string[];
  /** What the source says of each item; null for tensors. */
  attributes: Readonly<Record<string, string>>[] | null;
}

/**
 * Fetches a withheld set into a folder. Of raw items it leaves only those with a label, in the order of their ids. Throws
 * UserError input-missing for what is no test set.
 */
export async function openTestSet(
  zone: Zone,
  digest: Digest,
  item: DatasetConfig['item'],
  folder: string,
): Promise<TestSet> {
  const manifest = await zone.saveArtifact(digest, folder);
  if (manifest.meta.side !== 'test') throw new UserError('input-missing', `${digest} is not a test set`);
  if (item === 'tensor') {
    const set = await openDataset(folder);
    const { y, classes, count } = set;
    return {
      items: join(folder, 'images.idx'),
      y: [...y],
      classes,
      count,
      ids: itemIds(set),
      attributes: null,
    };
  }
  const y: number[] = [];
  const ids: string[] = [];
  const attributes: Readonly<Record<string, string>>[] = [];
  const items = join(folder, '.items');
  const classes = z.array(z.string()).parse(manifest.meta.classes);
  const count = await writePacked(
    items,
    (async function* () {
      for await (const one of readRawItems(folder)) {
        if (one.label === null) continue;
        y.push(one.label);
        ids.push(one.id.slice(7));
        attributes.push(one.attributes);
        yield one.bytes;
      }
    })(),
  );
  return { items, y, classes, count, ids, attributes };
}

const indexLine = z.object({ id: z.string() });

/** How many of the withheld items stand in a data version too, byte for byte. */
export async function countLeaked(
  zone: Zone,
  dataset: Digest,
  item: DatasetConfig['item'],
  test: TestSet,
  folder: string,
): Promise<number> {
  const withheld = new Set(test.ids);
  let known: string[] = [];
  if (item === 'tensor') {
    await zone.saveArtifact(dataset, folder);
    known = itemIds(await openDataset(folder));
  } else {
    const index = (await zone.getArtifact(dataset)).files.find((file) => file.path === 'index.jsonl');
    if (!index) throw new UserError('artifact-corrupt', `the data version ${dataset} has no index.jsonl`);
    const text = (await zone.readBlob(index.digest)).toString('utf8');
    for (const line of text.split('\n')) {
      if (line) known.push(indexLine.parse(JSON.parse(line)).id.replace(/^sha256:/, ''));
    }
  }
  return new Set(known.filter((id) => withheld.has(id))).size;
}
