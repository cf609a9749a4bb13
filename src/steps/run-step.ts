import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { type Digest, digestJson, isDigest } from '../core/digest.ts';
import type { Report } from '../core/report.ts';
import { noteRepository } from '../data/repositories.ts';
import { exportCode } from '../exec/code.ts';
import { isOwnerGone, ownerName } from '../exec/owner.ts';
import type { Zone } from '../store/types.ts';
import type { Ctx, Inputs, Outcome, Params, Step } from './types.ts';

const recordSchema = z.object({
  v: z.literal(1),
  step: z.string(),
  outputs: z.record(z.string(), z.string()),
  report: z.custom<Report>((value) => typeof value === 'object' && value !== null),
});

/** A step's outcome and whether it was looked up instead of done. */
export interface StepResult extends Outcome {
  cached: boolean;
  subject: string;
  key: Digest;
}

/** Everything a result may depend on: step, epoch, parameters and upstream digests, files with path, mode and bytes. */
export function cacheKey(step: Pick<Step, 'name' | 'epoch'>, inputs: Inputs): Digest {
  return digestJson({
    step: step.name,
    epoch: step.epoch,
    key: inputs.key,
    files: inputs.files.map((file) => [file.path, file.mode, file.digest]),
  });
}

/**
 * Runs a step, or looks its outcome up when the same inputs were seen before. Outcomes are written if-absent: when two
 * jobs run the same thing at once, the second adopts what the first wrote. What it made is handed on to later jobs.
 */
export async function runStep<P extends Params>(
  step: Step<P>,
  ctx: Ctx,
  params: z.output<P>,
): Promise<StepResult> {
  const inputs = await step.inputs(ctx, params);
  const key = cacheKey(step, inputs);
  const record = `cache/${step.name}/${key.slice(7)}.json`;
  const zone = inputs.cache ? await ctx.zone(inputs.zone) : null;
  const [hit] = zone
    ? await Promise.all([
        lookUp(zone, record, inputs),
        zone.name === 'work' && noteRepository(zone, ctx.root),
      ])
    : [null];
  const result = hit ?? (await runNow(step, ctx, params, zone, record, inputs));
  // A share of the work handed on would take the place of the whole where the jobs' files come together.
  if (!result.outcome.partial) {
    await ctx.handover.write(step.name, inputs.subject, result.outcome.outputs);
    await ctx.handover.writeReport(step.name, inputs.subject, result.outcome.report);
  }
  return { ...result.outcome, cached: result.cached, subject: inputs.subject, key };
}

/** Prefix of the folders steps run in; the rest of the name tells whose it is. */
const scratch = 'cdl-step-';

/** Removes the folders of steps that were killed: they hold copies of data sets. */
async function sweep(): Promise<void> {
  // Only what this machine's processes made: another container's may share the folder, and cannot be looked up.
  const ours = `${scratch}${ownerName().split('-')[0]}-`;
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(ours)) continue;
    const path = join(tmpdir(), name);
    const found = await stat(path).catch(() => null);
    if (!found || !isOwnerGone(name.slice(scratch.length), found.mtimeMs)) continue;
    // Another user's is not ours to remove.
    await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}

interface Found {
  outcome: Outcome;
  cached: boolean;
}

async function lookUp(zone: Zone, record: string, inputs: Inputs): Promise<Found | null> {
  const found = await zone.readRecord(record);
  const parsed = found ? recordSchema.safeParse(found.value) : null;
  if (!parsed?.success) return null;
  const { outputs, report } = parsed.data;
  for (const name of inputs.artifacts) {
    const digest = outputs[name];
    if (!isDigest(digest) || !(await zone.hasArtifact(digest))) return null;
  }
  return { outcome: { outputs, report }, cached: true };
}

async function runNow<P extends Params>(
  step: Step<P>,
  ctx: Ctx,
  params: z.output<P>,
  zone: Zone | null,
  record: string,
  inputs: Inputs,
): Promise<Found> {
  await sweep();
  const folder = join(tmpdir(), `${scratch}${ownerName()}`);
  await mkdir(folder, { mode: 0o700 });
  try {
    await exportCode(inputs.files, folder);
    const outcome = await step.run(ctx, params, folder, inputs);
    if (zone && outcome.report.verdict !== 'fail' && !outcome.partial) {
      const stored = await zone.writeRecord(
        record,
        { v: 1, step: step.name, ...outcome },
        { ifAbsent: true },
      );
      if (stored === 'exists') {
        const winner = await lookUp(zone, record, inputs);
        if (winner) return winner;
        // What was recorded lost an object since: this run replaces it.
        await zone.writeRecord(record, { v: 1, step: step.name, ...outcome });
      }
    }
    return { outcome, cached: false };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
