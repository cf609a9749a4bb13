import { z } from 'zod';

/** What the prediction process is given, as its one argument (JSON). It never gets labels. */
export interface ChildTask {
  /** Folder of the package: `model.json`, `weights.bin`, `code.mjs`, and `state.json` when it takes raw items. */
  package: string;
  /** Path of the items: an IDX file, or raw items packed. */
  items: string;
  /** File for the probabilities: float32, little-endian, `[N, C]` row-major. */
  out: string;
}

/** What the parent asks: one item (by index, to measure latency) or all. */
export type ChildRequest = { kind: 'one'; index: number } | { kind: 'all' };

/** What the process says. It runs foreign code, so every message is checked. */
export const childReplySchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('ready'), backend: z.string().max(40), count: z.int().nonnegative() }),
  z.object({ kind: z.literal('one'), index: z.int(), row: z.array(z.number()).max(1000) }),
  z.object({ kind: z.literal('done') }),
  z.object({ kind: z.literal('error'), code: z.string().max(40), message: z.string() }),
]);

/** See {@link childReplySchema}. */
export type ChildReply = z.infer<typeof childReplySchema>;
