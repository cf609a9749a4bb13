import { z } from 'zod';

/** The schema of `retention:` in `cdl.yaml`: what `cdl models prune` leaves alone besides what is in use. */
export const retentionSchema = z.strictObject({
  keep: z.int().min(1).default(20).describe('the newest versions of each model'),
  days: z.number().min(0).default(90).describe('versions registered in the last days'),
});
