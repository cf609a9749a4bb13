import { z } from 'zod';

/** `models.<model>.transform:` what `fit` of the model code is told; other parts of the model do not make it run again. */
export const transformSchema = z
  .record(
    z.string().regex(/^[a-z][a-z0-9_]{0,60}$/, 'not a name (lower-case letters, digits and _)'),
    z.union([z.number(), z.string(), z.boolean()]),
  )
  .optional()
  .describe('parameters of fit() in the model code; only for data sets whose items are no tensors');

const columnSchema = z.string().min(1).max(200);

/**
 * `models.<model>.encode:` how raw items become numbers where the model code has no `encode` of its own. Exactly one of
 * `pixels` and `numbers`.
 */
export const encodeSchema = z
  .strictObject({
    pixels: z
      .tuple([z.int().min(1).max(4096), z.int().min(1).max(4096), z.union([z.literal(1), z.literal(3)])])
      .optional()
      .describe(
        '[height, width, channels]: decoded, scaled to this size, grey (1) or red, green, blue (3), bytes; for item: image',
      ),
    numbers: z
      .array(columnSchema)
      .min(1)
      .max(100_000)
      .refine((names) => new Set(names).size === names.length, 'a field stands here twice')
      .optional()
      .describe('fields of a record in this order, float32; for item: record'),
  })
  .refine((one) => (one.pixels === undefined) !== (one.numbers === undefined), {
    message: 'encode has exactly one of pixels and numbers',
  })
  .describe('how raw items become numbers, instead of fit and encode in the model code');

/** See {@link encodeSchema}. */
export type EncodeConfig = z.output<typeof encodeSchema>;
