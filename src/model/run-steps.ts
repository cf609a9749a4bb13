import { z } from 'zod';
import type { Artifact } from '../core/artifact.ts';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { Zone } from '../store/types.ts';
import type { StepPoint } from '../train/step-series.ts';

/** The file of a run with its metrics by step, a JSON object a line. */
const stepsFile = 'steps.jsonl';
/** Jobs of any branch write runs: no more than this is read, in bytes. */
const mostBytes = 64 * 2 ** 20;

const pointSchema = z.object({
  step: z.int().nonnegative(),
  epoch: z.int().nonnegative(),
  metrics: z.record(z.string(), z.number()),
});

/** Stores metrics by step, at once, as a file of a run; none where there are none. */
export async function keepSteps(zone: Zone, points: readonly StepPoint[]): Promise<Artifact['files']> {
  if (points.length === 0) return [];
  const text = points.map(({ step, epoch, metrics }) => `${JSON.stringify({ step, epoch, metrics })}\n`);
  return [{ path: stepsFile, ...(await zone.putBlob(text.join(''))) }];
}

/** What {@link keepSteps} kept of a run; lines that are none of its are passed over, and a file that is gone or damaged. */
export async function readSteps(zone: Zone, run: Digest): Promise<StepPoint[]> {
  const { files } = await zone.getArtifact(run);
  const file = files.find(({ path }) => path === stepsFile);
  if (!file || file.size > mostBytes) return [];
  const bytes = await zone.readBlob(file.digest).catch((error: unknown) => {
    if (error instanceof UserError && error.code.startsWith('artifact-')) return Buffer.alloc(0);
    throw error;
  });
  return bytes
    .toString('utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        return pointSchema.safeParse(JSON.parse(line)).data ?? [];
      } catch {
        return [];
      }
    });
}
