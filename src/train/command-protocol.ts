import { z } from 'zod';
import { isInsidePath } from '../core/path.ts';
import type { Metrics } from './types.ts';

const path = z
  .string()
  .min(1)
  .max(1024)
  .refine(isInsidePath, 'not a path below the output folder')
  .describe('of a folder, relative to output');

const numbers = z.strictObject({
  items: z.string().describe('NumPy file (version 1.0) of [count, …shape], uint8 or float32'),
  labels: z.string().describe('NumPy file of [count], uint8: indices into classes'),
  count: z.int().nonnegative(),
});

/** The document that `CDL_JOB` names: all that a training command is told. Paths are absolute. */
export const commandJobSchema = z.strictObject({
  v: z.literal(1),
  model: z.string(),
  hyperparameters: z
    .record(z.string(), z.union([z.number(), z.string(), z.boolean()]))
    .describe('as in cdl.yaml, or as the search chose them'),
  seed: z.int().nonnegative().describe('decides all that is random'),
  classes: z.array(z.string()).describe('names, in the order of the labels'),
  data: z
    .strictObject({
      shape: z.array(z.int().positive()).describe('of one item'),
      type: z.enum(['uint8', 'float32']),
      train: numbers,
      validation: numbers,
    })
    .describe('items that are no tensors come as the numbers that encode of the model code made of them'),
  pretrained: z
    .string()
    .nullable()
    .default(null)
    .describe('folder of the files that `from:` of the model names, to begin with; null: none'),
  output: z.string().describe('folder for checkpoints and the model; it exists, and is kept over restarts'),
  resume: z.string().nullable().describe('folder of the checkpoint to go on from; null to begin'),
  resources: z.strictObject({ gpu: z.int(), cpu: z.number(), memory: z.string() }),
});

/** See {@link commandJobSchema}. */
export type CommandJob = z.output<typeof commandJobSchema>;

/** JSON knows no NaN; what Python and JavaScript write in its place is taken. */
const notANumber = z
  .union([z.literal('NaN'), z.literal('Infinity'), z.literal('-Infinity'), z.null()])
  .transform((value) => (value === null ? Number.NaN : Number(value)));
const metricsSchema = z
  .record(z.string().min(1).max(100), z.union([z.number(), notANumber]))
  .refine((all) => Object.keys(all).length <= 200, 'at most 200 metrics')
  .describe('numbers by name; loss, accuracy, validation_loss and validation_accuracy are shown as charts');
const position = { epoch: z.int().nonnegative().optional(), step: z.int().nonnegative().optional() };
const speed = z.number().nonnegative().optional();

/** One line of the file that `CDL_EVENTS` names. Other members are passed over. */
export const commandEventSchema = z.discriminatedUnion('kind', [
  z
    .object({ kind: z.literal('step'), ...position, metrics: metricsSchema, samples_per_second: speed })
    .describe('within an epoch; kept with the run, evenly thinned to less than 10 000'),
  z
    .object({
      kind: z.literal('epoch'),
      ...position,
      epoch: z.int().min(1),
      metrics: metricsSchema,
      checkpoint: path.optional(),
      samples_per_second: speed,
    })
    .describe('the end of an epoch; kept with the run'),
  z
    .object({ kind: z.literal('checkpoint'), ...position, path })
    .describe('a complete folder that no longer changes; it may be removed after the next one'),
  z.object({ kind: z.literal('log'), message: z.string().max(10_000) }),
  z
    .object({
      kind: z.literal('done'),
      model: path,
      metrics: metricsSchema.default({}),
      best_epoch: z.int().nonnegative().optional(),
      stopped_early: z.boolean().default(false),
      environment: z
        .record(z.string().min(1).max(100), z.string().max(200))
        .refine((all) => Object.keys(all).length <= 50, 'at most 50 entries')
        .optional()
        .describe('what shaped the result and is no input: versions, device; kept with the run'),
    })
    .describe('the model is complete; the last event'),
]);

/** See {@link commandEventSchema}. */
export type CommandEvent = z.output<typeof commandEventSchema>;

/** Metrics under the names of the built-in trainer. */
export function metricNames(metrics: Metrics): Metrics {
  const known: Record<string, string> = {
    validation_loss: 'validationLoss',
    validation_accuracy: 'validationAccuracy',
  };
  return Object.fromEntries(Object.entries(metrics).map(([name, value]) => [known[name] ?? name, value]));
}

/** JSON Schema of the job, for people who write a trainer. */
export function commandJobJsonSchema(): object {
  return z.toJSONSchema(commandJobSchema, { io: 'input', unrepresentable: 'any' });
}

/** JSON Schema of one line of events. */
export function commandEventJsonSchema(): object {
  return z.toJSONSchema(commandEventSchema, { io: 'input', unrepresentable: 'any' });
}
