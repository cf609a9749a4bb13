import { z } from 'zod';
import { digestSchema } from '../core/artifact.ts';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { Zone } from '../store/types.ts';

const lineSchema = z.object({ id: digestSchema, label: z.int().nonnegative().nullable() });

/**
 * The items of a stored raw data version with the number of their class, in its order: its index alone is read. Throws
 * UserError artifact-missing, artifact-corrupt (also for what has no index).
 */
export async function indexOfVersion(
  zone: Zone,
  digest: Digest,
): Promise<{ id: Digest; label: number | null }[]> {
  const index = (await zone.getArtifact(digest)).files.find(({ path }) => path === 'index.jsonl');
  if (!index) throw new UserError('artifact-corrupt', `${digest} has no index.jsonl`);
  const lines = (await zone.readBlob(index.digest)).toString('utf8').split('\n');
  return lines.filter((text) => text !== '').map((text) => lineSchema.parse(JSON.parse(text)));
}
