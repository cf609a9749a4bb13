import { z } from 'zod';

const amount = z.strictObject({
  gpu_seconds: z.number().positive().optional().describe('seconds of jobs whose runner tags name a GPU'),
  job_seconds: z.number().positive().optional().describe('seconds of all jobs, on whatever runner'),
});

/** The schema of `budgets:`: what CI jobs may cost; without a figure nothing is limited. */
export const budgetsSchema = z.strictObject({
  change: amount.prefault({}).describe('for one change, from its first pipeline to its merge'),
  day: amount.prefault({}).describe('for all changes together in any 24 hours'),
});

/** `budgets:`, normalized. */
export type Budgets = z.output<typeof budgetsSchema>;
