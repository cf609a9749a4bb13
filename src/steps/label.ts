import { join } from 'node:path';
import { z } from 'zod';
import { digestSchema } from '../core/artifact.ts';
import { type Digest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { Block, Report } from '../core/report.ts';
import { type Pushed, pushItems } from '../data/label-push.ts';
import { encodeLabelSet, readLabelRef, readLabelSet } from '../data/label-set.ts';
import { openLabelStudio } from '../data/label-studio.ts';
import { projectTitle } from '../data/label-sync.ts';
import { buildLabelled, compareLabels, type Labelled, labelsOfVersion } from '../data/labelled-version.ts';
import { classChart } from '../data/look.ts';
import { readRawItems } from '../data/shards.ts';
import type { Zone } from '../store/types.ts';
import { datasetNamed, datasetParameter, digestOf, versionOf } from './subject.ts';
import type { Ctx, Step } from './types.ts';

const params = z.object({
  dataset: datasetParameter,
  side: z
    .enum(['train', 'test'])
    .default('train')
    .describe('Which side of the split; test never leaves the trusted zone.'),
  labels: z
    .string()
    .default('')
    .describe('Digest of the label set; default: the newest. The same gives the same version again.'),
});

const previousSchema = z.object({ v: z.literal(1), digest: digestSchema });

function labelled(ctx: Ctx, name: string) {
  const { dataset, config } = datasetNamed(ctx, name);
  if (config.labels && (config.item === 'text' || config.item === 'image')) {
    return { dataset, kind: config.item, classes: config.classes, labels: config.labels };
  }
  throw new UserError(
    'config-invalid',
    `datasets.${dataset} has no labels: of texts or images`,
    'say in cdl.yaml how it is labelled (item: text or image, and labels:)',
  );
}

const figure = (value: number | null) => (value === null ? 'not defined' : value.toFixed(3));

function reportOf(
  dataset: string,
  made: Labelled,
  pushed: Pushed | null,
  before: Map<Digest, string> | null,
): Report {
  const change = before ? compareLabels(before, made.labels) : null;
  const { agreement } = made;
  const total = made.labels.size;
  const blocks: Block[] = [
    {
      kind: 'facts',
      facts: [
        ['Items', `${made.count}, ${made.unlabelled} of them without a label`],
        ['Pushed to labelers', pushed ? String(pushed.added) : 'no (CDL_LABEL_STUDIO_URL is not set)'],
        ...(pushed && pushed.renewed > 0
          ? ([['Links to pictures renewed', String(pushed.renewed)]] as [string, string][])
          : []),
        ['Labelers disagree', String(made.conflicts.length)],
        ['Votes for what is no class', String(made.unknownChoices)],
        ...(made.goneVotes > 0
          ? ([['Votes for items that are gone', String(made.goneVotes)]] as [string, string][])
          : []),
        ['Items with two votes or more', String(agreement.items)],
        ['Percent agreement', figure(agreement.percent)],
        ['Cohen’s kappa', agreement.cohen === null ? '–' : figure(agreement.cohen)],
        ['Fleiss’ kappa', figure(agreement.fleiss)],
        ['Krippendorff’s alpha', figure(agreement.alpha)],
        ...(change
          ? ([
              ['Since the version before', `${change.added} new, ${change.removed} gone`],
              ...change.changed.map(([from, to, count]): [string, string] => [
                `${from} → ${to}`,
                String(count),
              ]),
            ] as [string, string][])
          : []),
      ],
    },
    classChart(made.classes, made.perClass),
  ];
  if (made.labelers.length > 0) {
    blocks.push({
      kind: 'table',
      head: ['labeler (number)', 'labels'],
      align: ['left', 'right'],
      rows: made.labelers.map(([who, count]) => [who, String(count)]),
    });
  }
  if (made.conflicts.length > 0) {
    blocks.push({
      kind: 'details',
      summary: `${made.conflicts.length} items that labelers disagree about`,
      blocks: [
        {
          kind: 'table',
          head: ['item', 'votes'],
          align: ['left', 'left'],
          rows: made.conflicts
            .slice(0, 50)
            .map(({ item, choices }) => [
              shortDigest(item),
              choices.map(([choice, count]) => `${count} × ${choice}`).join(', '),
            ]),
        },
      ],
    });
  }
  return {
    key: `label:${dataset}`,
    title: `${dataset}: labelled version ${shortDigest(made.digest)}`,
    verdict: made.refused ? 'fail' : made.conflicts.length > 0 || total === 0 ? 'warn' : 'pass',
    summary: made.refused
      ? `It cannot be approved: ${made.refused}.`
      : `${total} of ${made.count} items have a label.`,
    blocks,
  };
}

async function push(
  ctx: Ctx,
  zone: Zone,
  digest: Digest,
  name: string,
  side: 'train' | 'test',
  folder: string,
) {
  const access = ctx.labelServer();
  if (!access) return null;
  const { kind, classes, labels } = labelled(ctx, name);
  const server = openLabelStudio(access);
  const project = await server.ensureProject(projectTitle(labels, side), kind, classes, labels.multiple);
  const data = join(folder, 'data');
  await zone.saveArtifact(digest, data);
  return pushItems(server, project, readRawItems(data), {
    kind,
    version: digest,
    store: zone,
    now: new Date(),
  });
}

/** Makes the labelled version of a data version from what people said, and gives them what is not labelled yet. */
export const label: Step<typeof params> = {
  name: 'label',
  summary: 'Push items to labelers; make the labelled data version',
  epoch: 3,
  stage: 'data',
  params,
  async inputs(ctx, given) {
    if (ctx.ci && (ctx.ci.change !== null || !ctx.ci.protectedRef)) {
      throw new UserError('not-protected', 'label reads what labelers said, which only protected jobs may');
    }
    const { dataset, labels } = labelled(ctx, given.dataset);
    const trusted = await ctx.zone('trusted');
    const newest = given.labels
      ? digestOf('labels', given.labels)
      : (await readLabelRef(trusted, ctx.project.project, dataset, given.side))?.digest;
    return {
      subject: dataset,
      zone: given.side === 'test' ? 'trusted' : 'work',
      key: {
        side: given.side,
        config: labels,
        dataset: await versionOf(ctx, dataset),
        labels: newest ?? null,
      },
      files: [],
      artifacts: ['dataset'],
      // It also gives items to people, which is looked at each time.
      cache: false,
    };
  },
  async run(ctx, given, folder, inputs) {
    const { dataset, labels: config } = labelled(ctx, given.dataset);
    const zone = await ctx.zone(inputs.zone);
    const trusted = await ctx.zone('trusted');
    const from = inputs.key.dataset as Digest;
    const pushed = await push(ctx, zone, from, given.dataset, given.side, folder);
    let digest = inputs.key.labels as Digest | null;
    digest ??= (
      await trusted.putBlob(
        encodeLabelSet({ v: 1, project: ctx.project.project, dataset, side: given.side, votes: [] }),
      )
    ).digest;
    const set = await readLabelSet(trusted, digest);
    if (set.project !== ctx.project.project || set.dataset !== dataset) {
      throw new UserError('data-invalid', `${digest} is about the data set ${set.dataset} of ${set.project}`);
    }
    const made = await buildLabelled(dataset, { dataset: from, labels: digest, set, config }, zone);
    const key = `labelled/${encodeURIComponent(ctx.project.project)}/${dataset}/${given.side}`;
    const known = previousSchema.safeParse((await trusted.readRecord(key))?.value);
    const before =
      known.success && known.data.digest !== made.digest && (await zone.hasArtifact(known.data.digest))
        ? await labelsOfVersion(zone, known.data.digest, made.classes)
        : null;
    await trusted.writeRecord(key, { v: 1, digest: made.digest });
    return {
      outputs: {
        dataset: made.digest,
        labels: digest,
        items: String(made.count),
        labelled: String(made.labels.size),
      },
      report: reportOf(dataset, made, pushed, before),
    };
  },
};
