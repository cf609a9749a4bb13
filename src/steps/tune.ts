import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { canonicalJson, type Digest, isDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { configDigest } from '../core/project.ts';
import type { TuneConfig } from '../core/project-tune.ts';
import { selectCode } from '../exec/code.ts';
import { isOwnerGone, ownerName } from '../exec/owner.ts';
import type { Zone } from '../store/types.ts';
import {
  begin,
  bestTrial,
  mostTrials,
  planWork,
  swapTuning,
  type Trial,
  type Tuning,
  update,
  type Work,
} from '../train/tuning.ts';
import type { TrainEvent } from '../train/types.ts';
import { cacheKey } from './run-step.ts';
import { storeFolder } from './store-folder.ts';
import { datasetOf, modelOf, modelParameter, transformOf } from './subject.ts';
import { openTraining, type Training } from './training.ts';
import { tuneReport } from './tune-report.ts';
import type { Ctx, Inputs, Outcome, Step } from './types.ts';

const params = z.object({
  model: modelParameter,
  dataset: z.string().default('').describe('Digest of the data version; default: what ingest made.'),
});

/** How often a worker with nothing to do looks again, in milliseconds. */
const lookAgain = 500;
/** How often a worker says that it lives, in milliseconds; others give it up after a minute. */
const beat = 15_000;

/** What all trials of this worker have in common. */
interface Bench {
  ctx: Ctx;
  zone: Zone;
  key: string;
  owner: string;
  tune: TuneConfig;
  training: Training;
  hyperparameters: Record<string, number | string | boolean>;
  folder: string;
  model: string;
}

/** What becomes of one training of a trial. */
type Trained =
  | { kind: 'done'; loss: number; curve: [number, number][]; checkpoint: Digest | null }
  | { kind: 'failed'; why: string };

function tuneOf(ctx: Ctx, given: string) {
  const { model, config } = modelOf(ctx, given);
  if (config.tune) return { model, config, tune: config.tune };
  throw new UserError(
    'config-invalid',
    `models.${model} has no tune: in cdl.yaml, so there is nothing to search`,
    'say what may vary: tune: { space: { learning_rate: { log: [0.0001, 0.1] } } }',
  );
}

async function tuneInputs(ctx: Ctx, given: z.output<typeof params>): Promise<Inputs> {
  const { model, config } = tuneOf(ctx, given.model);
  const dataset = await datasetOf(ctx, config, given.dataset);
  const transform = await transformOf(ctx, model, config, dataset);
  return {
    subject: model,
    zone: 'work',
    key: { model, config: configDigest(config), dataset, ...(transform && { transform }) },
    files: await selectCode(ctx.root, ctx.ref, config.code),
    artifacts: ['tuning'],
    cache: true,
  };
}

const splitSchema = z.object({ split: z.object({ key: z.string(), validation: z.number() }) });

/** Trains one trial from where it stands up to its rung. */
async function trainTrial(bench: Bench, trial: Trial, work: Work & { kind: 'train' }): Promise<Trained> {
  const { zone, key, owner, tune } = bench;
  const folder = join(bench.folder, `trial-${trial.id}-${work.rung}`);
  const resume = trial.checkpoint ? join(folder, 'resume') : null;
  await mkdir(folder, { recursive: true });
  if (resume && trial.checkpoint) {
    await mkdir(resume);
    await zone.saveArtifact(trial.checkpoint, resume);
  }
  const chosen = { ...bench.hyperparameters, ...trial.point };
  const keep = (from: string) =>
    storeFolder(zone, from, { kind: 'checkpoint', name: `${bench.model} (trial)`, parents: [], meta: {} });
  const curve = [...trial.curve];
  let last: Extract<TrainEvent, { kind: 'epoch' }> | null = null;
  let told = Date.now();
  // A trial is stopped by the search, not by itself.
  const request = { folder, hyperparameters: chosen, epochs: work.epochs, resume };
  for await (const message of bench.training.run(request)) {
    if (message.kind !== 'event') continue;
    const { event } = message;
    if (event.kind === 'stopped') {
      const checkpoint = await keep(event.checkpoint);
      await swapTuning(zone, key, (now) => ({
        tuning: update(now, trial.id, owner, { checkpoint, curve, since: 0 }),
        said: null,
      }));
      throw new UserError('interrupted', 'the search was stopped; run it again to go on');
    }
    if (event.kind === 'epoch') {
      last = event;
      curve.push([event.metrics.validationLoss!, event.metrics.validationAccuracy!]);
    }
    if (Date.now() - told < beat) continue;
    told = Date.now();
    const checkpoint = last?.checkpoint ? await keep(last.checkpoint) : trial.checkpoint;
    await swapTuning(zone, key, (now) => ({
      tuning: update(now, trial.id, owner, { checkpoint, since: told, ...(last && { curve: [...curve] }) }),
      said: null,
    }));
  }
  const [loss, accuracy] = curve.at(-1) ?? [Number.NaN, Number.NaN];
  const judged = tune.metric === 'validation_loss' ? loss : 1 - accuracy;
  if (!Number.isFinite(judged)) return { kind: 'failed', why: `the validation loss is ${loss}` };
  const goesOn = work.epochs < tune.max_epochs && last?.checkpoint;
  return { kind: 'done', loss: judged, curve, checkpoint: goesOn ? await keep(goesOn) : null };
}

/** Faults of one configuration; anything else is a fault of the search. */
function faultOf(error: unknown): string | null {
  if (!(error instanceof UserError)) return null;
  return ['training-failed', 'code-invalid', 'config-invalid'].includes(error.code) ? error.message : null;
}

/** Works until the search is over. Several workers, each a job of its own, share one record in the store. */
async function search(bench: Bench, gpus: number): Promise<{ tuning: Tuning; why: string }> {
  const { ctx, zone, key, owner, tune } = bench;
  for (;;) {
    if (ctx.signal.aborted)
      throw new UserError('interrupted', 'the search was stopped; run it again to go on');
    const now = Date.now();
    const { tuning, said: work } = await swapTuning<Work>(zone, key, (found) => {
      const next = planWork(found, tune, now, gpus, (trial) => isOwnerGone(trial.owner ?? '', trial.since));
      return next.kind === 'train'
        ? { tuning: begin(found, next, owner, now), said: next }
        : { tuning: null, said: next };
    });
    if (work.kind === 'end') return { tuning, why: work.why };
    if (work.kind === 'wait') {
      await delay(lookAgain, undefined, { signal: ctx.signal }).catch(() => undefined);
      continue;
    }
    const trial = tuning.trials[work.trial]!;
    const shown = Object.entries(work.point)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ');
    ctx.progress(`trial ${trial.id} up to epoch ${work.epochs}: ${shown}`, trial.id / mostTrials(tune));
    const started = Date.now();
    const trained = await trainTrial(bench, trial, work).catch((error: unknown): Trained => {
      const why = faultOf(error);
      if (why === null) throw error;
      return { kind: 'failed', why };
    });
    const seconds = (Date.now() - started) / 1000;
    await swapTuning(zone, key, (found) => {
      const before = found.trials[trial.id]!;
      const shared = { owner: null, since: 0, seconds: before.seconds + seconds };
      return {
        said: null,
        tuning: update(
          found,
          trial.id,
          owner,
          trained.kind === 'failed'
            ? { ...shared, state: 'failed', why: trained.why }
            : {
                ...shared,
                state: 'waiting',
                losses: [...before.losses, trained.loss],
                curve: trained.curve,
                checkpoint: trained.checkpoint,
              },
        ),
      };
    });
    ctx.log(
      trained.kind === 'failed'
        ? `trial ${trial.id} failed: ${trained.why}`
        : `trial ${trial.id} (${shown}) after epoch ${work.epochs}: ${tune.metric} ${(tune.metric === 'validation_loss' ? trained.loss : 1 - trained.loss).toFixed(4)}`,
    );
  }
}

async function runSearch(
  ctx: Ctx,
  given: z.output<typeof params>,
  folder: string,
  inputs: Inputs,
): Promise<Outcome> {
  const { model, config, tune } = tuneOf(ctx, given.model);
  const dataset = inputs.key.dataset as Digest;
  const transform = isDigest(inputs.key.transform) ? inputs.key.transform : null;
  const zone = await ctx.zone('work');
  const data = join(folder, '.data');
  const { split } = splitSchema.parse((await zone.saveArtifact(transform ?? dataset, data)).meta);
  const bench: Bench = {
    ctx,
    zone,
    key: `tuning/${cacheKey(tuneStep, inputs).slice(7)}.json`,
    owner: ownerName(),
    tune,
    training: await openTraining(ctx, {
      model,
      config,
      code: folder,
      data,
      validation: { share: split.validation, key: split.key },
    }),
    hyperparameters: config.hyperparameters,
    folder,
    model,
  };
  const { tuning, why } = await search(bench, config.resources.train.gpu);
  const best = bestTrial(tuning.trials);
  if (!best) {
    const reasons = [...new Set(tuning.trials.map((trial) => trial.why ?? 'it did not end'))].slice(0, 5);
    throw new UserError(
      'training-failed',
      `no configuration of ${model} could be trained: ${reasons.join('; ')}`,
    );
  }
  // Who worked on it, and when, is not part of what was found.
  const trials = tuning.trials.map(
    ({ owner: _owner, since: _since, checkpoint: _checkpoint, ...trial }) => trial,
  );
  const file = { path: 'trials.json', ...(await zone.putBlob(`${canonicalJson(trials)}\n`)) };
  const artifact = await zone.putArtifact({
    kind: 'run',
    name: `${model} (search)`,
    files: [file],
    parents: transform ? [dataset, transform] : [dataset],
    meta: {
      kind: 'tuning',
      model,
      config: configDigest(config),
      best: best.point,
      loss: best.losses.at(-1)!,
      trials: trials.length,
      epochs: trials.reduce((sum, trial) => sum + trial.curve.length, 0),
      why,
    },
  });
  return {
    outputs: {
      tuning: artifact,
      best: JSON.stringify(best.point),
      dataset,
      trials: String(trials.length),
    },
    report: tuneReport(model, tune, tuning.trials, best, why),
  };
}

/** Searches for hyperparameters; any number of jobs work on one search, and any of them may die. */
export const tuneStep: Step<typeof params> = {
  name: 'tune',
  summary: 'Search for hyperparameters; stop early what falls behind',
  epoch: 1,
  stage: 'train',
  params,
  inputs: tuneInputs,
  run: runSearch,
};
