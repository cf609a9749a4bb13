import { codeDigest } from '../core/candidate.ts';
import { isDigest } from '../core/digest.ts';
import { UpstreamError, UserError } from '../core/error.ts';
import { noteRun } from '../model/runs.ts';
import { keepNotebook } from './kept-notebook.ts';
import { modelOf, type Tuned } from './subject.ts';
import type { Ctx, Inputs } from './types.ts';

/**
 * Keeps a training that failed by itself (a loss that is not finite, a process that was killed) as a run without metrics, so
 * that it stands beside the others with its hyperparameters and the reason. Other errors are no result of a training. Never
 * throws because of the store: the failure itself is what has to be told.
 */
export async function keepFailedRun(
  ctx: Ctx,
  inputs: Inputs,
  startedAt: number,
  error: unknown,
  folder: string,
): Promise<void> {
  if (!(error instanceof UserError) || error.code !== 'training-failed') return;
  const { model, config } = modelOf(ctx, inputs.subject);
  const { dataset, transform, config: configured } = inputs.key;
  const tuned = (inputs.key.tuned ?? null) as Tuned | null;
  try {
    const zone = await ctx.zone('work');
    const run = await zone.putArtifact({
      kind: 'run',
      name: model,
      files: await keepNotebook(zone, folder),
      parents: [dataset, transform].filter(isDigest),
      meta: {
        model,
        status: 'failed',
        reason: error.message.slice(0, 2000),
        code: codeDigest(inputs.files),
        config: configured as string,
        hyperparameters: { ...config.hyperparameters, ...tuned?.point },
        ...(tuned && { tuning: tuned.tuning }),
        seed: config.seed,
        started_at: new Date(startedAt).toISOString(),
        seconds: (Date.now() - startedAt) / 1000,
        pipeline: ctx.ci?.pipeline ?? null,
        job: ctx.ci?.job ?? null,
        commit: ctx.ci?.sha ?? null,
      },
    });
    await noteRun(zone, ctx.project.project, run);
    ctx.log(`what failed is kept as run ${run.slice(7, 19)}: cdl runs show`);
  } catch (problem) {
    if (!(problem instanceof UpstreamError || problem instanceof UserError)) throw problem;
    ctx.log(`the failed run could not be recorded: ${problem.message}`);
  }
}
