import type { Artifact } from '../core/artifact.ts';
import { codeDigest } from '../core/candidate.ts';
import { type Digest, isDigest } from '../core/digest.ts';
import { UpstreamError, UserError } from '../core/error.ts';
import { cleanCommit } from '../exec/code.ts';
import { gpusHere } from '../exec/gpu.ts';
import { keepSteps } from '../model/run-steps.ts';
import { noteRun } from '../model/runs.ts';
import type { Zone } from '../store/types.ts';
import type { StepSeries } from '../train/step-series.ts';
import type { TrainEvent } from '../train/types.ts';
import { keepNotebook } from './kept-notebook.ts';
import type { Told } from './resume.ts';
import { keepSource } from './source.ts';
import { modelOf, type Tuned } from './subject.ts';
import type { TrainingMessage } from './training.ts';
import type { Ctx, Inputs } from './types.ts';

/** What a training told so far; a run keeps it however the training ends. */
export interface Story {
  /** When this job began, in milliseconds since 1970. */
  startedAt: number;
  /** When the first of the jobs began that it goes on from, and what they took; null where there is none. */
  before: { startedAt: number; seconds: number } | null;
  resumed: boolean;
  start: Extract<TrainingMessage, { kind: 'start' }> | null;
  /** What the program itself said of where it ran. */
  environment: Record<string, string>;
  epochs: Extract<TrainEvent, { kind: 'epoch' }>[];
  steps: StepSeries;
}

/** How it ended. */
export type Ending =
  | { kind: 'done'; checkpoint: Digest; event: Extract<TrainEvent, { kind: 'done' }> }
  | { kind: 'failed'; reason: string };

/** Takes up what the jobs before told. */
export function goOn(story: Story, { startedAt, seconds, epochs, steps }: Told): void {
  story.before = { startedAt, seconds };
  story.epochs = epochs.map((one) => ({ ...one, kind: 'epoch', checkpoint: null, samplesPerSecond: 0 }));
  for (const one of steps) story.steps.add(one);
}

const secondsOf = ({ startedAt, before }: Story) => (before?.seconds ?? 0) + (Date.now() - startedAt) / 1000;

/** What a later job has to know of it, to go on. */
export function toldOf(story: Story): Told {
  return {
    startedAt: story.before?.startedAt ?? story.startedAt,
    seconds: secondsOf(story),
    epochs: story.epochs.map(({ epoch, step, metrics }) => ({ epoch, step, metrics })),
    steps: story.steps.points().map(({ epoch, step, metrics }) => ({ epoch, step, metrics })),
  };
}

/**
 * Keeps a training as a run: what it was made of, the files it saw, where it ran and for whom, what it told, how it ended.
 * `folder` is the step's, where an executed notebook may lie.
 */
export async function keepRun(
  ctx: Ctx,
  zone: Zone,
  inputs: Inputs,
  story: Story,
  ending: Ending,
  folder: string,
): Promise<Digest> {
  const { model, config } = modelOf(ctx, inputs.subject);
  const { dataset, transform, pretrained, config: configured } = inputs.key;
  const tuned = (inputs.key.tuned ?? null) as Tuned | null;
  const { start, epochs } = story;
  const source = await keepSource(zone, ctx, model, inputs.files);
  // A job of a cluster runs on other machines than this.
  const gpus = config.train?.launcher === 'ray' ? null : await gpusHere(ctx.childEnvironment);
  const ended: Artifact['meta'] =
    ending.kind === 'failed'
      ? { status: 'failed', reason: ending.reason.slice(0, 2000) }
      : {
          best_epoch: ending.event.bestEpoch,
          stopped_early: ending.event.stoppedEarly,
          metrics: ending.event.metrics,
        };
  const run = await zone.putArtifact({
    kind: 'run',
    name: model,
    files: [...(await keepNotebook(zone, folder)), ...(await keepSteps(zone, story.steps.points()))],
    parents: [dataset, transform, source, ending.kind === 'done' ? ending.checkpoint : null].filter(isDigest),
    meta: {
      model,
      code: codeDigest(inputs.files),
      config: configured as string,
      hyperparameters: { ...config.hyperparameters, ...tuned?.point },
      ...(tuned && { tuning: tuned.tuning }),
      ...(isDigest(pretrained) && { pretrained }),
      seed: config.seed,
      environment: {
        ...(gpus && { gpu: gpus.names, driver: gpus.driver }),
        ...(start && { backend: start.backend, ...start.versions }),
        ...story.environment,
      },
      ...(start && { items: { train: start.train, validation: start.validation } }),
      epochs: epochs.map(({ epoch, step, metrics }) => ({ epoch, step, metrics })),
      ...ended,
      resumed: story.resumed,
      started_at: new Date(story.before?.startedAt ?? story.startedAt).toISOString(),
      seconds: secondsOf(story),
      gpus: config.resources.train.gpu,
      who: ctx.ci?.user ?? null,
      pipeline: ctx.ci?.pipeline ?? null,
      job: ctx.ci?.job ?? null,
      commit: ctx.ci?.sha ?? (await cleanCommit(ctx.root)),
    },
  });
  await noteRun(zone, ctx.project.project, run);
  return run;
}

/**
 * Keeps a training that failed by itself (a loss that is not finite, a process that was killed) as a run with what it told
 * until then, so that it stands beside the others with its curve and the reason. Other errors are no result of a training.
 * Never throws because of the store: the failure itself is what has to be told. Returns whether it was kept.
 */
export async function keepFailedRun(
  ctx: Ctx,
  zone: Zone,
  inputs: Inputs,
  story: Story,
  error: unknown,
  folder: string,
): Promise<boolean> {
  if (!(error instanceof UserError) || error.code !== 'training-failed') return false;
  try {
    const run = await keepRun(ctx, zone, inputs, story, { kind: 'failed', reason: error.message }, folder);
    ctx.log(`what failed is kept as a run: cdl runs show ${run.slice(7, 15)}`);
    return true;
  } catch (problem) {
    if (!(problem instanceof UpstreamError || problem instanceof UserError)) throw problem;
    ctx.log(`the failed run could not be recorded: ${problem.message}`);
    return false;
  }
}
