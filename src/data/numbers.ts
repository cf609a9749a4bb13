import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Dataset } from './dataset.ts';
import { npyHeader } from './npy.ts';

/** Paths of {@link writeNumbers}, as a program reads them. */
export interface NumberFiles {
  items: string;
  labels: string;
  count: number;
}

async function write(path: string, dims: readonly number[], data: Uint8Array | Float32Array): Promise<void> {
  const file = await open(path, 'w');
  try {
    await file.write(npyHeader(dims, data instanceof Uint8Array ? 'uint8' : 'float32'));
    await file.writeFile(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  } finally {
    await file.close();
  }
}

/** Writes a data set as two NumPy files, `<name>-items.npy` and `<name>-labels.npy`, which every framework reads. */
export async function writeNumbers(set: Dataset, folder: string, name: string): Promise<NumberFiles> {
  const items = join(folder, `${name}-items.npy`);
  const labels = join(folder, `${name}-labels.npy`);
  await write(items, [set.count, ...set.shape], set.x);
  await write(labels, [set.count], set.y);
  return { items, labels, count: set.count };
}
