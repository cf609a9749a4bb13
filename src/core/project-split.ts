import { z } from 'zod';

/** `datasets.<d>.split`: which items are withheld for the test. */
export const splitSchema = z.strictObject({
  key: z.string().min(1).describe('changing it makes another split'),
  test: z.number().gt(0).lt(1).describe('share of the items that is withheld'),
  validation: z.number().gt(0).lt(1).default(0.1).describe('share of the training items'),
  stratify: z
    .boolean()
    .optional()
    .describe(
      'every class must be on both sides, with half to twice its share withheld; else another key is proposed',
    ),
  group_by: z
    .string()
    .min(1)
    .max(200)
    .optional()
    .describe('attribute whose equal values stay on one side; default the column named by read.group'),
  group_near: z
    .union([z.number().min(0.5).max(0.95), z.literal('off')])
    .optional()
    .describe(
      'texts that share more than this part of the shorter one stay on one side; default 0.5 for texts',
    ),
  after: z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/, 'not a digest (sha256: and 64 hexadecimal digits)')
    .optional()
    .describe(
      'sides.txt of the data version before, as cdl ingest tells it: its items keep their sides, what is grouped with them follows, what would join both sides is set aside',
    ),
});

/** See {@link splitSchema}. */
export type SplitConfig = z.output<typeof splitSchema>;

/** From which shared part on two items count as alike; null when that is not looked at. */
export function nearThreshold(item: string, split: SplitConfig): number | null {
  if (split.group_near === 'off') return null;
  return split.group_near ?? (item === 'text' ? 0.5 : null);
}

/** What is wrong with a split of this kind of items. */
export function splitProblem(item: string, split: SplitConfig): string | null {
  if (item === 'tensor' && split.group_by !== undefined) return 'group_by: tensors have no attributes';
  if (item === 'tensor' && split.after !== undefined) return 'after: tensors are split one by one';
  const near = split.group_near;
  if (typeof near === 'number' && item !== 'text' && item !== 'record') {
    return `group_near compares texts and records, not item: ${item}`;
  }
  return null;
}
