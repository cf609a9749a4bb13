import { z } from 'zod';
import { shortDigest } from '../core/digest.ts';
import { datasetMetaSchema } from '../data/dataset.ts';
import { validateDataset } from '../data/validate.ts';
import { datasetNamed, datasetParameter, handedOn } from './subject.ts';
import type { Step } from './types.ts';

const params = z.object({ dataset: datasetParameter });

/** Judges a data version by the rules of `cdl.yaml`: amount, classes, balance, share of invalid items. */
export const validate: Step<typeof params> = {
  name: 'validate',
  summary: 'Check a data version against its rules',
  epoch: 1,
  stage: 'data',
  params,
  async inputs(ctx, given) {
    const { dataset, config } = datasetNamed(ctx, given.dataset);
    return {
      subject: dataset,
      zone: 'work',
      key: { rules: config.rules, dataset: await handedOn(ctx, 'ingest', dataset, 'dataset') },
      files: [],
      artifacts: ['dataset'],
      cache: true,
    };
  },
  async run(ctx, given) {
    const { dataset, config } = datasetNamed(ctx, given.dataset);
    const digest = await handedOn(ctx, 'ingest', dataset, 'dataset');
    const zone = await ctx.zone('work');
    const manifest = await zone.getArtifact(digest);
    const found = validateDataset(datasetMetaSchema.parse(manifest.meta), config.rules);
    return {
      outputs: { dataset: digest, verdict: found.verdict },
      report: {
        key: `validate:${dataset}`,
        title: `${dataset}: checks of data version ${shortDigest(digest)}`,
        verdict: found.verdict,
        summary: found.summary,
        blocks: found.blocks,
      },
    };
  },
};
