import { mkdir, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { UserError } from '../core/error.ts';
import type { ModelConfig } from '../core/project.ts';
import { sizeBytes, type TrainConfig } from '../core/project-train.ts';
import { openDataset, splitValidation } from '../data/dataset.ts';
import { writeNumbers } from '../data/numbers.ts';
import { packageRoot } from '../exec/root.ts';
import { bundleModel } from '../model/bundle.ts';
import { trainByCommand } from '../train/command.ts';
import type { CommandJob } from '../train/command-protocol.ts';
import { type Launch, launchHere } from '../train/launch.ts';
import { executedNotebook, failedCell, notebookCommand, notebookOf } from '../train/notebook.ts';
import { launchOnRay, rayCluster } from '../train/ray.ts';
import { launchByTorchrun } from '../train/torchrun.ts';
import { followChild } from './child.ts';
import { hyperparametersOf } from './hyperparameters.ts';
import { scratchFolder } from './kept-notebook.ts';
import type { ChildJob, ChildMessage } from './train-job.ts';
import type { Ctx } from './types.ts';

/** What one training is told; everything else is the same for all trainings of a step. */
export interface TrainingRequest {
  /** An existing folder of its own, for what it writes. */
  folder: string;
  /** As in `cdl.yaml`, or as a search chose them. */
  hyperparameters: ModelConfig['hyperparameters'];
  /** Of a trial: it ends after so many epochs, and not by itself before. */
  epochs?: number;
  resume: string | null;
  /** Stops this training; default: what stops the step. */
  signal?: AbortSignal;
}

/** What a training tells the step that started it. */
export type TrainingMessage = Exclude<ChildMessage, { kind: 'error' }>;

/** A model's trainer, whichever it is. */
export interface Training {
  run(request: TrainingRequest): AsyncIterable<TrainingMessage>;
}

/** What all trainings of a step have in common: the exported code, and a saved data set or transform. */
export interface TrainingPlace {
  model: string;
  config: ModelConfig;
  code: string;
  data: string;
  validation: { share: number; key: string };
  /** Folder of the files that training starts from. */
  pretrained: string | null;
}

/** Bytes of events that a training may write. */
const mostEvents = 256 * 2 ** 20;

/** Gets a model's trainer ready: its command, or the built-in one with the bundled code. Throws UserError code-invalid. */
export async function openTraining(ctx: Ctx, place: TrainingPlace): Promise<Training> {
  const { train } = place.config;
  return train ? commandTraining(ctx, place, train) : builtInTraining(ctx, place);
}

async function builtInTraining(ctx: Ctx, place: TrainingPlace): Promise<Training> {
  const { config, data, validation, pretrained } = place;
  const code = join(place.code, '.bundle.mjs');
  await writeFile(code, await bundleModel(place.code, config.entry));
  const program = join(packageRoot(), 'dist', 'steps', 'train-child.js');
  const killed = new UserError(
    'training-failed',
    'the training process was killed',
    'out of memory? lower batch_size, or give the job more memory; run it again to resume',
  );
  return {
    run({ folder, hyperparameters, epochs, resume, signal = ctx.signal }) {
      const job: ChildJob = {
        data,
        code,
        hyperparameters: {
          ...hyperparametersOf(hyperparameters),
          ...(epochs !== undefined && { epochs, earlyStopping: null }),
        },
        seed: config.seed,
        validation,
        pretrained,
        resume,
        output: join(folder, '.output'),
      };
      const at = { folder, environment: ctx.childEnvironment, signal };
      return followChild<ChildMessage>(program, job, at, killed);
    },
  };
}

async function commandTraining(ctx: Ctx, place: TrainingPlace, train: TrainConfig): Promise<Training> {
  const { model, config, validation, pretrained } = place;
  const notebook = notebookOf(train.command);
  if (notebook && !(await stat(join(place.code, notebook)).catch(() => null))?.isFile()) {
    throw new UserError(
      'config-invalid',
      `train.command names the notebook ${notebook}, which is not among the files of code:`,
      `add it to models.${model}.code in cdl.yaml`,
    );
  }
  if (notebook && train.launcher) {
    throw new UserError(
      'config-invalid',
      `train.launcher ${train.launcher} starts a program, not the notebook ${notebook}`,
      'move the training into a script, or leave launcher out',
    );
  }
  const folder = join(place.code, '.numbers');
  await mkdir(folder);
  const dataset = await openDataset(place.data);
  const parts = splitValidation(dataset, validation.share, validation.key);
  const data: CommandJob['data'] = {
    shape: dataset.shape,
    type: dataset.x instanceof Uint8Array ? 'uint8' : 'float32',
    train: await writeNumbers(parts.train, folder, 'train'),
    validation: await writeNumbers(parts.validation, folder, 'validation'),
  };
  const { launch, told } = launcherOf(ctx, place, train);
  return {
    async *run({ folder, hyperparameters, epochs, resume, signal = ctx.signal }) {
      const scratch = join(folder, scratchFolder);
      await mkdir(scratch);
      const job: CommandJob = {
        v: 1,
        model,
        hyperparameters: { ...hyperparameters, ...(epochs !== undefined && { epochs }) },
        seed: config.seed,
        classes: dataset.classes,
        data,
        pretrained,
        output: join(folder, '.output'),
        resume,
        resources: config.resources.train,
      };
      const executed = join(scratch, executedNotebook);
      const messages = trainByCommand(
        {
          launch,
          ...(notebook
            ? {
                command: notebookCommand(train.command, job.hyperparameters, executed),
                explain: () => failedCell(executed, notebook),
              }
            : { command: train.command }),
          folder: place.code,
          scratch,
          environment: ctx.childEnvironment,
          job,
          restarts: train.restarts,
          limits: { grace: train.grace, disk: sizeBytes(train.disk), events: mostEvents },
        },
        signal,
      );
      yield {
        kind: 'start',
        backend: basename(train.command[0]!),
        train: data.train.count,
        validation: data.validation.count,
        versions: told,
      };
      for await (const message of messages) {
        if (message.kind === 'log') {
          ctx.log(message.message);
        } else if (message.kind === 'checkpoint') yield message;
        else if (message.kind === 'done') {
          const { environment, ...event } = message;
          yield { kind: 'environment', environment };
          yield { kind: 'event', event };
        } else yield { kind: 'event', event: message };
      }
    },
  };
}

/** How the command is started, and what a run tells of it. */
function launcherOf(
  ctx: Ctx,
  place: TrainingPlace,
  train: TrainConfig,
): { launch: Launch; told: Record<string, string> } {
  if (train.launcher === 'torchrun') {
    const processes = train.processes ?? place.config.resources.train.gpu;
    return {
      launch: launchByTorchrun(processes),
      told: { launcher: 'torchrun', processes: String(processes) },
    };
  }
  if (train.launcher === 'ray') {
    const cluster = rayCluster(ctx.ray(), train.address);
    return { launch: launchOnRay(cluster, `train ${place.model}`), told: { launcher: 'ray' } };
  }
  return { launch: launchHere, told: {} };
}
