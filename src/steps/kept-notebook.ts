import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Artifact } from '../core/artifact.ts';
import type { Zone } from '../store/types.ts';
import { executedNotebook } from '../train/notebook.ts';

/** Where a training writes what is not its model, below its folder. */
export const scratchFolder = '.scratch';

/** Stores the notebook that a training executed, with what its cells printed, as a file of its run; none where it was a program. */
export async function keepNotebook(zone: Zone, folder: string): Promise<Artifact['files']> {
  const path = join(folder, scratchFolder, executedNotebook);
  if (!(await stat(path).catch(() => null))?.isFile()) return [];
  return [{ path: executedNotebook, ...(await zone.putFile(path)) }];
}
