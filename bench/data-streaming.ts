import { mkdir, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { addFolder } from '../src/data/folder/add.ts';
import { localVersion } from '../src/data/folder/base.ts';
import { openFilePool } from '../src/data/folder/pool.ts';
import { packageRoot } from '../src/exec/root.ts';
import { run } from '../src/exec/run.ts';
import { openLocalZone } from '../src/store/index.ts';
import { noise } from './noise.ts';
import type { Row } from './row.ts';

/**
 * Samples per second of a PyTorch DataLoader that streams shards as plain tar files, beside one that opens the same 20 000 files
 * of 4 KB. No rows where PyTorch is not installed (`~/.cache/cdl/py-torch`, or CDL_TORCH_PYTHON).
 */
export async function benchStreaming(folder: string): Promise<Row[]> {
  const cache = process.env.CDL_CACHE ?? join(homedir(), '.cache', 'cdl');
  const python = process.env.CDL_TORCH_PYTHON ?? join(cache, 'py-torch', 'bin', 'python3');
  if ((await run(python, ['-c', 'import torch']).catch(() => null))?.code !== 0) {
    process.stderr.write(`left out: streaming into PyTorch (${python} has no torch)\n`);
    return [];
  }
  const data = join(folder, 'data');
  for (let outer = 0; outer < 200; outer++) {
    await mkdir(join(data, `d${outer}`), { recursive: true });
    for (let index = 0; index < 100; index++) {
      await writeFile(join(data, `d${outer}`, `f${index}`), noise(4096, outer * 100 + index));
    }
  }
  const zone = await openLocalZone(join(folder, 'store'));
  const pool = openFilePool();
  const { version } = await addFolder({
    path: data,
    name: 'data',
    zone,
    statCache: join(folder, 'stat'),
    previous: null,
    sources: [],
    code: null,
    pool,
    signal: new AbortController().signal,
  });
  await pool.close();
  const { blobs } = (await localVersion(zone, version))!;
  const shards = [...blobs.keys()].map((sha256) => zone.blobPath(`sha256:${sha256}`));
  const script = join(packageRoot(), 'bench', 'data-streaming.py');
  const done = await run(python, [script, JSON.stringify(shards), data]);
  if (done.code !== 0) throw new Error(`${script}: ${done.stderr}`);
  const told = JSON.parse(done.stdout.toString()) as { files: number; shards: number };
  return [
    {
      name: 'PyTorch DataLoader out of shards (plain tar), beside the same files one by one',
      value: told.shards,
      unit: 'samples/s',
      baseline: told.files,
      ratio: told.shards / told.files,
    },
  ];
}
