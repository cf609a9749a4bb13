import type { Row } from './row.ts';

/** Placeholder until written. */
export async function benchStreaming(_folder: string): Promise<Row[]> {
  return [];
}
