import { type Digest, digestJson } from '../core/digest.ts';
import type { Block, Chart } from '../core/report.ts';

/** The key of a chart's picture: the digest of its data, so that an unchanged chart is drawn and uploaded once. */
export function chartKey(chart: Chart): Digest {
  return digestJson(chart);
}

/** Every chart of a report, also those inside details, each once. */
export function chartsOf(blocks: readonly Block[]): Map<Digest, Chart> {
  const found = new Map<Digest, Chart>();
  for (const block of blocks) {
    if (block.kind === 'chart') found.set(chartKey(block.chart), block.chart);
    if (block.kind === 'details') for (const [key, chart] of chartsOf(block.blocks)) found.set(key, chart);
  }
  return found;
}
