import { z } from 'zod';

/** `datasets.<d>.labels` of `cdl.yaml`: how people label the items of a data set. */
export const labelsSchema = z
  .strictObject({
    project: z
      .string()
      .min(3)
      .max(50)
      .describe('title of the project on the Label Studio server (CDL_LABEL_STUDIO_URL)'),
    multiple: z
      .boolean()
      .default(false)
      .describe('whether a labeler may choose several classes; an item for which several win gets no label'),
    annotations: z.int().min(1).max(20).default(1).describe('votes that an item needs before it has a label'),
    resolve: z
      .enum(['majority', 'unanimous'])
      .default('majority')
      .describe(
        'what decides: more than half of the votes (of lists of choices, for each choice by itself), or all of them',
      ),
    conflicts: z
      .enum(['quarantine', 'unlabelled'])
      .default('quarantine')
      .describe('what becomes of items whose votes decide nothing'),
    min_agreement: z
      .number()
      .min(-1)
      .max(1)
      .optional()
      .describe("least Krippendorff's alpha; below it the labelled version cannot be approved"),
  })
  .describe('how the items get labels from people');

/** One data set's `labels:`. */
export type LabelsConfig = z.output<typeof labelsSchema>;
