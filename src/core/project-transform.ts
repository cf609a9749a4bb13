import { z } from 'zod';

/** `models.<model>.transform:` what `fit` of the model code is told; other parts of the model do not make it run again. */
export const transformSchema = z
  .record(
    z.string().regex(/^[a-z][a-z0-9_]{0,60}$/, 'not a name (lower-case letters, digits and _)'),
    z.union([z.number(), z.string(), z.boolean()]),
  )
  .optional()
  .describe('parameters of fit() in the model code; only for data sets whose items are no tensors');
