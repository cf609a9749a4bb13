import { z } from 'zod';

/** `approvals.data` of `cdl.yaml`: whether the data a candidate was trained on must be approved by itself. */
export const dataApprovalsSchema = z
  .strictObject({
    required: z
      .int()
      .min(0)
      .max(10)
      .default(0)
      .describe(
        'people of the role data who must approve the data version a candidate was trained on, with /approve-data, before the candidate can be approved; 0 = none',
      ),
  })
  .describe('approval of data versions; read from the default branch only');
