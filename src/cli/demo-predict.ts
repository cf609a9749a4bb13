import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { openDataset } from '../data/dataset.ts';
import { openZone } from '../steps/context.ts';
import type { Rig } from './rig.ts';

/** Items of the withheld test set, as an operator of the trusted zone may read them. */
export async function testItems(
  rig: Rig,
  count: number,
): Promise<{ x: number[][]; y: number[]; classes: string[] }> {
  const trusted = await openZone(rig.botEnvironment, 'trusted', null);
  const folder = await mkdtemp(join(tmpdir(), 'cdl-test-items-'));
  try {
    for await (const entry of trusted.listRecords('cache/ingest/')) {
      const record = (await trusted.readRecord(entry.key))?.value as
        | { outputs?: { dataset?: unknown } }
        | undefined;
      const digest = record?.outputs?.dataset;
      if (!isDigest(digest)) continue;
      await trusted.saveArtifact(digest, folder);
      const data = await openDataset(folder);
      const size = data.shape.reduce((product, dim) => product * dim, 1);
      // Spread over the set: its order is by content, so this is a fair sample.
      const step = Math.max(1, Math.floor(data.count / count));
      const indices = Array.from({ length: Math.min(count, data.count) }, (_, i) => i * step);
      return {
        x: indices.map((i) => [...data.x.subarray(i * size, (i + 1) * size)]),
        y: indices.map((i) => data.y[i]!),
        classes: data.classes,
      };
    }
    throw new UserError('artifact-missing', 'there is no test set in the trusted zone yet');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
