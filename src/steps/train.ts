import { join } from 'node:path';
import { z } from 'zod';
import { codeDigest } from '../core/candidate.ts';
import { type Digest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { configDigest, type ModelConfig } from '../core/project.ts';
import { fromName } from '../core/project-from.ts';
import type { Block, Report } from '../core/report.ts';
import { selectCode } from '../exec/code.ts';
import { openStepSeries } from '../train/step-series.ts';
import type { TrainEvent } from '../train/types.ts';
import { goOn, keepFailedRun, keepRun, type Story, toldOf } from './kept-run.ts';
import { pretrainedOf, savePretrained } from './pretrained.ts';
import { countResume, keepResume, openResume } from './resume.ts';
import { cacheKey } from './run-step.ts';
import { storeFolder } from './store-folder.ts';
import { datasetOf, modelOf, modelParameter, type Tuned, transformOf, tunedOf } from './subject.ts';
import { openTraining, type TrainingMessage } from './training.ts';
import type { Ctx, Inputs, Outcome, Step } from './types.ts';

const params = z.object({
  model: modelParameter,
  dataset: z.string().default('').describe('Digest of the data version; default: what ingest made.'),
});

/** Epochs that a run keeps at most. */
const mostEpochs = 100_000;

/** What of a data set's or a transform's meta says how validation items are set apart. */
const splitSchema = z.object({ split: z.object({ key: z.string(), validation: z.number() }) });

type EpochEvent = Extract<TrainEvent, { kind: 'epoch' }>;
type DoneEvent = Extract<TrainEvent, { kind: 'done' }>;
type StartMessage = Extract<TrainingMessage, { kind: 'start' }>;

async function trainInputs(ctx: Ctx, given: z.output<typeof params>): Promise<Inputs> {
  const { model, config } = modelOf(ctx, given.model);
  const dataset = await datasetOf(ctx, config, given.dataset);
  const transform = await transformOf(ctx, model, config, dataset);
  const tuned = await tunedOf(ctx, model, config, dataset);
  const pretrained = await pretrainedOf(ctx, model, config);
  return {
    subject: model,
    zone: 'work',
    key: {
      model,
      config: configDigest(config),
      dataset,
      ...(transform && { transform }),
      ...(tuned && { tuned }),
      ...(pretrained && { pretrained }),
    },
    files: await selectCode(ctx.root, ctx.ref, config.code),
    artifacts: ['run', 'checkpoint'],
    cache: true,
  };
}

async function runTraining(
  ctx: Ctx,
  given: z.output<typeof params>,
  folder: string,
  inputs: Inputs,
): Promise<Outcome> {
  const { model, config } = modelOf(ctx, given.model);
  const dataset = inputs.key.dataset as Digest;
  const transform = (inputs.key.transform ?? null) as Digest | null;
  const made = transform ? [dataset, transform] : [dataset];
  const pretrained = (inputs.key.pretrained ?? null) as Digest | null;
  const zone = await ctx.zone('work');
  const key = cacheKey(train, inputs).slice(7);
  const data = join(folder, '.data');
  // Not from cdl.yaml: what is not in the key must not shape the result.
  const { split } = splitSchema.parse((await zone.saveArtifact(transform ?? dataset, data)).meta);
  const resume = await openResume(zone, key, join(folder, '.resume'));
  if (resume) ctx.log('an earlier run of the same training was interrupted; going on from its checkpoint');
  const tuned = (inputs.key.tuned ?? null) as Tuned | null;
  const chosen = { ...config.hyperparameters, ...tuned?.point };

  const story: Story = {
    startedAt: Date.now(),
    before: null,
    resumed: resume !== null,
    start: null,
    environment: {},
    epochs: [],
    steps: openStepSeries(),
  };
  if (resume?.told) goOn(story, resume.told);
  const keep = (checkpoint: string) => keepResume(zone, key, model, checkpoint, toldOf(story));
  let done: DoneEvent | null = null;
  let rate = 0;
  const training = await openTraining(ctx, {
    model,
    config,
    code: folder,
    data,
    validation: { share: split.validation, key: split.key },
    pretrained: pretrained && (await savePretrained(zone, pretrained, folder)),
  });
  try {
    for await (const message of training.run({
      folder,
      hyperparameters: chosen,
      resume: resume?.folder ?? null,
    })) {
      if (message.kind === 'start') {
        story.start = message;
        ctx.log(
          `training ${model} on ${message.train} items with ${message.backend}, ${message.validation} for validation`,
        );
        continue;
      }
      if (message.kind === 'environment') {
        story.environment = message.environment;
        continue;
      }
      if (message.kind === 'checkpoint') {
        await keep(message.checkpoint);
        continue;
      }
      const { event } = message;
      if (event.kind === 'step') {
        rate = event.samplesPerSecond || rate;
        story.steps.add(event);
        ctx.progress(...progressOf(event, chosen, story.start?.train ?? 1));
      } else if (event.kind === 'epoch') {
        const { epochs } = story;
        // A command that was started again repeats what came after its checkpoint.
        while ((epochs.at(-1)?.epoch ?? 0) >= event.epoch) epochs.pop();
        if (epochs.length < mostEpochs) epochs.push(event);
        const shown = Object.entries(event.metrics).map(([name, value]) => `${name} ${value.toFixed(4)}`);
        ctx.log(`epoch ${event.epoch}: ${shown.join(', ')}${speedOf(event.samplesPerSecond)}`);
        if (event.checkpoint) await keep(event.checkpoint);
      } else if (event.kind === 'stopped') {
        await keep(event.checkpoint);
        throw new UserError('interrupted', `training of ${model} was stopped after epoch ${event.epoch}`);
      } else done = event;
    }
    if (!story.start || !done) {
      throw new UserError('training-failed', 'the training process ended without a result');
    }
  } catch (error) {
    if (await keepFailedRun(ctx, zone, inputs, story, error, folder)) await countResume(zone, key);
    throw error;
  }

  const { start, epochs } = story;
  const codeId = codeDigest(inputs.files);
  const checkpoint = await storeFolder(zone, done.model, {
    kind: 'checkpoint',
    name: model,
    parents: pretrained ? [...made, pretrained] : made,
    meta: {
      model,
      code: codeId,
      config: configDigest(config),
      seed: config.seed,
      framework: config.train ? 'command' : 'tfjs',
    },
  });
  const run = await keepRun(ctx, zone, inputs, story, { kind: 'done', checkpoint, event: done }, folder);
  return {
    outputs: {
      run,
      checkpoint,
      code: codeId,
      config: configDigest(config),
      dataset,
      ...(transform && { transform }),
      ...(tuned && { tuning: tuned.tuning, tuned: JSON.stringify(tuned.point) }),
    },
    report: trainReport(
      model,
      { ...config, hyperparameters: chosen },
      start,
      epochs,
      done,
      Math.round(rate),
      checkpoint,
      pretrained,
    ),
  };
}

const speedOf = (rate: number) => (rate > 0 ? ` (${Math.round(rate)} items/s)` : '');

/** What is shown of a step, and how far the training is. */
function progressOf(
  event: Extract<TrainEvent, { kind: 'step' }>,
  chosen: ModelConfig['hyperparameters'],
  items: number,
): [string, number] {
  const { epochs = 5, batch_size: batch = 64 } = chosen;
  const share = (event.step * Number(batch)) / (Number(epochs) * items);
  const loss = event.metrics.loss === undefined ? '' : `, loss ${event.metrics.loss.toFixed(4)}`;
  const at = event.epoch > 0 ? `epoch ${event.epoch} of ${epochs}` : `step ${event.step}`;
  return [`${at}${loss}`, Number.isFinite(share) ? Math.min(0.999, share) : 0];
}

const capital = (word: string) => word[0]!.toUpperCase() + word.slice(1);

function trainReport(
  model: string,
  config: ModelConfig,
  start: StartMessage,
  epochs: EpochEvent[],
  done: DoneEvent,
  rate: number,
  checkpoint: Digest,
  pretrained: Digest | null,
): Report {
  const series = (metric: string, name: string) => ({
    name,
    points: epochs.flatMap((event): [number, number][] => {
      const value = event.metrics[metric];
      return value === undefined ? [] : [[event.epoch, value]];
    }),
  });
  // A program may tell one of them, or none.
  const curves = (['loss', 'accuracy'] as const)
    .map((y): Extract<Block, { kind: 'chart' }> => {
      const both = [series(y, 'training'), series(`validation${capital(y)}`, 'validation')];
      const told = both.filter(({ points }) => points.length > 0);
      return {
        kind: 'chart',
        chart: { kind: 'lines', title: `${capital(y)} by epoch`, x: 'epoch', y, series: told },
      };
    })
    .filter(({ chart }) => chart.kind === 'lines' && chart.series.length > 0)
    .slice(0, 1);
  const best = Object.entries(done.metrics).map(([name, value]) => `${name} ${value.toFixed(4)}`);
  const kept =
    done.bestEpoch === null
      ? `Trained${epochs.length > 0 ? ` for ${epochs.length} epochs` : ''}`
      : `Epoch ${done.bestEpoch} of ${epochs.length} was best`;
  const isUnpinned =
    config.from !== undefined && config.from.sha256 === undefined && config.from.version === undefined;
  return {
    key: `train:${model}`,
    title: `${model}: training`,
    verdict: isUnpinned ? 'warn' : 'pass',
    summary: `${kept}${done.stoppedEarly ? ' (stopped early)' : ''}${best.length > 0 ? `: ${best.join(', ')}` : ''}.${isUnpinned ? ` cdl.yaml does not pin what it starts from: what was seen first is recorded. Write its sha256 under models.${model}.from.` : ''}`,
    blocks: [
      {
        kind: 'facts',
        facts: [
          ['items', `${start.train} for training, ${start.validation} for validation`],
          [
            'hyperparameters',
            Object.entries(config.hyperparameters)
              .map(([k, v]) => `${k} ${v}`)
              .join(', '),
          ],
          ['seed', String(config.seed)],
          ['backend', `${start.backend}${rate > 0 ? `, ${rate} items/s` : ''}`],
          ...(config.from && pretrained
            ? ([['starts from', `${fromName(config.from)}, ${shortDigest(pretrained)}`]] as [
                string,
                string,
              ][])
            : []),
          ['checkpoint', shortDigest(checkpoint)],
        ],
      },
      ...curves,
    ],
  };
}

/** Trains a model in a process of its own; the same inputs give the same checkpoint, also when killed and run again. */
export const train: Step<typeof params> = {
  name: 'train',
  summary: 'Train a model; keep metrics and checkpoint as a run',
  epoch: 1,
  stage: 'train',
  params,
  inputs: trainInputs,
  run: runTraining,
};
