import { z } from 'zod';
import { decodeUtf8 } from './mask.ts';
import type { RawItem } from './raw-item.ts';

/** What a custom function gets of an item: one JSON line. `text` where the bytes are UTF-8, `base64` otherwise. */
export interface ItemLine {
  id: string;
  extension: string;
  /** Name of the class; null while nobody has labelled it. */
  label: string | null;
  attributes: Record<string, string>;
  text?: string;
  base64?: string;
}

/**
 * What it answers: the same id and, when checking, `reasons` (none = valid); when cleaning, what changed of the item.
 * `reject` sets the item aside.
 */
export const answerSchema = z.strictObject({
  id: z.string(),
  reasons: z.array(z.string().min(1).max(500)).max(100).optional(),
  reject: z.string().min(1).max(500).optional(),
  text: z.string().optional(),
  base64: z.base64().optional(),
  extension: z
    .string()
    .regex(/^[a-z0-9]{1,16}$/)
    .optional(),
  attributes: z.record(z.string(), z.string()).optional(),
});

/** See {@link answerSchema}. */
export type Answer = z.output<typeof answerSchema>;

/** The line of an item. */
export function itemLine(item: RawItem, classes: readonly string[]): ItemLine {
  const text = decodeUtf8(item.bytes);
  return {
    id: item.id,
    extension: item.extension,
    label: item.label === null ? null : (classes[item.label] ?? null),
    attributes: { ...item.attributes },
    // A byte order mark would be lost in the text: such an item travels as bytes.
    ...(text !== null && Buffer.byteLength(text) === item.bytes.length
      ? { text }
      : { base64: Buffer.from(item.bytes).toString('base64') }),
  };
}
