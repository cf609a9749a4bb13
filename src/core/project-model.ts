import { z } from 'zod';
import { gateSchema } from './evaluation.ts';
import { fromSchema } from './project-from.ts';
import { globSchema, nameSchema } from './project-names.ts';
import { trainSchema } from './project-train.ts';
import { encodeSchema, transformSchema } from './project-transform.ts';
import { tuneSchema } from './project-tune.ts';
import { slicesSchema } from './slices.ts';

const scalar = z.union([z.number(), z.string(), z.boolean()]);

const resourcesSchema = z.strictObject({
  gpu: z.int().nonnegative().default(0),
  cpu: z.number().positive().default(1),
  memory: z
    .string()
    .regex(/^\d+(\.\d+)?(Mi|Gi)$/, 'memory like 512Mi or 4Gi')
    .default('1Gi'),
});

const environmentSchema = z.strictObject({
  target: z.enum(['local', 'seldon']).default('local'),
  replicas: z.int().min(1).max(100).default(1),
  traffic: z
    .array(z.int().min(1).max(100))
    .min(1)
    .default([20, 100])
    .refine((steps) => steps.at(-1) === 100 && steps.every((s, i) => i === 0 || s > steps[i - 1]!), {
      message: 'traffic steps rise and end with 100',
    })
    .describe('share of the requests the new version gets, step by step'),
  max_error_rate: z.number().min(0).max(1).default(0.01).describe('canary gate: share of failed requests'),
  namespace: z.string().optional().describe('Kubernetes namespace (target seldon)'),
});

/** One of `models:` in `cdl.yaml`. */
export const modelSchema = z.strictObject({
  data: nameSchema.describe('a dataset of this file'),
  entry: globSchema
    .default('model.ts')
    .describe(
      'module that exports build and preprocess, and encode (and fit) for raw items where encode: does not say how',
    ),
  code: z.array(globSchema).min(1).describe('globs of everything the model needs; a step sees only these'),
  hyperparameters: z
    .record(
      z.string().regex(/^[a-z][a-z0-9_]{0,60}$/, 'not a name (lower-case letters, digits and _)'),
      scalar,
    )
    .default({}),
  from: fromSchema,
  train: trainSchema,
  transform: transformSchema,
  encode: encodeSchema.optional(),
  tune: tuneSchema.optional().describe('search for hyperparameters: space, scheduler and budget'),
  seed: z.int().nonnegative().default(1),
  resources: z
    .strictObject({
      train: resourcesSchema.prefault({}),
      evaluate: resourcesSchema.prefault({}),
      serve: resourcesSchema.prefault({}),
    })
    .prefault({})
    .describe('what the runner and the server must offer'),
  gates: z.array(gateSchema).default([]),
  evaluate: z
    .strictObject({
      slices: slicesSchema
        .prefault({})
        .describe('parts of the withheld set that are judged by themselves, too'),
      // Without a default: it would be in the digest of every configuration.
      task: z
        .literal('regression')
        .optional()
        .describe('classes are numbers: the errors of their expected value are measured, too'),
    })
    .optional()
    .describe('what else is measured on the withheld set'),
  environments: z.record(nameSchema, environmentSchema).default({ production: environmentSchema.parse({}) }),
});
