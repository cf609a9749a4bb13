import { z } from 'zod';
import { type Digest, digestJson, isDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { type DatasetConfig, type ModelConfig, modelConfig } from '../core/project.ts';
import { nearest } from '../core/suggest.ts';
import type { Point } from '../train/space.ts';
import type { Ctx } from './types.ts';

const pointSchema = z.record(z.string(), z.union([z.number(), z.string(), z.boolean()]));

/** The parameter that names a model; it may be left out where there is only one. */
export const modelParameter = z.string().default('').describe('Model of cdl.yaml; default: the only one.');

/** The parameter that names a data set; it may be left out where there is only one. */
export const datasetParameter = z
  .string()
  .default('')
  .describe('Data set of cdl.yaml; default: the only one.');

/** The parameter that says which side of the split a step works on. */
export const sideParameter = z
  .enum(['train', 'test'])
  .default('train')
  .describe('Which side of the split; test is for protected jobs.');

/** The parameter that names an environment. */
export const environmentParameter = z
  .string()
  .default('production')
  .describe('Environment of the model in cdl.yaml.');

function only(kind: string, given: string, names: string[]): string {
  if (given) return given;
  if (names.length === 1) return names[0]!;
  throw new UserError('input-missing', `which ${kind}? cdl.yaml has ${names.join(', ')}`, `name one of them`);
}

/** The model a step is about. Throws UserError model-unknown or input-missing. */
export function modelOf(ctx: Ctx, given: string): { model: string; config: ModelConfig } {
  const model = only('model', given, Object.keys(ctx.project.models));
  return { model, config: modelConfig(ctx.project, model) };
}

/** The data set a step is about. Throws UserError config-invalid or input-missing. */
export function datasetNamed(ctx: Ctx, given: string): { dataset: string; config: DatasetConfig } {
  const names = Object.keys(ctx.project.datasets);
  const dataset = only('data set', given, names);
  const config = Object.hasOwn(ctx.project.datasets, dataset) ? ctx.project.datasets[dataset] : undefined;
  if (config) return { dataset, config };
  const guess = nearest(dataset, names);
  throw new UserError(
    'config-invalid',
    `cdl.yaml has no data set "${dataset}"; it has ${names.join(', ')}${guess ? ` — did you mean ${guess}?` : ''}`,
  );
}

/** The digest an earlier step of the pipeline handed on. Throws UserError input-missing, naming the step to run first. */
export async function handedOn(ctx: Ctx, step: string, subject: string, output: string): Promise<Digest> {
  const outputs = await ctx.handover.read(step, subject);
  const digest = outputs?.[output];
  if (isDigest(digest)) return digest;
  throw new UserError(
    'input-missing',
    `there is no ${output} of ${subject}: ${step} has not run in this pipeline`,
    `run cdl ${step} ${subject} first (in CI: add its job to needs:)`,
  );
}

/** What in `cdl.yaml` decides how items are cleaned, as one digest: what `clean` made is of use only while it stays. */
export function cleaningOf(config: Pick<DatasetConfig, 'clean' | 'rules'>): Digest {
  const { min_items, min_per_class, max_imbalance, max_invalid, duplicates, ...items } = config.rules;
  return digestJson({ clean: config.clean ?? [], items });
}

/**
 * The data version that later steps work on: what `clean` made of what `ingest` collected, or that itself where nothing is
 * to be cleaned. Throws UserError input-missing where `clean` has to run first, or again.
 */
export async function versionOf(ctx: Ctx, dataset: string): Promise<Digest> {
  const config = ctx.project.datasets[dataset]!;
  const collected = await handedOn(ctx, 'ingest', dataset, 'dataset');
  const made = await ctx.handover.read('clean', dataset);
  if (made?.from === collected && made.by === cleaningOf(config))
    return handedOn(ctx, 'clean', dataset, 'dataset');
  // Rules alone are judged by validate, too; steps and functions of the project's own are done by clean only.
  if (config.clean === undefined && config.rules.check === undefined) return collected;
  if (!made) return handedOn(ctx, 'clean', dataset, 'dataset');
  throw new UserError(
    'input-missing',
    `what clean made of ${dataset} is of another data version, or by other rules, than what is here now`,
    `run cdl clean ${dataset} again`,
  );
}

/** The data version a model is trained on: given, or what `label` or else `clean` or `ingest` handed on. */
export async function datasetOf(ctx: Ctx, config: ModelConfig, given: string): Promise<Digest> {
  if (!given) {
    const labelled = (await ctx.handover.read('label', config.data))?.dataset;
    return isDigest(labelled) ? labelled : versionOf(ctx, config.data);
  }
  if (isDigest(given)) return given;
  throw new UserError('usage', `--dataset takes a digest, not ${JSON.stringify(given)}`);
}

/** Makes sure that what was handed on is of the side that is asked for. Throws UserError input-missing otherwise. */
export function checkSide(side: string, asked: 'train' | 'test', dataset: string): void {
  if (side === asked) return;
  throw new UserError(
    'input-missing',
    `what was collected last of ${dataset} is its ${side} side, not its ${asked} side`,
    `run cdl ingest ${dataset} --side ${asked} first`,
  );
}

/** A digest parameter. Throws UserError usage when it is none. */
export function digestOf(name: string, value: string): Digest {
  if (isDigest(value)) return value;
  throw new UserError('usage', `--${name} takes a digest (sha256:…), not ${JSON.stringify(value)}`);
}

/** The transform a model is trained on, made of just this data version; null for items that are tensors as they come. */
export async function transformOf(
  ctx: Ctx,
  model: string,
  config: ModelConfig,
  dataset: Digest,
): Promise<Digest | null> {
  if (ctx.project.datasets[config.data]!.item === 'tensor') return null;
  const transform = await handedOn(ctx, 'transform', model, 'transform');
  if ((await handedOn(ctx, 'transform', model, 'dataset')) === dataset) return transform;
  throw new UserError(
    'input-missing',
    `the transform of ${model} was made of another data version than ${dataset}`,
    `run cdl transform ${model} again`,
  );
}

/** The transform that `train` used; null for items that are tensors as they come. */
export async function trainedTransform(ctx: Ctx, model: string, config: ModelConfig): Promise<Digest | null> {
  if (ctx.project.datasets[config.data]!.item === 'tensor') return null;
  return handedOn(ctx, 'train', model, 'transform');
}

/** What a search found: its artifact, and the hyperparameters of the best trial. */
export interface Tuned {
  tuning: Digest;
  point: Point;
}

/**
 * What `tune` of this pipeline found for this data version; null for a model that has no `tune:`, or where the step did not
 * run: then the hyperparameters of cdl.yaml hold.
 */
export async function tunedOf(
  ctx: Ctx,
  model: string,
  config: ModelConfig,
  dataset: Digest,
): Promise<Tuned | null> {
  const outputs = config.tune ? await ctx.handover.read('tune', model) : null;
  if (!outputs) return null;
  const point = pointSchema.safeParse(JSON.parse(outputs.best ?? 'null'));
  if (!isDigest(outputs.tuning) || !point.success || outputs.dataset !== dataset) {
    throw new UserError(
      'input-missing',
      `the search of ${model} was made on another data version than ${dataset}`,
      `run cdl tune ${model} again`,
    );
  }
  return { tuning: outputs.tuning, point: point.data };
}
