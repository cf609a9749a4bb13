import { z } from 'zod';

const bound = z
  .tuple([z.number(), z.number()])
  .refine(([low, high]) => low < high, 'from a lower to a higher number');
const positive = bound.refine(([low]) => low > 0, 'a logarithmic scale begins above 0');
const whole = bound.refine((both) => both.every(Number.isInteger), 'whole numbers');

/** How one hyperparameter may vary. */
export const dimensionSchema = z.union([
  z.strictObject({ uniform: bound.describe('any number between') }),
  z.strictObject({ log: positive.describe('any number between, on a logarithmic scale') }),
  z.strictObject({
    int: whole.describe('whole numbers, both ends included'),
    log: z.boolean().default(false).describe('on a logarithmic scale'),
  }),
  z.strictObject({
    choice: z
      .array(z.union([z.number(), z.string(), z.boolean()]))
      .min(1)
      .refine((values) => new Set(values).size === values.length, 'each value once'),
  }),
]);

/** See {@link dimensionSchema}. */
export type Dimension = z.output<typeof dimensionSchema>;

/** `models.<model>.tune`: which hyperparameters are searched, how, and at what cost. */
export const tuneSchema = z
  .strictObject({
    space: z
      .record(z.string().regex(/^[a-z][a-z0-9_]{0,60}$/, 'not a name of a hyperparameter'), dimensionSchema)
      .refine((space) => Object.keys(space).length > 0, 'at least one hyperparameter must vary')
      .describe('what may vary; all others stay as they are'),
    metric: z
      .enum(['validation_loss', 'validation_accuracy'])
      .default('validation_loss')
      .describe('what the best trial is best in'),
    scheduler: z
      .enum(['asha', 'none'])
      .default('asha')
      .describe('asha stops what falls behind (Li et al. 2018); none trains every trial to the end'),
    sampler: z
      .enum(['random', 'tpe', 'grid'])
      .default('random')
      .describe('where the next configuration comes from'),
    grid: z.int().min(2).max(100).default(4).describe('values of a continuous dimension in a grid'),
    max_epochs: z.int().min(1).default(27).describe('epochs of a trial that is never stopped'),
    grace: z.int().min(1).default(1).describe('epochs before a trial may be stopped'),
    reduction: z.int().min(2).max(16).default(3).describe('one in so many goes on from each rung'),
    trials: z.int().min(1).max(10_000).default(64).describe('configurations at most'),
    gpu_seconds: z
      .number()
      .positive()
      .optional()
      .describe('stop when the trials together took so much GPU time'),
    seconds: z.number().positive().optional().describe('stop so long after the first trial began'),
    seed: z.int().nonnegative().default(1).describe('decides which configurations are tried'),
  })
  .refine((tune) => tune.grace <= tune.max_epochs, {
    message: 'grace is not above max_epochs',
    path: ['grace'],
  });

/** See {@link tuneSchema}. */
export type TuneConfig = z.output<typeof tuneSchema>;
