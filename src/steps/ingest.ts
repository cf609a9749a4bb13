import { z } from 'zod';
import { shortDigest } from '../core/digest.ts';
import { ingestDataset } from '../data/ingest.ts';
import { datasetNamed, datasetParameter } from './subject.ts';
import type { Step } from './types.ts';

const params = z.object({
  dataset: datasetParameter,
  side: z
    .enum(['train', 'test'])
    .default('train')
    .describe('Which side of the split; test is for protected jobs.'),
});

/** Collects one side of a data set. The withheld side goes to the trusted zone and never leaves it. */
export const ingest: Step<typeof params> = {
  name: 'ingest',
  summary: 'Collect data from its pinned sources, split it by content and store it as a version',
  epoch: 1,
  stage: 'data',
  params,
  async inputs(ctx, given) {
    const { dataset, config } = datasetNamed(ctx, given.dataset);
    const { rules: _rules, description: _description, ...content } = config;
    return {
      subject: dataset,
      zone: given.side === 'test' ? 'trusted' : 'work',
      key: { side: given.side, content },
      files: [],
      artifacts: ['dataset'],
      cache: true,
    };
  },
  async run(ctx, given) {
    const { dataset, config } = datasetNamed(ctx, given.dataset);
    const zone = await ctx.zone(given.side === 'test' ? 'trusted' : 'work');
    const result = await ingestDataset({
      name: dataset,
      config,
      side: given.side,
      zone,
      cacheFolder: ctx.cacheFolder,
      npmRegistry: ctx.npmRegistry,
      signal: ctx.signal,
      onProgress: ctx.progress,
    });
    return {
      outputs: { dataset: result.digest, items: String(result.count) },
      report: {
        key: `ingest:${dataset}`,
        title: `${dataset}: data version ${shortDigest(result.digest)}`,
        verdict: 'pass',
        summary: `${result.count} items of the ${given.side} side from ${result.source}.`,
        blocks: [
          {
            kind: 'facts',
            facts: [
              ['source', result.source],
              ...Object.entries(result.quarantined).map(([reason, count]): [string, string] => [
                `quarantined: ${reason}`,
                String(count),
              ]),
            ],
          },
        ],
      },
    };
  },
};
