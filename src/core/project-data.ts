import { z } from 'zod';
import { declaredRulesSchema, pollSchema, sensitiveSchema } from './project-data-rules.ts';
import { labelsSchema } from './project-labels.ts';
import { sha256Schema } from './project-names.ts';

const readSchema = z.discriminatedUnion('format', [
  z.strictObject({
    format: z.literal('json-rows').describe('one JSON file a class, {"data": [[values…], …]}'),
    files: z.string().describe('path in the archive with {class}, the number of the class'),
  }),
  z.strictObject({
    format: z.literal('idx').describe('IDX files as MNIST has them, plain or gzip'),
    images: z.array(z.string()).min(1),
    labels: z.array(z.string()).min(1),
  }),
  z.strictObject({
    format: z.literal('class-folders').describe('a zip with one folder a class, one file an item'),
    folder: z.string().min(1).describe('path in the archive of the folder that holds them'),
  }),
]);

/** One place the data can be had from. Exactly one of npm, https, file. */
const sourceSchema = z
  .strictObject({
    npm: z.string().optional().describe('package@version of the npm registry'),
    https: z.array(z.url()).optional().describe('one URL a file'),
    file: z.array(z.string()).optional().describe('paths on the runner, one a file'),
    sha256: z
      .union([sha256Schema, z.array(sha256Schema)])
      .describe('of the archive, or of each file in order'),
    read: readSchema,
  })
  .refine((s) => [s.npm, s.https, s.file].filter((x) => x !== undefined).length === 1, {
    message: 'a source has exactly one of npm, https, file',
  });

/** One of `datasets:` in `cdl.yaml`. */
export const datasetSchema = z.strictObject({
  description: z.string().optional(),
  item: z.enum(['tensor', 'text', 'image', 'record', 'file']).default('tensor').describe('what one item is'),
  shape: z.array(z.int().positive()).min(1).max(4).default([1]).describe('of one item, e.g. [28, 28]'),
  classes: z.array(z.string().min(1).max(80)).min(2).max(1000),
  sources: z.array(sourceSchema).min(1).describe('the first that can be reached is used'),
  split: z.strictObject({
    key: z.string().min(1).describe('changing it makes another split'),
    test: z.number().gt(0).lt(1).describe('share of the items that is withheld'),
    validation: z.number().gt(0).lt(1).default(0.1).describe('share of the training items'),
  }),
  rules: declaredRulesSchema.prefault({}).describe('what its items and its amount must be'),
  labels: labelsSchema.optional(),
  poll: pollSchema.optional().describe('what is done when a scheduled pipeline finds something new'),
  sensitive: sensitiveSchema
    .optional()
    .describe('fields that reports and analyses mask; true masks all content'),
});
