import { mkdir } from 'node:fs/promises';
import { z } from 'zod';
import { digestSchema } from '../core/artifact.ts';
import type { Digest } from '../core/digest.ts';
import type { Zone } from '../store/types.ts';
import { storeCheckpoint } from './store-folder.ts';

const point = z.object({
  step: z.int().nonnegative(),
  epoch: z.int().nonnegative(),
  metrics: z.record(z.string(), z.number()),
});
const toldSchema = z.object({
  /** When the first of the jobs began, in milliseconds since 1970. */
  startedAt: z.number().positive(),
  /** What these jobs took up to the checkpoint; what a failed run counts already is not in it. */
  seconds: z.number().nonnegative(),
  epochs: z.array(point),
  steps: z.array(point),
});

/** What the jobs before told until they were interrupted. */
export type Told = z.output<typeof toldSchema>;

const recordSchema = z.object({ checkpoint: digestSchema, told: digestSchema.optional() });
const recordOf = (key: string) => `resume/${key}.json`;
/** Jobs of any branch write here: no more characters than this are read. */
const mostText = 64 * 2 ** 20;

/** Keeps a checkpoint of a training under way, with what it told until then, for a later job. */
export async function keepResume(
  zone: Zone,
  key: string,
  model: string,
  folder: string,
  told: Told,
): Promise<void> {
  const checkpoint = await storeCheckpoint(zone, folder, `${model} (unfinished)`);
  if (!checkpoint) return;
  const { digest } = await zone.putBlob(JSON.stringify(told));
  await zone.writeRecord(recordOf(key), { checkpoint, told: digest });
}

/** Null where it is gone, too large or nothing of the kind. */
async function readTold(zone: Zone, digest: Digest): Promise<Told | null> {
  if (!(await zone.hasBlob(digest))) return null;
  let text = '';
  for await (const piece of (await zone.openBlob(digest)).setEncoding('utf8')) {
    text += piece;
    if (text.length > mostText) return null;
  }
  try {
    return toldSchema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

/**
 * Where a training under way left off, saved to `folder`, for a job that comes after a killed one; null where there is none.
 * What it told is null where that is lost, which costs the run its first part and not the training.
 */
export async function openResume(
  zone: Zone,
  key: string,
  folder: string,
): Promise<{ folder: string; told: Told | null } | null> {
  const record = recordSchema.safeParse((await zone.readRecord(recordOf(key)))?.value);
  if (!record.success || !(await zone.hasArtifact(record.data.checkpoint))) return null;
  const { checkpoint, told } = record.data;
  await mkdir(folder, { recursive: true });
  await zone.saveArtifact(checkpoint, folder);
  return { folder, told: told === undefined ? null : await readTold(zone, told) };
}

/** Says that a failed run counts the time up to here, so that the run of a later job does not count it again. */
export async function countResume(zone: Zone, key: string): Promise<void> {
  const found = recordSchema.safeParse((await zone.readRecord(recordOf(key)))?.value);
  const told = found.success && found.data.told ? await readTold(zone, found.data.told) : null;
  if (!found.success || !told) return;
  const { digest } = await zone.putBlob(JSON.stringify({ ...told, startedAt: Date.now(), seconds: 0 }));
  await zone.writeRecord(recordOf(key), { checkpoint: found.data.checkpoint, told: digest });
}
