import { join } from 'node:path';
import { z } from 'zod';
import { type Digest, shortDigest } from '../core/digest.ts';
import { nearThreshold } from '../core/project-split.ts';
import type { Block } from '../core/report.ts';
import { countShared, hasSourcesOfSides } from '../data/across.ts';
import { datasetMetaSchema, openDataset } from '../data/dataset.ts';
import { compareProfiles } from '../data/drift.ts';
import { lookBlocks, profileRaw, profileTensors } from '../data/look.ts';
import { newestMade } from '../data/made.ts';
import { exchangeProfile } from '../data/profile-record.ts';
import { readRawItems } from '../data/shards.ts';
import { validateDataset } from '../data/validate.ts';
import { checkSide, datasetNamed, datasetParameter, sideParameter, versionOf } from './subject.ts';
import type { Step } from './types.ts';

const params = z.object({
  dataset: datasetParameter,
  side: sideParameter,
});

/** Judges a data version by the rules of `cdl.yaml`: amount, classes, balance, share of invalid items. */
export const validate: Step<typeof params> = {
  name: 'validate',
  summary: 'Check a data version against its rules',
  epoch: 6,
  stage: 'data',
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
    await zone.saveArtifact(digest, join(folder, 'data'));
    const withExamples = meta.side === 'train';
    const profile =
      config.item === 'tensor'
        ? await profileTensors(await openDataset(join(folder, 'data')), config.sensitive, withExamples)
        : await profileRaw(
            readRawItems(join(folder, 'data')),
            meta.classes,
            config.rules,
            config.sensitive,
            withExamples,
          );
    const broken = profile.count > 0 && profile.invalid / profile.count > config.rules.max_invalid;
    const before = await exchangeProfile(zone, manifest.name, digest, profile);
    const drift = before ? compareProfiles(before.profile, profile, meta.classes) : null;
    const notes = drift?.notes ?? [];
    const verdict = broken ? 'fail' : found.verdict;
    const reasons = Object.entries(profile.reasons).map(([reason, count]) => [reason, String(count)]);
    const invalid: Block[] =
      reasons.length === 0
        ? []
        : [{ kind: 'table', head: ['rule broken', 'items'], align: ['left', 'right'], rows: reasons }];
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
        blocks: [...found.blocks, ...invalid, ...lookBlocks(profile, meta.classes), ...(drift?.blocks ?? [])],
      },
    };
  },
};
