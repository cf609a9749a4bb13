import { join } from 'node:path';
import { z } from 'zod';
import { type Digest, shortDigest } from '../core/digest.ts';
import type { DatasetConfig } from '../core/project.ts';
import { nearThreshold } from '../core/project-split.ts';
import { countShared, hasSourcesOfSides } from '../data/across.ts';
import { shardOf } from '../data/clean-shards.ts';
import { type DatasetMeta, datasetMetaSchema, openDataset } from '../data/dataset.ts';
import { compareProfiles } from '../data/drift.ts';
import { brokenRules, lookBlocks, profileRaw, profileTensors } from '../data/look.ts';
import { newestMade } from '../data/made.ts';
import { emptyProfile, mergeProfiles, type Profile } from '../data/profile.ts';
import { exchangeProfile, joinShares, readShare, storeShare } from '../data/profile-record.ts';
import { readRawItems, saveShare } from '../data/shards.ts';
import { validateDataset } from '../data/validate.ts';
import { cacheKey } from './run-step.ts';
import { shareDone } from './share.ts';
import { checkSide, datasetNamed, datasetParameter, sideParameter, versionOf } from './subject.ts';
import type { Ctx, Inputs, Step } from './types.ts';

const params = z.object({
  dataset: datasetParameter,
  side: sideParameter,
});

const what = { name: 'validate', summary: 'Check a data version against its rules', epoch: 7 };

/**
 * What the items are, counted by this job alone or by several: each stores what it counted of its share, and whoever finds all
 * shares has the whole, which is the same however many there are. Null while another one is at work.
 */
async function profileOf(
  ctx: Ctx,
  config: DatasetConfig,
  inputs: Inputs,
  meta: DatasetMeta,
  folder: string,
): Promise<Profile | null> {
  const zone = await ctx.zone(inputs.zone);
  const digest = inputs.key.dataset as Digest;
  const withExamples = meta.side === 'train';
  const { node } = ctx;
  if (config.item === 'tensor') {
    // Counting labels takes less time than fetching them, and nobody can fetch a part.
    if (node.index > 0) return null;
    await zone.saveArtifact(digest, folder);
    return profileTensors(await openDataset(folder), config.sensitive, withExamples);
  }
  const count = async () => {
    const mine = (id: Digest) => shardOf(id, node.total) === node.index;
    const { files } = await zone.getArtifact(digest);
    await saveShare(zone, files, folder, mine);
    const items = readRawItems(folder, mine);
    return profileRaw(items, meta.classes, config.rules, config.sensitive, withExamples);
  };
  if (node.total === 1) return mergeProfiles(emptyProfile(meta.classes.length), await count());
  const key = cacheKey(what, inputs).slice(7);
  if (!(await readShare(zone, key, node))) await storeShare(zone, key, node, await count());
  return joinShares(zone, key, node.total, meta.classes.length);
}

/**
 * Judges a data version by the rules of `cdl.yaml`: amount, classes, balance, share of invalid items. Several jobs may share
 * the work (`parallel:`).
 */
export const validate: Step<typeof params> = {
  ...what,
  stage: 'data',
  shards: 'Jobs that share the work (1 to 200); what they find is the same whatever their number.',
  params,
  async inputs(ctx, given) {
    const { dataset, config } = datasetNamed(ctx, given.dataset);
    return {
      subject: dataset,
      zone: given.side === 'test' ? 'trusted' : 'work',
      key: {
        rules: config.rules,
        sensitive: config.sensitive ?? null,
        side: given.side,
        dataset: await versionOf(ctx, dataset),
        // What the withheld side must have nothing of, where it has sources of its own.
        training:
          given.side === 'test' && hasSourcesOfSides(config.sources)
            ? await newestMade(await ctx.zone('work'), ctx.project.project, `${dataset}-train`)
            : null,
        near: hasSourcesOfSides(config.sources) ? nearThreshold(config.item, config.split) : null,
      },
      files: [],
      artifacts: ['dataset'],
      cache: true,
    };
  },
  async run(ctx, given, folder, inputs) {
    const { dataset, config } = datasetNamed(ctx, given.dataset);
    const digest = inputs.key.dataset as Digest;
    const zone = await ctx.zone(inputs.zone);
    const manifest = await zone.getArtifact(digest);
    const meta = datasetMetaSchema.parse(manifest.meta);
    checkSide(meta.side, given.side, dataset);
    const profile = await profileOf(ctx, config, inputs, meta, join(folder, 'data'));
    if (profile === null)
      return shareDone({ step: 'validate', dataset, node: ctx.node, work: 'checks', done: 'looked through' });
    const training = inputs.key.training as Digest | null;
    const isApart = given.side === 'test' && hasSourcesOfSides(config.sources);
    const across = training
      ? await countShared(
          { zone, digest },
          { zone: await ctx.zone('work'), digest: training },
          nearThreshold(config.item, config.split),
          folder,
        )
      : null;
    const found = validateDataset(meta, config.rules, isApart ? across : undefined);
    const broken = profile.count > 0 && profile.invalid / profile.count > config.rules.max_invalid;
    const before = await exchangeProfile(zone, manifest.name, digest, profile);
    const drift = before ? compareProfiles(before.profile, profile, meta.classes) : null;
    const notes = drift?.notes ?? [];
    const verdict = broken ? 'fail' : found.verdict;
    return {
      outputs: { dataset: digest, verdict },
      report: {
        key: `validate:${dataset}`,
        title: `${dataset}: checks of data version ${shortDigest(digest)}`,
        verdict: verdict === 'pass' && (notes.length > 0 || profile.invalid > 0) ? 'warn' : verdict,
        summary: [
          found.summary,
          ...(profile.invalid > 0
            ? [`${profile.invalid} of ${profile.count} items break a rule for single items.`]
            : []),
          ...notes.map((note) => `Since the version before, ${note}.`),
        ].join(' '),
        blocks: [
          ...found.blocks,
          ...brokenRules(profile),
          ...lookBlocks(profile, meta.classes),
          ...(drift?.blocks ?? []),
        ],
      },
    };
  },
};
