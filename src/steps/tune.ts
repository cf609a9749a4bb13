import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { canonicalJson, type Digest, isDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { configDigest } from '../core/project.ts';
import type { TuneConfig } from '../core/project-tune.ts';
import { selectCode } from '../exec/code.ts';
import { isOwnerGone, ownerName } from '../exec/owner.ts';
import type { Point } from '../train/space.ts';
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
import { pretrainedOf, savePretrained } from './pretrained.ts';
import { cacheKey } from './run-step.ts';
import { datasetOf, modelOf, modelParameter, transformOf } from './subject.ts';
import { openTraining } from './training.ts';
import { type Bench, type Trained, trainTrial } from './trial.ts';
import { tuneReport } from './tune-report.ts';
import type { Ctx, Inputs, Outcome, Step } from './types.ts';

const params = z.object({
  model: modelParameter,
  dataset: z.string().default('').describe('Digest of the data version; default: what ingest made.'),
});

/** How often a worker with nothing to do looks again, in milliseconds. */
const lookAgain = 500;
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
  const pretrained = await pretrainedOf(ctx, model, config);
  return {
    subject: model,
    zone: 'work',
    key: {
      model,
      config: configDigest(config),
      dataset,
      ...(transform && { transform }),
      ...(pretrained && { pretrained }),
    },
    files: await selectCode(ctx.root, ctx.ref, config.code),
    artifacts: ['tuning'],
    cache: true,
  };
}

const splitSchema = z.object({ split: z.object({ key: z.string(), validation: z.number() }) });

/** A configuration in the order of cdl.yaml; what was read from the store has another. */
const shown = (tune: TuneConfig, point: Point) =>
  Object.keys(tune.space)
    .map((name) => `${name} ${point[name]}`)
    .join(', ');

/** What a training came to, for the shared record. */
function changeOf(
  trained: Exclude<Trained, { kind: 'lost' }>,
  before: Trial,
  seconds: number,
): Partial<Trial> {
  const shared = { owner: null, since: 0, seconds: before.seconds + seconds };
  if (trained.kind === 'failed') return { ...shared, state: 'failed', why: trained.why, checkpoint: null };
  const stand = { ...shared, curve: trained.curve, checkpoint: trained.checkpoint };
  // Without an owner and not at its rung yet: the next free worker takes it up.
  if (trained.kind === 'released') return stand;
  return { ...stand, state: 'waiting', losses: [...before.losses, trained.loss] };
}

/** Works until the search is over. Several workers, each a job of its own, share one record in the store. */
async function search(bench: Bench): Promise<{ tuning: Tuning; why: string }> {
  const { ctx, zone, key, owner, tune, gpus } = bench;
  const isGone = (trial: Trial) => trial.owner === null || isOwnerGone(trial.owner, trial.since);
  for (;;) {
    if (ctx.signal.aborted)
      throw new UserError('interrupted', 'the search was stopped; run it again to go on');
    const now = Date.now();
    const { tuning, said: work } = await swapTuning<Work>(zone, key, (found) => {
      const next = planWork(found, tune, now, gpus, isGone);
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
    const judged = tuning.trials.filter((one) => one.state !== 'running').length;
    const name = `trial ${trial.id} (${shown(tune, work.point)})`;
    ctx.progress(`${name} up to epoch ${work.epochs}`, judged / mostTrials(tune));
    const trained = await trainTrial(bench, trial, work, now);
    const seconds = (Date.now() - now) / 1000;
    if (trained.kind === 'lost') {
      ctx.log(`${name}: another worker has it by now`);
      continue;
    }
    await swapTuning(zone, key, (found) => ({
      tuning: update(found, trial.id, owner, changeOf(trained, trial, seconds)),
      said: null,
    }));
    if (trained.kind === 'released') continue;
    ctx.log(
      trained.kind === 'failed'
        ? `${name} failed: ${trained.why}`
        : `${name} after epoch ${work.epochs}: ${tune.metric} ${(tune.metric === 'validation_loss' ? trained.loss : 1 - trained.loss).toFixed(4)}`,
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
      pretrained: isDigest(inputs.key.pretrained)
        ? await savePretrained(zone, inputs.key.pretrained, folder)
        : null,
    }),
    hyperparameters: config.hyperparameters,
    folder,
    model,
    gpus: config.resources.train.gpu,
    beat: 15_000,
  };
  const { tuning, why } = await search(bench);
  const best = bestTrial(tuning.trials);
  if (!best) {
    const reasons = [...new Set(tuning.trials.map((trial) => trial.why ?? why))].slice(0, 5);
    throw new UserError(
      'training-failed',
      `no configuration of ${model} could be trained up to its first rung: ${reasons.join('; ')}`,
      tuning.trials.some((trial) => trial.state !== 'failed')
        ? 'give the search more time, or a lower grace, under tune: in cdl.yaml'
        : undefined,
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
  epoch: 2,
  stage: 'train',
  shards: 'Jobs that work on one search (1 to 200); any of them may die.',
  params,
  inputs: tuneInputs,
  run: runSearch,
};
