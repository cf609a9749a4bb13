import { z } from 'zod';

/** The schema of `triggers:`: what a push to a branch without a change starts. */
export const triggersSchema = z.array(
  z.strictObject({
    branches: z
      .array(z.string().min(1).max(200))
      .min(1)
      .describe('patterns of branch names, as exp/* or **; never the default branch'),
    task: z.literal('train').describe('what runs: ingest, validate, train, package and register'),
  }),
);

/** One of `triggers:`. */
export type Trigger = z.output<typeof triggersSchema>[number];
